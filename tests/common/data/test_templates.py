"""Item texts by template."""

import polars as pl
import pytest

from common.data.templates import Template, attribute_words, build_text

ITEMS = pl.DataFrame(
    {
        "item": ["1", "2", "3"],
        "title": ["Toy Story (1995)", " ".join(f"w{i}" for i in range(40)), ""],
        "description": ["Toys live.", "", ""],
        "category": ["Film", "7", ""],
        "category_leaf": ["Family", "7", ""],
        "brand": ["Pixar", "", ""],
        "genre_unknown": ["", "1", ""],
        "genre_animation": ["1", "", ""],
        "genre_children": ["1", "", ""],
        "genre_comedy": ["1", "", ""],
    }
)


@pytest.mark.parametrize(
    ("template", "first"),
    [
        ("everything", "Toy Story (1995) Animation Children's Comedy Family Pixar Toys live."),
        ("title", "Toy Story (1995)"),
        ("lrd", "Toy Story (1995) Animation Children's Comedy Family Pixar"),
        ("lrd-shifted-genres", "Toy Story (1995) Children's Comedy Crime Family Pixar"),
        ("allmrec", "Title: Toy Story (1995), Description: Toys live."),
        ("allmrec-released", "Toy Story (1995), Toys live."),
    ],
)
def test_a_template_orders_what_is_known(template: Template, first: str) -> None:
    assert build_text(ITEMS, template)[0] == first


def test_lrd_cuts_titles_at_32_words_and_skips_numbers_for_categories() -> None:
    assert build_text(ITEMS, "lrd")[1] == " ".join(f"w{i}" for i in range(32))


def test_lrd_reads_entities_and_leaves_out_quotes_and_line_breaks() -> None:
    written = ITEMS.with_columns(title=pl.lit('Pens &amp; &quot;Ink&quot;\n\t5" Set'))
    assert build_text(written, "lrd")[1] == "Pens & Ink 5 Set"
    assert build_text(written, "title")[1] == 'Pens &amp; &quot;Ink&quot;\n\t5" Set'


def test_the_released_code_reads_the_first_paragraph() -> None:
    written = ITEMS.with_columns(description=pl.lit("One. Two."), first_paragraph=pl.Series(["One.", "", "One."]))
    texts = build_text(written, "allmrec-released")
    assert texts.to_list() == ["Toy Story (1995), One.", f"{ITEMS['title'][1]}, No Description", "No Title, One."]


@pytest.mark.parametrize("template", ["everything", "title", "lrd", "allmrec"])
def test_nothing_known_is_no_text(template: Template) -> None:
    assert build_text(ITEMS, template)[2] == ""


def test_the_released_code_says_what_is_missing() -> None:
    assert build_text(ITEMS, "allmrec-released")[2] == "No Title, No Description"


def test_attributes_are_words_and_genres_one_of_them() -> None:
    words = attribute_words(ITEMS.with_columns(year=pl.Series(["1995", "", ""])), [*ITEMS.columns[3:], "year"])
    assert words["genre"] == ["Animation Children's Comedy", "", ""]
    assert words["category"] == ["Film", "", ""]
    assert words["year"] == ["1995", "", ""]
    assert set(words) == {"category", "category_leaf", "brand", "genre", "year"}


def test_genres_of_tables_of_ones_own_may_say_no() -> None:
    flags = ITEMS.select("item", "title", "description", "category", "brand").with_columns(
        genre_rock=pl.Series(["1", "0", "0"]), genre_main=pl.Series(["Rock", "Jazz", ""])
    )
    words = attribute_words(flags, ["genre_rock", "genre_main"])
    assert words == {"genre": ["Rock", "", ""], "genre_main": ["Rock", "Jazz", ""]}
    assert build_text(flags, "everything")[0] == "Toy Story (1995) Rock Film Pixar Toys live."
