import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.delimited import Delimited, is_utf8, malformed
from common.errors import DataError

CELLS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
ROWS = st.lists(st.tuples(CELLS, CELLS, st.integers(-(2**62), 2**62)), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("delimited") / "table.txt"


@given(ROWS)
def test_quoted_text_reads_as_the_csv_module_wrote_it(path: Path, rows: list[tuple[str, str, int]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("a", "b", "n"), *rows])
    layout = Delimited({"n": "integer", "b": "optional text", "a": "text"}, separator=",", quoted=True)
    assert layout.read(path).select("a", "b", "n").rows() == rows


@given(ROWS)
@pytest.mark.parametrize("separator", ["\t", "::"])
def test_unquoted_text_reads_as_split_does(path: Path, separator: str, rows: list[tuple[str, str, int]]) -> None:
    clean = [(a.replace(":", ""), b.replace(":", ""), n) for a, b, n in rows]
    clean = [row for row in clean if row[0]] or [("a", "b", 1)]
    path.write_text("".join(separator.join(map(str, row)) + "\n" for row in clean), "utf-8")
    table = Delimited({"a": "text", "b": "optional text", "n": "integer"}, separator, header=False).read(path)
    assert table.rows() == [
        (a, b, int(n)) for a, b, n in (line.split(separator) for line in path.read_text("utf-8").split("\n")[:-1])
    ]


def test_latin_1_is_decoded(path: Path) -> None:
    path.write_text("1|Café\n", "latin-1")
    assert not is_utf8(path)
    layout = Delimited({"item": "text", "title": "text"}, "|", header=False, encoding="latin-1")
    assert layout.read(path).rows() == [("1", "Café")]


def test_byte_order_mark_is_no_part_of_the_first_name(path: Path) -> None:
    path.write_text("\ufeffa,n\nx,1\n", "utf-8")
    layout = Delimited({"a": "text", "n": "integer"}, separator=",")
    assert layout.read(path).rows() == [("x", 1)]
    path.write_text("\ufeffa,n\nx,one\n", "utf-8")
    with pytest.raises(DataError, match="line 2, column 'n': expected a whole number, found 'one'"):
        layout.read(path)


def test_first_of_several_faults_is_named(path: Path) -> None:
    path.write_text("a\tn\nx\t1\n\ny\t2.5\nz\n")
    with pytest.raises(DataError, match=r"line 4, column 'n': expected a whole number, found '2\.5'"):
        Delimited({"a": "text", "n": "integer"}).read(path)


def test_long_findings_are_cut(path: Path) -> None:
    with pytest.raises(DataError) as caught:
        malformed(path, "little", "x" * 10_000, line=3, column="a")
    assert len(caught.value.what) < 250 + len(str(path))
