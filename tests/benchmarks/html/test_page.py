"""The page in headless Chromium: what a reader does with it."""

import random
import re
from typing import Any

METHODS = "td.method button"


def methods(page: Any) -> list[str]:  # noqa: ANN401
    return list(page.locator(METHODS).all_inner_texts())


def test_rows_are_sorted_and_sorting_turns(page: Any) -> None:  # noqa: ANN401
    assert methods(page) == ["strong", "weak", "popularity"]
    heading = page.get_by_role("button", name="ndcg@10", exact=True)
    heading.click()
    assert methods(page) == ["popularity", "weak", "strong"]
    assert page.locator("th.primary").get_attribute("aria-sort") == "ascending"
    page.get_by_role("button", name="method", exact=True).click()
    assert methods(page) == ["popularity", "strong", "weak"]


def test_verdicts_are_shown(page: Any) -> None:  # noqa: ANN401
    assert page.locator(".letters").all_inner_texts() == ["a", "b", "c"]
    assert "undertrained (5 of 5)" in page.locator("tr[data-method=weak]").inner_text()


def test_filters_by_name_and_by_what_is_read(page: Any) -> None:  # noqa: ANN401
    page.get_by_placeholder("Filter methods").fill("wea")
    assert methods(page) == ["weak"]
    assert page.locator("#count").inner_text() == "1 of 3 rows"
    page.get_by_placeholder("Filter methods").fill("")
    page.get_by_text("May read").click()
    page.get_by_label("text", exact=True).uncheck()
    assert methods(page) == ["strong", "popularity"]


def test_filters_by_marks_seeds_and_costs(page: Any) -> None:  # noqa: ANN401
    page.get_by_text("Rows", exact=True).click()
    page.get_by_label("undertrained", exact=True).uncheck()
    assert methods(page) == ["strong", "popularity"]
    page.get_by_label("undertrained", exact=True).check()
    page.get_by_text("Limits", exact=True).click()
    page.get_by_label("seeds, at least").fill("2")
    assert methods(page) == ["strong", "weak"]
    page.get_by_label("seeds, at least").fill("")
    page.get_by_label("training time, at most").fill("59")
    assert methods(page) == ["weak", "popularity"]
    page.get_by_label("training time, at most").fill("60")
    page.get_by_label("evaluation, at least").fill("1e9")
    assert methods(page) == []
    page.get_by_label("evaluation, at least").fill("")
    assert methods(page) == ["strong", "weak", "popularity"]


def test_costs_are_columns_that_sort(page: Any) -> None:  # noqa: ANN401
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("memory", exact=True).check()
    assert "1.02K MiB" in page.locator("tr[data-method=strong]").inner_text()
    page.get_by_role("button", name="training time", exact=True).click()
    assert methods(page) == ["weak", "strong", "popularity"]


def test_the_line_of_the_cost_plot_joins_what_nothing_beats(page: Any) -> None:  # noqa: ANN401
    front = page.evaluate("document.querySelector('#cost .plot').data[0]")
    assert front["x"] == [30, 60]
    draw = random.Random(0)
    for better, sign in (("less", 1), ("more", -1)):
        points = [{"x": draw.randrange(9), "y": draw.randrange(9)} for _ in range(12)]
        kept = page.evaluate("([points, better]) => pareto(points, better)", [points, better])
        expected = [
            p
            for p in points
            if not any(
                q["y"] >= p["y"] and sign * q["x"] <= sign * p["x"] and (q["x"], q["y"]) != (p["x"], p["y"])
                for q in points
            )
        ]
        assert {(p["x"], p["y"]) for p in kept} == {(p["x"], p["y"]) for p in expected}


def test_the_cost_plot_cuts_no_name(page: Any) -> None:  # noqa: ANN401
    named = (
        "(ending) => { for (const row of state.table.rows) row.method = row.method.slice(0, 4) + ending; drawCost() }"
    )
    page.evaluate(named, "_without_reconstruction (stand-in LLM)")
    texts = page.locator("#cost .textpoint text")
    box = page.locator("#cost .plot svg.main-svg").first.bounding_box()
    places = [text.bounding_box() for text in texts.all()]
    page.reload()
    assert len(places) == 2
    for place in places:
        assert box["x"] <= place["x"] <= place["x"] + place["width"] <= box["x"] + box["width"]


def test_slices_become_columns(page: Any) -> None:  # noqa: ANN401
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("cold items").check()
    assert page.get_by_role("columnheader", name="cold items").count() == 1


def test_a_row_opens_its_run_card(page: Any) -> None:  # noqa: ANN401
    page.get_by_role("button", name="weak", exact=True).click()
    card = page.locator("dialog[open]")
    text = card.inner_text()
    for part in ("undertrained", "0123456789ab", "torch", "val/ndcg@10", "leave_one_out", "PROTOCOL"):
        assert part in text
    # The last of two epochs, as the curve has them.
    assert re.search(r"best epoch\s+2\b", text)
    assert page.evaluate("Object.values(data.runs).flatMap((run) => curveTraces(run, '', '', {}))[0].x") == [1, 2]
    card.get_by_text("config.yaml of").click()
    assert "class_path: weak" in card.locator("pre").inner_text()
    card.get_by_role("button", name="seed 3").click()
    assert "seed_everything: 3" in (card.locator("pre").text_content() or "")
    assert card.locator(".plot svg.main-svg").count() > 0


def test_the_address_leads_to_a_run(page: Any) -> None:  # noqa: ANN401
    page.get_by_role("button", name="zoë full").click()
    page.get_by_role("button", name="2024", exact=True).click()
    address = page.evaluate("location.hash")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="toy full").click()
    # As a link to a run does that is followed where the page is open already.
    page.evaluate(f"location.hash = '{address}'")
    assert page.locator("dialog[open] h2").inner_text() == "2024"
    page.evaluate("location.hash = location.hash.split('/').slice(0, 2).join('/')")
    page.wait_for_selector("dialog[open]", state="detached")
    assert page.locator("#title").inner_text() == "zoë, full"


def test_the_address_names_the_table_that_is_shown(page: Any) -> None:  # noqa: ANN401
    page.get_by_role("button", name="zoë full").click()
    address = page.evaluate("location.hash")
    page.evaluate("show(data.tables[0]); follow()")
    assert page.locator("#title").inner_text() == "zoë, full"
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash === '#table'")
    assert page.locator("#title").inner_text() == "zoë, full"
    assert address.startswith("#zo%C3%AB/")


def test_plots_are_drawn_and_follow_the_ticks(page: Any) -> None:  # noqa: ANN401
    for name in ("cost", "seeds", "differences", "slices", "curves"):
        assert page.locator(f"#{name} svg.main-svg").count() > 0, name
    before = page.locator("#curves .legendtext").count()
    page.get_by_label("Plot weak").uncheck()
    assert page.locator("#curves .legendtext").count() == before - 1


def test_methods_named_by_numbers_are_names_in_plots(page: Any) -> None:  # noqa: ANN401
    page.get_by_role("button", name="zoë full").click()
    for name in ("seeds", "differences"):
        axis = page.evaluate(f"document.querySelector('#{name} .plot')._fullLayout.yaxis.type")
        assert axis == "category", name
        assert "2024" in page.locator(f"#{name} .ytick").all_text_contents()


def test_keyboard_alone_sorts_opens_and_closes(page: Any) -> None:  # noqa: ANN401
    page.get_by_role("button", name="ndcg@10", exact=True).focus()
    page.keyboard.press("Enter")
    assert methods(page)[0] == "popularity"
    assert page.evaluate("document.activeElement.dataset.key") == "primary"
    page.get_by_role("button", name="strong", exact=True).focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.innerText") == "Close"
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_the_keyboard_stays_where_it_is(page: Any) -> None:  # noqa: ANN401
    held = "document.activeElement.innerText"
    page.get_by_label("Cost", exact=True).focus()
    page.evaluate("document.activeElement.value = 'memory'; document.activeElement.dispatchEvent(new Event('change'))")
    assert page.evaluate("document.activeElement.ariaLabel") == "Cost"
    page.get_by_role("button", name="weak", exact=True).click()
    page.get_by_role("button", name="seed 3").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(held) == "seed 3"
    page.keyboard.press("Escape")
    page.get_by_role("button", name="zoë full").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(held) == "zoë full"


def test_light_and_dark_follow_the_system_and_the_button(page: Any) -> None:  # noqa: ANN401
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Switch between light and dark").click()
    dark = page.evaluate(background)
    assert light != dark
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("systemTheme()") == "dark"
    page.emulate_media(color_scheme="light")
    assert page.evaluate("systemTheme()") == "light"


def test_phone_width_scrolls_the_table_and_not_the_page(page: Any) -> None:  # noqa: ANN401
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.getElementById('table').scrollWidth") > 390
    assert page.locator("td.primary").first.bounding_box()["x"] < 390
    for menu in page.locator("details.menu").all():
        menu.locator("summary").click()
        box = menu.locator("div").first.bounding_box()
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 390
        menu.locator("summary").click()


def test_names_are_text_and_other_tables_are_a_click_away(page: Any) -> None:  # noqa: ANN401
    page.get_by_role("button", name="zoë full").click()
    assert methods(page) == ["lonely <b>row</b>", "2024"]
    assert page.locator("#table b").count() == 0


def test_a_small_table_says_so_and_what_leaks(page: Any) -> None:  # noqa: ANN401
    leak = "the training data contain events after the target"
    assert "too few" not in page.locator("#about").inner_text()
    assert leak not in page.locator("#legend").inner_text()
    assert page.locator("td.primary.best").count() == 1
    assert page.locator("td.primary.few").count() == 0
    page.get_by_role("button", name="zoë full").click()
    assert "96 test cases" in page.locator("#about").inner_text()
    assert "Fewer than 100 cases: too few for conclusions" in page.locator("#about").inner_text()
    assert f"For 97.3 % of the test cases, {leak}" in page.locator("#legend").inner_text()
    assert page.locator("td.primary.few").count() == 2
    assert page.locator("td.primary.best").count() == 0


def test_figures_are_rounded_as_in_the_text_tables(page: Any) -> None:  # noqa: ANN401
    draw = random.Random(1)
    values = [n / 32 for n in range(33)] + [draw.randrange(944) / 943 for _ in range(400)]
    values += [0.41114982578397213, 0.21314952279957583, 1e-9]
    assert page.evaluate("(values) => values.map(figure)", values) == [f"{value:.4f}" for value in values]
    shares = [value - 0.5 for value in values] + [n / 400 for n in range(-9, 9)]
    shown = page.evaluate("(shares) => shares.map((share) => signed(100 * share, 1))", shares)
    assert shown == [f"{share:+.1%}".replace("-", "\u2212").removesuffix("%") for share in shares]


def test_what_is_unknown_is_sorted_below_every_figure(page: Any) -> None:  # noqa: ANN401
    value = "([key, row]) => columns().find((column) => column.key === key).value(row) ?? null"
    far: dict[str, Any] = {"share": -18.5, "lead": [-0.9, -1, -0.8], "metrics": {"ndcg@10": [0.1]}}
    unknown: dict[str, Any] = {"metrics": {}}
    for key in ("share", "vs", "primary"):
        assert page.evaluate(value, [key, far]) > page.evaluate(value, [key, unknown])
    assert page.evaluate(value, ["vs", {"metrics": {"ndcg@10": [0.5]}}]) == 0
