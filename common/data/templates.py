"""Item texts by a recipe's template; every template reads the items table and nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Literal

import polars as pl

from common.data.movielens import GENRES, genre_column, genre_flags, genre_name

Template = Literal["everything", "title", "lrd", "lrd-shifted-genres", "allmrec", "allmrec-released"]

TEXT_ONLY = ("category_leaf", "first_paragraph")
"""Columns that templates read but stores leave out: the graph has the category itself."""

_LRD_WORDS = 32


def build_text(items: pl.DataFrame, template: Template) -> pl.Series:
    """The text of each item, ``""`` where nothing is known of it.

    * ``everything``: title, genres, most specific category, brand, description.
    * ``title``: the title, for sources that ship a whole text as title.
    * ``lrd``: first 32 words of the title, genres, most specific category, brand, as in
      https://arxiv.org/abs/2403.18348. As in its authors' notebook for Amazon, HTML entities of the title are read and
      its double quotes left out; line breaks become spaces, where the notebook joins the words around them.
    * ``lrd-shifted-genres``: the same with the fault of LRD's released MovieLens notebook, whose list of names starts
      with Action although the first column is "unknown", so that each genre gets the name of the next.
    * ``allmrec``: ``Title: …, Description: …``, as in https://arxiv.org/abs/2404.11343.
    * ``allmrec-released``: title and first paragraph of the description without labels; missing ones are replaced as in
      the released code, an empty list of paragraphs like a missing one ("Empty description" there).

    Args:
        items: Items table with attributes.
        template: Name of the template.
    """
    title, description = pl.col("title").str.strip_chars(), pl.col("description").str.strip_chars()
    special = ("category_leaf" if "category_leaf" in items.columns else "category", "brand")
    # Anonymised copies have numbers for categories and brands, which are not words.
    words = [pl.when(pl.col(name).str.contains(r"^\d+$")).then(pl.lit("")).otherwise(pl.col(name)) for name in special]
    if template == "title":
        text = title
    elif template == "allmrec":
        text = pl.format("Title: {}, Description: {}", title, description)
        text = pl.when((title == "") & (description == "")).then(pl.lit("")).otherwise(text)
    elif template == "allmrec-released":
        first = pl.col("first_paragraph").str.strip_chars() if "first_paragraph" in items.columns else description
        instead = [(title, "No Title"), (first, "No Description")]
        parts = [pl.when(part == "").then(pl.lit(other)).otherwise(part) for part, other in instead]
        text = pl.format("{}, {}", *parts)
    elif template == "everything":
        text = _joined([title, *_genres(items, shifted=False), *words, description])
    else:
        plain = title if template == "lrd-shifted-genres" else _plain(title)
        short = plain.str.split(" ").list.head(_LRD_WORDS).list.join(" ")
        text = _joined([short, *_genres(items, shifted=template == "lrd-shifted-genres"), *words])
    return items.select(text.alias("text"))["text"]


def attribute_words(items: pl.DataFrame, names: Sequence[str]) -> dict[str, list[str]]:
    """Each attribute's values as words, ``""`` where there are none; of numbers, only years are kept.

    Args:
        items: Items table with attributes.
        names: Its attribute columns; those of genres become one attribute, ``genre``.
    """
    flags = genre_flags(items)
    words = {name: pl.col(name) for name in names if name not in flags}
    for name in words.keys() - {"year"}:
        words[name] = pl.when(words[name].str.contains(r"^\d+$")).then(pl.lit("")).otherwise(words[name])
    genres = _genres(items, shifted=False)
    if genres:
        words["genre"] = _joined(genres)
    return {name: items.select(column.alias("words"))["words"].to_list() for name, column in words.items()}


def _plain(title: pl.Expr) -> pl.Expr:
    read = title.map_elements(html.unescape, return_dtype=pl.String)
    return read.str.replace_all('"', "", literal=True).str.replace_all(r"\s+", " ").str.strip_chars()


def _joined(parts: list[pl.Expr]) -> pl.Expr:
    filled = [pl.when(part != "").then(part) for part in parts]
    return pl.concat_str(filled, separator=" ", ignore_nulls=True)


def _genres(items: pl.DataFrame, shifted: bool) -> list[pl.Expr]:
    names = [*GENRES[1:], "Other"] if shifted else ["", *GENRES[1:]]
    by_column = {genre_column(genre): name for genre, name in zip(GENRES, names, strict=True)}
    return [
        pl.when(pl.col(column) == "1")
        .then(pl.lit(by_column.get(column, genre_name(column).title())))
        .otherwise(pl.lit(""))
        for column in genre_flags(items)
    ]
