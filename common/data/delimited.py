"""Delimited text files, parsed fast, and searched line by line only to locate an error."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn

import polars as pl
from polars.exceptions import PolarsError

from common.data.progress import working
from common.errors import DataError

Kind = Literal["text", "optional text", "integer", "number"]
"""What a column holds. Only ``optional text`` may be empty."""

_DTYPES: dict[Kind, pl.DataType] = {
    "text": pl.String(),
    "optional text": pl.String(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
}
_EXPECTED: dict[Kind, str] = {"text": "some text", "integer": "a whole number", "number": "a finite number"}
_SEPARATOR_NAMES = {"\t": "tabs", ",": "commas", "|": "'|'", "::": "'::'"}
# Replaces a separator of two characters in memory; no such file contains this byte.
_ONE_BYTE = "\x1f"
# More characters than any value has; the csv module stops at 131,072 by default.
_LONGEST = 2**31 - 1


def malformed(
    path: Path,
    expected: str,
    found: str,
    cure: str | None = None,
    *,
    line: int | None = None,
    column: str | None = None,
) -> NoReturn:
    """Raises the error that says where a file deviates from its layout.

    Args:
        path: The file.
        expected: What the place should hold.
        found: What it holds.
        cure: What to do; by default, fix the line or fetch the file again.
        line: Line number from 1, if one is to blame.
        column: Column name, if one is to blame.

    Raises:
        DataError: Always.
    """
    place = f"{path}" + (f", line {line}" if line else "") + (f", column {column!r}" if column else "")
    found = found if len(found) <= 160 else f"{found[:157]}..."
    raise DataError(
        f"{place}: expected {expected}, found {found}.", cure or "Fix that line, or fetch an intact copy of the file."
    )


def require(path: Path, what: str) -> Path:
    """``path`` if it is a file that is not empty.

    Raises:
        DataError: If the file is missing or empty.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected {what}, found no such file.", "Put the file there, or name another folder.")
    if path.stat().st_size == 0:
        malformed(path, what, "an empty file", "Fetch an intact copy of the file.")
    return path


def is_utf8(path: Path) -> bool:
    """Whether the whole file is valid UTF-8."""
    try:
        path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True)
class Delimited:
    """Layout of a delimited text file.

    Attributes:
        columns: What each column holds, by name. With a header these are the columns wanted, in any order, and others
            are ignored; without one they are all the columns, in the file's order.
        separator: Text between columns, of one character or two.
        header: Whether the first line names the columns.
        quoted: Whether double quotes may enclose a value.
        encoding: ``utf-8`` or ``latin-1``.
        header_names: Name of each column as the header spells it, where that differs from the name wanted.
        unique: Column in which no value may occur twice.
    """

    columns: Mapping[str, Kind]
    separator: str = "\t"
    header: bool = True
    quoted: bool = False
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    header_names: Mapping[str, str] = field(default_factory=dict)
    unique: str | None = None

    def read(self, path: Path) -> pl.DataFrame:
        """The columns as strings, 64-bit integers and floats; optional text is ``""`` where empty.

        Blank lines are skipped.

        Raises:
            DataError: If the file is missing, empty or deviates from the layout; the message says where.
        """
        require(path, f"a file of columns {', '.join(self.columns)}")
        try:
            with working(f"Reading {path.name}", path.stat().st_size):
                if self.quoted:
                    self._check_quotes(path)
                table = self._parse(path)
        except (PolarsError, UnicodeDecodeError) as error:
            self._blame(path, str(error).splitlines()[0])
        table = table.filter(~pl.all_horizontal(pl.all().is_null()))
        optional, needed, numbers = (
            [name for name, kind in self.columns.items() if kind == wanted]
            for wanted in ("optional text", "text", "number")
        )
        # A value of nothing but its quotes is empty as well.
        table = table.with_columns(pl.col(optional).fill_null(""), pl.col(needed).replace("", None))
        broken = pl.any_horizontal(pl.all().is_null(), ~pl.col(numbers).is_finite()) if numbers else pl.all().is_null()
        if table.select(pl.any_horizontal(broken).any()).item():
            self._blame(path, "an empty value")
        if table.is_empty():
            malformed(path, "at least one row", "none", "Add rows, or fetch an intact copy of the file.")
        if self.unique is not None:
            values = table[self.unique]
            repeated = (~values.is_first_distinct()).arg_true()
            if len(repeated):
                self.refuse(
                    path, repeated[0], self.unique, "a value that no earlier line has", repr(values[repeated[0]])
                )
        return table

    def refuse(self, path: Path, row: int, column: str, expected: str, found: str) -> NoReturn:
        """Raises for a row of the table that was read, naming its line (see :func:`malformed`)."""
        # A quoted value may span several lines, so the line has to be counted.
        records = (line for line, values in self._records(path) if values)
        line = next(line for index, line in enumerate(records, start=-int(self.header)) if index == row)
        malformed(path, expected, found, line=line, column=column)

    def _parse(self, path: Path) -> pl.DataFrame:
        source: Path | bytes = path
        if len(self.separator) > 1 or self.encoding != "utf-8":
            text = path.read_bytes().decode(self.encoding)
            source = text.replace(self.separator, self._byte).encode()
        names = {self.header_names.get(name, name): name for name in self.columns}
        dtypes = pl.Schema({raw: _DTYPES[self.columns[name]] for raw, name in names.items()})
        spelt = list(dtypes)
        if self.header:
            _, spelt = next(self._records(path))
            self._checked_header(path, spelt)
        # The last column is read in any case, since it is empty where a row is too short.
        places = [spelt.index(raw) for raw in dtypes]
        places += [] if len(spelt) - 1 in places else [len(spelt) - 1]
        table = pl.read_csv(
            source,
            separator=self._byte,
            has_header=self.header,
            quote_char='"' if self.quoted else None,
            schema=None if self.header else dtypes,
            schema_overrides=dtypes if self.header else None,
            columns=places,
            infer_schema=False,
        )
        if table.to_series(places.index(len(spelt) - 1)).has_nulls() and self._is_ragged(path, len(spelt)):
            self._blame(path, "rows of unequal lengths")
        return table.select(list(dtypes)).rename(names)

    @property
    def _byte(self) -> str:
        return self.separator if len(self.separator) == 1 else _ONE_BYTE

    def _lines(self, path: Path) -> Iterator[str]:
        with path.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                try:
                    line = raw.decode("utf-8-sig" if number == 1 and self.encoding == "utf-8" else self.encoding)
                except UnicodeDecodeError as error:
                    malformed(
                        path,
                        f"{self.encoding} text",
                        f"byte 0x{raw[error.start]:02x} at position {error.start + 1}",
                        f"Convert the file to {self.encoding}, or fetch an intact copy of it.",
                        line=number,
                    )
                yield line.replace(self.separator, self._byte) if len(self.separator) > 1 else line

    def _records(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """Yields the last line of each record, and its values."""
        read: list[str] = []

        def lines() -> Iterator[str]:
            for line in self._lines(path):
                read.append(line)
                yield line

        csv.field_size_limit(_LONGEST)
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        reader = csv.reader(lines(), delimiter=self._byte, quoting=quoting, strict=True)
        while True:
            first = reader.line_num + 1
            read.clear()
            try:
                values = next(reader, None)
            except csv.Error:
                _refuse_record(path, first, read)
            if values is None:
                return
            odd = [line.count('"') % 2 for line in read]
            # The csv module takes a quote within a value for text, the parser for one that opens or closes.
            if self.quoted and (sum(odd) % 2 or odd[0] != (len(read) > 1)):
                _refuse_record(path, first, read)
            yield reader.line_num, values

    def _is_ragged(self, path: Path, width: int) -> bool:
        return any(values and len(values) != width for _, values in self._records(path))

    def _check_quotes(self, path: Path) -> None:
        """Refuses quotes that do not balance: the parser gives up without a line, or takes rows for a value."""
        with path.open("rb") as stream:
            if not any(line.count(b'"') % 2 for line in stream):
                return
        first = 1
        for line, values in self._records(path):
            # Whoever writes tabs seldom quotes: such a value is a stray quote, rows, and the next stray quote.
            if self.separator == "\t" and any("\t" in value and "\n" in value for value in values):
                _refuse_quote(path, first, f"a value that goes on to line {line}")
            first = line + 1

    def _blame(self, path: Path, reason: str) -> NoReturn:
        """Raises for the first line that deviates from the layout, or with ``reason`` if none does."""
        separator_name = _SEPARATOR_NAMES.get(self.separator, repr(self.separator))
        records = self._records(path)
        names = list(self.columns)
        if self.header:
            names = self._checked_header(path, next(records)[1])
        for line, values in records:
            if not values:
                continue
            if len(values) != len(names):
                found = f"{len(values)}: {self.separator.join(values)!r}"
                malformed(path, f"{len(names)} columns separated by {separator_name}", found, line=line)
            for name, value in zip(names, values, strict=True):
                kind = self.columns.get(name, "optional text")
                if not _fits(value, kind):
                    cure = "Write Unix seconds; only Parquet may hold dates." if value and name == "timestamp" else ""
                    malformed(path, _EXPECTED[kind], repr(value), cure, line=line, column=name)
        malformed(path, f"columns {', '.join(self.columns)} separated by {separator_name}", reason)

    def _checked_header(self, path: Path, header: list[str]) -> list[str]:
        """What each column of a header is called here, ``""`` for one that is not wanted."""
        separator_name = _SEPARATOR_NAMES.get(self.separator, repr(self.separator))
        wanted = {self.header_names.get(name, name): name for name in self.columns}
        for raw in wanted:
            if raw not in header:
                malformed(
                    path,
                    f"a header with the columns {', '.join(wanted)} separated by {separator_name}",
                    repr(self.separator.join(header)),
                    f"Name a column {raw!r} in the first line.",
                    line=1,
                    column=raw,
                )
            if (count := header.count(raw)) > 1:
                cure = "Rename all of them but one, or leave them out."
                malformed(path, "one column of this name", str(count), cure, line=1, column=raw)
        return [wanted.get(raw, "") for raw in header]


def _refuse_record(path: Path, first: int, lines: Sequence[str]) -> NoReturn:
    """Raises for the lines of a record that the csv module cannot read."""
    broken = next((line for line in lines if "\r" in line.rstrip("\r\n")), None)
    if broken is not None:
        found, cure = f"a carriage return in {broken!r}", "Save the file with line breaks of one kind."
        malformed(path, "lines that end with a line break", found, cure, line=first + lines.index(broken))
    _refuse_quote(path, first, repr(lines[0].rstrip("\r\n")))


def _refuse_quote(path: Path, line: int, found: str) -> NoReturn:
    cure = 'Enclose the whole value in quotes and write each quote within it twice: "5"" nails".'
    malformed(path, "quotes that balance", found, cure, line=line)


def _fits(value: str, kind: Kind) -> bool:
    if kind == "optional text":
        return True
    if kind == "text":
        return value != ""
    # Python reads these numbers, Polars does not.
    if "_" in value or value != value.rstrip():
        return False
    try:
        return math.isfinite(int(value) if kind == "integer" else float(value))
    except ValueError:
        return False
