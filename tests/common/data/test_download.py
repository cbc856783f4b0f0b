import errno
import hashlib
import io
import json
import os
import random
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from common.data import download
from common.data.download import Retrying, extract, fetch
from common.errors import DataError, UserError
from tests.fixtures.server import Behaviour, serve, unused_address

# Starts as a zip archive does; large enough for halves of it to pass through every buffer.
BODY = b"PK\x03\x04" + random.Random(0).randbytes(1 << 20)
MD5 = hashlib.md5(BODY).hexdigest()
QUICK = Retrying(retries=2, backoff=0.001, connect=5.0, stall=5.0)
IMPATIENT = replace(QUICK, stall=0.4)


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def get(url: str, folder: Path, md5: str | None = MD5, size: int | None = None) -> Path:
    return fetch(url, folder / "sub" / "file.zip", lock=folder / "lock.json", md5=md5, size=size, retrying=QUICK)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_whole_file_arrives_under_its_name_alone(tmp_path: Path) -> None:
    with serve(Behaviour(BODY)) as url:
        path = get(url, tmp_path, size=len(BODY))
    assert path.read_bytes() == BODY
    assert left(tmp_path) == ["file.zip"]


def test_verified_file_is_not_fetched_again(tmp_path: Path) -> None:
    behaviour = Behaviour(BODY)
    with serve(behaviour) as url:
        get(url, tmp_path)
        get(url, tmp_path)
    assert len(behaviour.requests) == 1


def test_file_put_there_by_hand_is_verified(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "file.zip"
    target.parent.mkdir()
    target.write_bytes(BODY)
    assert get(unused_address(), tmp_path) == target
    target.write_bytes(BODY[:-1])
    with pytest.raises(DataError, match="expected a file of MD5") as caught:
        get(unused_address(), tmp_path)
    assert f"Delete {target}" in caught.value.cure


@pytest.mark.parametrize("fault", [Behaviour(BODY, cuts=2), Behaviour(BODY, busy=2)])
def test_passing_faults_are_outlasted(tmp_path: Path, fault: Behaviour) -> None:
    with serve(fault) as url:
        assert get(url, tmp_path).read_bytes() == BODY
    assert left(tmp_path) == ["file.zip"]


def test_stall_is_cut_short_and_resumed(tmp_path: Path) -> None:
    behaviour = Behaviour(BODY, cuts=1, stalls=1)
    with serve(behaviour) as url:
        path = fetch(url, tmp_path / "file.zip", lock=tmp_path / "lock.json", md5=MD5, retrying=IMPATIENT)
    assert path.read_bytes() == BODY
    assert len(behaviour.requests) >= 3


def test_archive_that_claims_an_encoding_stays_packed(tmp_path: Path) -> None:
    with serve(Behaviour(BODY, encoding="gzip")) as url:
        assert get(url, tmp_path).read_bytes() == BODY


def test_cut_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    behaviour = Behaviour(BODY, cuts=1)
    with serve(behaviour) as url:
        assert get(url, tmp_path).read_bytes() == BODY
    first, second = behaviour.requests
    assert "range" not in first
    assert int(second["range"].removeprefix("bytes=").rstrip("-")) > 0
    assert second["if-range"] == '"one"'


def test_progress_renews_patience_and_its_lack_ends_it(tmp_path: Path) -> None:
    with serve(Behaviour(BODY, cuts=4)) as url:
        assert get(url, tmp_path / "progress").read_bytes() == BODY
    with serve(Behaviour(BODY, cuts=9, ranges=False)) as url, pytest.raises(UserError, match="Cannot fetch") as caught:
        get(url, tmp_path / "none")
    assert f"save it as {tmp_path / 'none' / 'sub' / 'file.zip'}" in caught.value.cure
    assert "file.zip" not in left(tmp_path / "none")


def test_later_call_resumes_what_an_earlier_one_left(tmp_path: Path) -> None:
    behaviour = Behaviour(BODY, cuts=1)
    with serve(behaviour) as url:
        with pytest.raises(UserError):
            fetch(url, tmp_path / "file.zip", lock=tmp_path / "lock", md5=MD5, retrying=replace(QUICK, retries=0))
        assert "file.zip" not in left(tmp_path)
        assert fetch(url, tmp_path / "file.zip", lock=tmp_path / "lock", md5=MD5, retrying=QUICK).read_bytes() == BODY
    assert "range" in behaviour.requests[1]


def test_server_that_ignores_ranges_starts_over(tmp_path: Path) -> None:
    behaviour = Behaviour(BODY, cuts=1, ranges=False)
    with serve(behaviour) as url:
        assert get(url, tmp_path).read_bytes() == BODY
    assert "range" in behaviour.requests[1]


def test_server_that_sends_another_range_is_asked_afresh(tmp_path: Path) -> None:
    with serve(Behaviour(BODY, cuts=1, wrong_range=True)) as url:
        assert get(url, tmp_path).read_bytes() == BODY


def test_versions_of_a_file_never_meet(tmp_path: Path) -> None:
    part = tmp_path / "sub" / "file.zip.part"
    part.parent.mkdir()
    part.write_bytes(b"PK of an older file")
    part.with_name("file.zip.part.version").write_text('"zero"')
    with serve(Behaviour(BODY)) as url:
        assert get(url, tmp_path, md5=None).read_bytes() == BODY


def test_unversioned_part_is_resumed_only_under_a_checksum(tmp_path: Path) -> None:
    for md5, resumed in ((MD5, True), (None, False)):
        folder = tmp_path / str(resumed)
        behaviour = Behaviour(BODY, cuts=1, etag="")
        with serve(behaviour) as url:
            assert get(url, folder, md5=md5).read_bytes() == BODY
        assert ("range" in behaviour.requests[1]) is resumed


@pytest.mark.parametrize("surplus", [b"", b"more"])
def test_part_at_least_as_long_as_the_file_is_settled(tmp_path: Path, surplus: bytes) -> None:
    part = tmp_path / "sub" / "file.zip.part"
    part.parent.mkdir()
    part.write_bytes(BODY + surplus)
    with serve(Behaviour(BODY)) as url:
        assert get(url, tmp_path).read_bytes() == BODY


def test_wrong_bytes_are_refused_and_removed(tmp_path: Path) -> None:
    with serve(Behaviour(BODY[:-1] + b"!")) as url, pytest.raises(DataError, match=f"MD5 {MD5}, found"):
        get(url, tmp_path)
    assert left(tmp_path) == []


def test_wrong_size_is_refused_and_removed(tmp_path: Path) -> None:
    with serve(Behaviour(BODY)) as url, pytest.raises(DataError, match="expected 7 bytes, found 1,048,580"):
        get(url, tmp_path, size=7)
    assert left(tmp_path) == []


def test_first_file_without_checksum_is_recorded_and_binds_later_ones(tmp_path: Path) -> None:
    behaviour = Behaviour(BODY)
    with serve(behaviour) as url:
        path = get(url, tmp_path, md5=None)
        entry = json.loads((tmp_path / "lock.json").read_text())[url]
        assert entry == {"sha256": hashlib.sha256(BODY).hexdigest(), "size": len(BODY)}
        path.unlink()
        behaviour.body = BODY + b"new"
        with pytest.raises(DataError, match=r"SHA-256 .* recorded in .*lock\.json, found") as caught:
            get(url, tmp_path, md5=None)
    assert "delete its entry" in caught.value.cure
    assert left(tmp_path) == ["lock.json"]


def test_page_in_the_place_of_an_archive_is_never_recorded(tmp_path: Path) -> None:
    with serve(Behaviour(b"<html>Please log in</html>")) as url, pytest.raises(DataError, match="expected an archive"):
        get(url, tmp_path, md5=None)
    assert left(tmp_path) == []


@pytest.mark.parametrize("status", [403, 404, 410])
def test_refusals_are_not_retried_and_say_what_to_put_where(tmp_path: Path, status: int) -> None:
    behaviour = Behaviour(BODY, status=status)
    with serve(behaviour) as url, pytest.raises(UserError, match=f"answers {status}") as caught:
        get(url, tmp_path)
    assert len(behaviour.requests) == 1
    assert caught.value.cure == f"Fetch {url} by other means and save it as {tmp_path / 'sub' / 'file.zip'}."


def test_offline_says_what_to_put_where(tmp_path: Path) -> None:
    url = unused_address()
    with pytest.raises(UserError, match="Cannot fetch") as caught:
        get(url, tmp_path)
    assert url in caught.value.cure
    assert str(tmp_path / "sub" / "file.zip") in caught.value.cure


def test_busy_server_ends_in_its_answer(tmp_path: Path) -> None:
    with serve(Behaviour(BODY, busy=99)) as url, pytest.raises(UserError, match="answers 503"):
        get(url, tmp_path)


@pytest.mark.parametrize(("number", "cure"), [(errno.ENOSPC, "Free some space"), (errno.EACCES, "may write to")])
def test_disk_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, cure: str) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(Path, "replace", refuse)
    with serve(Behaviour(BODY)) as url, pytest.raises(UserError, match=r"Cannot save .*: refused") as caught:
        get(url, tmp_path)
    assert cure in caught.value.cure


def test_damaged_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_text("{")
    with serve(Behaviour(BODY)) as url, pytest.raises(DataError, match=r"lock\.json: expected JSON"):
        get(url, tmp_path, md5=None)


def archive(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in members:
            packed.writestr(name, content)
    return path


def test_archive_unpacks_whole_and_once(tmp_path: Path) -> None:
    packed = archive(tmp_path / "a.zip", ("ml/u.data", b"1"), ("ml/deep/u.item", b"2"))
    folder = extract(packed, tmp_path / "out")
    assert (folder / "ml" / "deep" / "u.item").read_bytes() == b"2"
    packed.unlink()
    assert extract(packed, folder) == folder
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_an_archive_that_was_fetched_again_is_unpacked_again(tmp_path: Path) -> None:
    folder = extract(archive(tmp_path / "a.zip", ("ml/u.data", b"old"), ("ml/gone", b"")), tmp_path / "out")
    os.utime(folder, ns=(0, 0))
    extract(archive(tmp_path / "a.zip", ("ml/u.data", b"new")), folder)
    assert (folder / "ml" / "u.data").read_bytes() == b"new"
    assert not (folder / "ml" / "gone").exists()


@pytest.mark.parametrize("name", ["../out2/evil", "/tmp/evil", "ml/../../evil"])
def test_archive_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    packed = archive(tmp_path / "a.zip", ("good", b"1"), (name, b"2"))
    with pytest.raises(DataError, match="expected files inside"):
        extract(packed, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_archive_cannot_hold_links(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with pytest.raises(DataError, match="found 'link'"):
        extract(archive(tmp_path / "a.zip", (link, b"/etc/passwd")), tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"PK nothing", BODY])
def test_damaged_archive_is_named(tmp_path: Path, content: bytes) -> None:
    packed = tmp_path / "a.zip"
    packed.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip: expected a whole zip archive"):
        extract(packed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_archive_with_a_wrong_checksum_inside_leaves_nothing(tmp_path: Path) -> None:
    packed = archive(tmp_path / "a.zip", ("one", b"content"), ("two", b"content two"))
    damaged = io.BytesIO(packed.read_bytes().replace(b"content two", b"content too", 1))
    packed.write_bytes(damaged.getvalue())
    with pytest.raises(DataError, match="found damage"):
        extract(packed, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_two_processes_fetch_and_unpack_one_file_once(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("ratings.csv", random.Random(0).randbytes(1 << 22))
    behaviour = Behaviour(content.getvalue())

    def prepare(url: str) -> Path:
        return extract(get(url, tmp_path, md5=None), tmp_path / "sub" / "raw")

    with serve(behaviour) as url, ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(prepare, [url] * 4))
    assert len(behaviour.requests) == 1
    assert {path.name for path in folders[0].iterdir()} == {"ratings.csv"}
    assert left(tmp_path) == ["file.zip", "lock.json", "ratings.csv"]


def test_downloads_into_several_folders_are_all_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=5)
    hashed = download._digest

    def digest(path: Path, algorithm: str) -> str:
        found = hashed(path, algorithm)
        # Whatever was read before this is now old.
        both.wait()
        return found

    monkeypatch.setattr(download, "_digest", digest)
    lock = tmp_path / "lock.json"

    def office(url: str) -> Path:
        return fetch(url, tmp_path / "office" / "file.zip", lock=lock, retrying=QUICK)

    def beauty(url: str) -> Path:
        return fetch(url, tmp_path / "beauty" / "file.zip", lock=lock, retrying=QUICK)

    with serve(Behaviour(BODY)) as one, serve(Behaviour(BODY)) as other, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(office, one), pool.submit(beauty, other)]
        assert all(task.result().is_file() for task in waiting)
        assert json.loads(lock.read_text()).keys() == {one, other}
