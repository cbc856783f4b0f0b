"""A real Ray cluster of two nodes on loopback carries out a suite and survives the loss of a worker."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.launch.journal import Journal
from tests.benchmarks.launch.processes import begun, children, suite_file, wait_for_event

pytest.importorskip("ray", reason="ray is not installed")

BOTH_THERE = """
import ray, sys, time
ray.init(address=sys.argv[1], logging_level="ERROR")
while sum(node["Alive"] for node in ray.nodes()) < 2:
    time.sleep(0.1)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def node(*arguments: str) -> subprocess.Popen[bytes]:
    """A node that ends with its process, started as a user would start it."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", *arguments]
    command += ["--object-store-memory=80000000", "--disable-usage-stats"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    silent = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=silent, stderr=silent, env=environment, start_new_session=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    with pytest.MonkeyPatch.context() as patch:
        # Nodes ask for a token where the machine happens to have one, and clients do not show it by themselves.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield from two_nodes()


def two_nodes() -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Two nodes on loopback, until they are no longer needed."""
    address = f"127.0.0.1:{free_port()}"
    head = node(
        "--head", f"--port={address.partition(':')[2]}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"
    )
    until = time.monotonic() + 120
    while socket.socket().connect_ex(("127.0.0.1", int(address.partition(":")[2]))):
        assert time.monotonic() < until
        time.sleep(0.2)
    nodes = [head, node(f"--address={address}", "--node-ip-address=127.0.0.1")]
    subprocess.run([sys.executable, "-c", BOTH_THERE, address], check=True, timeout=120, capture_output=True)
    yield address, nodes
    families = [[*children(process.pid), process.pid] for process in nodes]
    for process in nodes:
        process.terminate()
    until = time.monotonic() + 5
    for process, family in zip(nodes, families, strict=True):
        try:
            process.wait(timeout=max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            for pid in family:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


def test_a_suite_runs_on_two_nodes_and_a_killed_worker_is_replaced(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], root: Path, tmp_path: Path
) -> None:
    address, nodes = cluster
    suite = suite_file(tmp_path, methods=["bpr_mf"])
    suite.write_text(suite.read_text().replace("max_epochs: 3", "max_epochs: 60"))
    runs = tmp_path / "runs"
    more = ["--root", str(root), "--runs", str(runs)]
    process = begun("suite", str(suite), *more, "--launcher", "ray", "--address", address)
    folder = runs / "suites" / "toy"
    wait_for_event(folder, "started", seconds=240)
    used, victim, until = set(), 0, time.monotonic() + 300
    while process.poll() is None and time.monotonic() < until:
        workers = {number: _workers(head.pid) for number, head in enumerate(nodes)}
        used |= {number for number, pids in workers.items() if pids}
        if not victim and used == {0, 1} and list((runs / "synthetic").rglob("last.ckpt")):
            victim = next((pid for pids in workers.values() for pid in pids), 0)
            if victim:
                os.kill(victim, signal.SIGKILL)
        time.sleep(0.05)
    assert process.wait(timeout=1) == 0
    events = Journal(folder).read()
    assert [event["event"] for event in events].count("done") == 2
    # Without --jobs there is one run a machine.
    assert [event["event"] for event in events][:2] == ["started", "started"]
    assert used == {0, 1}
    assert victim
    assert [event["code"] for event in events if event["event"] == "retry"] == [-9]


def _workers(node: int) -> list[int]:
    """Processes of a node that carry out a run now."""
    return [pid for pid in children(node) if _is_running_a_task(pid)]


def _is_running_a_task(pid: int) -> bool:
    try:
        return b"synthetic/bpr_mf" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_an_unreachable_address_is_a_clear_message(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"127.0.0.1:{free_port()}"
    arguments = ["suite", str(suite_file(tmp_path)), "--root", str(root), "--runs", str(tmp_path / "runs")]
    assert main([*arguments, "--launcher", "ray", "--address", address]) == 2
    error = capsys.readouterr().err
    assert f"There is no Ray cluster at {address}" in error
    assert "ray start --head" in error


def test_an_address_where_something_else_listens_is_a_clear_message(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.launch.cluster.ANSWER_SECONDS", 4.0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        arguments = ["suite", str(suite_file(tmp_path)), "--root", str(root), "--runs", str(tmp_path / "runs")]
        assert main([*arguments, "--launcher", "ray", "--address", address]) == 2
    assert f"There is no Ray cluster at {address}: what listens there is not Ray" in capsys.readouterr().err
