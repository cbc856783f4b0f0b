"""The ledger's page says what the ledger says, and sifts it by verdict."""

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.html.ledger import write_ledger
from benchmarks.leaderboard.sources import own_runs
from benchmarks.ledger.command import entries_of
from benchmarks.ledger.reported import REPORTED, paper_names, read_paper
from tests.benchmarks.made_results import made_run


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger of one run that faces a printed figure."""
    made_run(tmp_path / "runs", "rcf <b>", 0.4, dataset="amazon-office", protocol="sampled-99")
    made_run(tmp_path / "runs", "rcf_lrd", 0.4, dataset="amazon-office", protocol="sampled-99")
    return write_ledger(own_runs([tmp_path / "runs"]), tmp_path / "data", tmp_path / "site")


def test_every_entry_is_a_row(ledger: Path, tmp_path: Path) -> None:
    papers = [read_paper(REPORTED / f"{name}.yaml") for name in paper_names()]
    entries = entries_of(papers, own_runs([tmp_path / "runs"]), tmp_path / "data")
    verdicts = [entry.verdict for own in entries.values() for entry in own]
    assert re.findall(r'<tr data-verdict="([a-z, ]+)">', ledger.read_text()) == verdicts
    assert set(verdicts) != {"missing"}


def test_the_page_stands_alone(ledger: Path) -> None:
    text = ledger.read_text()
    assert "{{" not in text
    assert not re.search(r'(src|href)="(?!https://|data:|index\.html|#)', text)


def test_a_reader_sifts_by_verdict(ledger: Path, browser: Any) -> None:  # noqa: ANN401
    page = browser.new_page()
    page.set_default_timeout(15_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(ledger.as_uri())
    assert page.locator("tr[data-verdict=missing]:visible").count() == 0
    shown = page.locator("tr[data-verdict]:visible").count()
    page.locator("button[data-verdict=missing]").click()
    assert page.locator("tr[data-verdict=missing]:visible").count() > shown > 0
    assert page.locator("section:visible").count() == page.locator("section").count()
    assert faults == []
    page.close()


def test_the_leaderboard_links_to_it(site: Path) -> None:
    assert 'href="ledger.html"' in (site / "index.html").read_text()
    assert (site / "ledger.html").is_file()
