"""Finding out how a source is laid out, and one schema out of all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from common.data import layouts
from common.data.layouts import download, find_layout, open_source
from common.data.recipes import DATASETS, find_data_set
from common.data.schema import INTERACTIONS, ITEMS, RELATIONS
from common.errors import UserError
from tests.fixtures import amazon, movielens, recbole, rechorus, tables

WRITERS: dict[str, Callable[[Path], object]] = {
    "movielens": movielens.write_100k,
    "amazon": amazon.write_2014,
    "rechorus": rechorus.write,
    "recbole": recbole.write,
    "tables": tables.write,
}


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_is_found_and_yields_the_same_schema(tmp_path: Path, layout: str) -> None:
    WRITERS[layout](tmp_path)
    assert find_layout(tmp_path) == layout
    source = open_source(find_data_set("mine", own=True), tmp_path, tmp_path / "root")
    assert source.interactions.schema == INTERACTIONS
    assert source.relations.schema == RELATIONS
    assert source.items.columns[: len(ITEMS)] == list(ITEMS)
    assert source.split is None or layout == "rechorus"


def test_a_well_known_copy_has_the_time_that_the_catalogue_says(tmp_path: Path) -> None:
    recbole.write(tmp_path)
    times = {key: open_source(DATASETS[key], tmp_path, tmp_path).time for key in ("amazon-beauty", "amazon-games")}
    assert times == {"amazon-beauty": "imputed", "amazon-games": "ordinal"}
    assert open_source(DATASETS["amazon-toys"], tmp_path, tmp_path).time == "real"


def test_a_missing_or_strange_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a folder"):
        find_layout(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"holds notes\.txt: no known layout"):
        find_layout(tmp_path)


def test_what_has_no_address_wants_a_source(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)no public address.*--source"):
        download(find_data_set("mine", own=True), tmp_path)


def test_downloads_are_asked_for_where_the_publisher_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []

    def note(url: str, target: Path, lock: Path, md5: str | None = None, size: int | None = None) -> Path:
        asked.append((url.rsplit("/", 1)[1], str(target.relative_to(tmp_path)), md5, size))
        return target

    monkeypatch.setattr(layouts, "fetch", note)
    monkeypatch.setattr(layouts, "extract", lambda _, folder: folder)
    assert download(DATASETS["amazon-office"], tmp_path) == tmp_path / "downloads" / "amazon-office"
    assert download(DATASETS["ml-100k"], tmp_path) == tmp_path / "downloads" / "ml-100k" / "ml-100k"
    names = ["reviews_Office_Products_5.json.gz", "meta_Office_Products.json.gz"]
    assert asked == [
        *((name, f"downloads/amazon-office/{name}", None, None) for name in names),
        ("ml-100k.zip", "downloads/ml-100k.zip", "0e33842e24a9c977be4e0107933c0723", 4_924_029),
    ]
