"""A page in a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from tests.benchmarks.made_results import made_run

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--disable-sync", "--no-first-run"]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two data sets: one with ranked rows, floors, slices and marks, and one with single runs."""
    runs = tmp_path_factory.mktemp("made")
    late = {"undertrained": True, "monitor": "val/ndcg@10", "epochs": 2, "stopped": "max_epochs", "best": 0.2}
    late["best_epoch"] = 1
    code = {"code": {"sha": "0123456789abcdef", "dirty": False}, "versions": {"torch": "2.13"}}
    for seed in range(5):
        common: dict[str, Any] = {"peak_memory": {"host": 2**30}, "environment": code}
        made_run(runs, "strong", 0.40 + seed / 500, seed, seconds={"train": 60.0, "test": 1.0}, **common)
        common |= {"training": late, "information_set": ["order", "text"]}
        made_run(runs, "weak", 0.20 + seed / 500, seed, seconds={"train": 30.0, "test": 1.0}, **common)
    made_run(runs, "popularity", 0.1, information_set=[], closed_form=True)
    made_run(runs, "lonely <b>row</b>", 0.3, dataset="zoë", cases=96, data={"leakage": 0.973})
    made_run(runs, "2024", 0.2, dataset="zoë", cases=96)
    folder = tmp_path_factory.mktemp("site")
    assert main(["leaderboard", str(runs), "--html", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, or a skip that says why."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine: `apt-get install chromium`")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def opened(browser: Any, site: Path) -> Iterator[tuple[Any, list[str]]]:  # noqa: ANN401
    """The page at desk width, loaded once, and what went wrong in it: errors, and requests to anywhere but the file."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(15_000)
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else faults.append(request.url)
    )
    page.goto((site / "index.html").as_uri(), timeout=60_000)
    yield page, faults
    context.close()


@pytest.fixture
def page(opened: tuple[Any, list[str]]) -> Iterator[Any]:
    """The page as a reader finds it; any fault in it fails the test."""
    content, faults = opened
    content.set_viewport_size({"width": 1280, "height": 900})
    content.evaluate("document.getElementById('card').close(); setTheme('light'); show(data.tables[0])")
    yield content
    assert faults == []
