import csv
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.delimited import Delimited, Kind, is_utf8, malformed
from common.errors import DataError

CELLS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
QUOTED = {mark: Delimited({"a": "text", "b": "optional text"}, mark, quoted=True) for mark in (",", "\t")}
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


@pytest.mark.parametrize("header", [True, False])
def test_a_row_too_short_for_a_column_that_may_be_empty_is_named(path: Path, header: bool) -> None:
    path.write_text("a\tb\nx\t\n\nz\n")
    with pytest.raises(DataError, match="line 4: expected 2 columns separated by tabs, found 1: 'z'"):
        Delimited({"a": "text", "b": "optional text"}, header=header).read(path)


def test_first_of_several_faults_is_named(path: Path) -> None:
    path.write_text("a\tn\nx\t1\n\ny\t2.5\nz\n")
    with pytest.raises(DataError, match=r"line 4, column 'n': expected a whole number, found '2\.5'"):
        Delimited({"a": "text", "n": "integer"}).read(path)


@pytest.mark.parametrize("kind", ["integer", "number"])
@pytest.mark.parametrize("value", ["1 ", "1_000"])
def test_numbers_that_only_python_would_read_are_named(path: Path, kind: Kind, value: str) -> None:
    path.write_text(f"a\tn\nx\t1\ny\t{value}\n")
    with pytest.raises(DataError, match=f"line 3, column 'n': expected .* number, found '{value}'"):
        Delimited({"a": "text", "n": kind}).read(path)


def test_long_findings_are_cut(path: Path) -> None:
    with pytest.raises(DataError) as caught:
        malformed(path, "little", "x" * 10_000, line=3, column="a")
    assert len(caught.value.what) < 250 + len(str(path))


@pytest.mark.parametrize("separator", QUOTED)
@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (["x|y", 'x|5" nails', "x|y"], 3),
        (['x|5" nails', 'x|6" bolts', "x|y"], 2),
        (["x|y", 'x|"The" nails', "x|y"], 3),
        (['x|"in|""two"""', 'x|"nails', "x|y"], 3),
        (["x|y", 'x|"nails', "x|y"], 3),
        (["x|y", 'x"|"y', 'x|"y"', "x|y"], 3),
        (["x|y", 'x|"nails', "x|y", 'x|"bolts"'], 3),
    ],
)
def test_the_first_line_whose_quotes_do_not_balance_is_named(
    path: Path, separator: str, rows: list[str], line: int
) -> None:
    path.write_text("\n".join(["a|b", *rows, ""]).replace("|", separator))
    with pytest.raises(DataError, match=f"line {line}: expected quotes that balance, found '"):
        QUOTED[separator].read(path)


@pytest.mark.parametrize("columns", [("a", "b"), ("b", "a")])
def test_rows_between_two_stray_quotes_are_no_value_where_tabs_separate(path: Path, columns: tuple[str, str]) -> None:
    rows = [columns, ("x", "1"), ('"y', "2"), ("z", '3"'), ("x", "4")]
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"line 3: .* found a value that goes on to line 4"):
        QUOTED["\t"].read(path)


@given(st.lists(st.tuples(st.text('"ab', min_size=1), st.text('"a ')), min_size=1, max_size=8))
def test_no_quote_swallows_a_row_where_tabs_separate(path: Path, rows: list[tuple[str, str]]) -> None:
    path.write_text("".join("\t".join(row) + "\n" for row in [("a", "b"), *rows]))
    with suppress(DataError):
        assert len(QUOTED["\t"].read(path)) == len(rows)


@pytest.mark.parametrize("separator", QUOTED)
def test_quoted_line_breaks_and_quotes_in_pairs_are_read(path: Path, separator: str) -> None:
    path.write_text('a|b\nx|"two\n""lines"""\ny|5" x 6"\nz|""\n'.replace("|", separator))
    assert QUOTED[separator].read(path).rows() == [("x", 'two\n"lines"'), ("y", '5" x 6"'), ("z", "")]


def test_a_value_of_nothing_but_quotes_is_empty(path: Path) -> None:
    path.write_text('a,b\nx,y\n"",y\n')
    with pytest.raises(DataError, match="line 3, column 'a': expected some text, found ''"):
        QUOTED[","].read(path)


@pytest.mark.parametrize("quoted", [True, False])
def test_a_long_value_hides_no_fault(path: Path, quoted: bool) -> None:
    path.write_text(f"n,b\n1,{'x' * 200_000}\none,y\n")
    with pytest.raises(DataError, match="line 3, column 'n': expected a whole number, found 'one'"):
        Delimited({"n": "integer", "b": "text"}, ",", quoted=quoted).read(path)


@pytest.mark.parametrize("quoted", [True, False])
def test_carriage_returns_alone_are_no_line_breaks(path: Path, quoted: bool) -> None:
    path.write_bytes(b"n,b\r1,x\r2,y\r")
    with pytest.raises(DataError, match="line 1: expected lines that end with a line break"):
        Delimited({"n": "integer", "b": "text"}, ",", quoted=quoted).read(path)
