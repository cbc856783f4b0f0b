"""What a run has learnt about relations, as pictures and as a page."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

from benchmarks.html.section import ASSETS, alignment, filled, section

CAPTIONS = {
    "cosines": ("Likeness", "Cosine of every two relation vectors. Relations that score alike have a cosine near 1."),
    "projection": (
        "Projection",
        "The relation vectors on their first two principal components: latent relations as circles, those of the data "
        "as squares.",
    ),
    "shares": (
        "Use",
        "Share of the pairs of a history item and a test target whose most probable relation it is. A bar of 1 means "
        "that the model tells no pairs apart.",
    ),
}
"""Title and explanation of each picture."""


def draw(found: Mapping[str, Any]) -> dict[str, bytes]:
    """Pictures as PNG: cosines, projection and, if relations were discovered, their shares.

    Args:
        found: What ``recbench analyse`` has found.
    """
    from matplotlib.figure import Figure

    # Between two dollar signs, a formula would be read.
    names, pictures = [name.replace("$", r"\$") for name in found["relations"]], {}
    size = max(4.0, 0.45 * len(names))
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(found["cosines"], cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    figure.colorbar(image, label="cosine of relation vectors")
    pictures["cosines"] = as_png(figure)
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    for name, (x, y) in zip(names, found["projection"], strict=True):
        latent = name.startswith("latent")
        axes.scatter(x, y, marker="o" if latent else "s", color="C0" if latent else "C1")
        axes.annotate(name, (x, y), textcoords="offset points", xytext=(4, 4))
    axes.margins(0.15)
    axes.set(xlabel="first principal component", ylabel="second principal component")
    pictures["projection"] = as_png(figure)
    if "shares" in found:
        figure = Figure(figsize=(6, size), layout="constrained")
        axes = figure.subplots()
        axes.barh(names, [found["shares"][name] for name in found["relations"]])
        axes.invert_yaxis()
        axes.set_xlabel(f"share of {found['pairs']:,} test pairs")
        pictures["shares"] = as_png(figure)
    return pictures


def as_png(figure: Any) -> bytes:  # noqa: ANN401 (matplotlib is imported only where it draws)
    """A figure as PNG."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def page(found: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """One self-contained HTML page.

    Args:
        found: What ``recbench analyse`` has found.
        pictures: What :func:`draw` has made of it.
    """
    name = f"{found['dataset']} / {found['method']}"
    parts = {
        "title": escape(f"Relations of {name}"),
        "style": (ASSETS / "style.css").read_text("utf-8"),
        "name": escape(name),
        "run": escape(f"seed {found['seed']}, run {found['run']}"),
        "summary": "".join(f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in _summary(found).items()),
        "pictures": "".join(_picture(key, data) for key, data in pictures.items()),
        "tables": "\n".join(_tables(found)),
    }
    return filled("relations.html", parts)


def _summary(found: Mapping[str, Any]) -> dict[str, str]:
    names = found["relations"]
    latent = sum(name.startswith("latent") for name in names)
    summary = {"relations": f"{len(names)}, {latent} of them latent"}
    if "shares" in found:
        summary |= {
            "test pairs": f"{found['pairs']:,}",
            "mean entropy of q": f"{found['q_entropy']:.2f} of {math.log(len(names)):.2f} nats",
            "largest share of pairs": f"{found['q_largest_share']:.1%}",
            "dead relations": f"{len(found['dead'])} of {len(names)}",
        }
    return summary


def _picture(name: str, data: bytes) -> str:
    title, text = CAPTIONS[name]
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    caption = f"<figcaption><b>{title}</b><span>{text}</span></figcaption>"
    return f'<figure>{caption}<img alt="{name}" src="{source}"></figure>'


def _tables(found: Mapping[str, Any]) -> list[str]:
    examples = [
        table(f"Most confident pairs: {name}", "Test pairs to which it gives the highest probability.", rows)
        for name, rows in found.get("most_confident", {}).items()
    ]
    return [
        table(
            "Relations of test pairs",
            "A dead relation is the most probable one of no pair.",
            relations_of_pairs(found),
        ),
        table(
            "Agreement with the true relations",
            "Adjusted mutual information with its 95 % interval, on held-out pairs; 0 is chance, 1 is perfect. The "
            "other rows say what labels without language, clusters of texts, and an untrained model reach, and what a "
            "probe reaches that was shown the truth.",
            labelled(found.get("agreement", {})),
        ),
        *examples,
        table(
            "Linked through a third item",
            "Share of a relation's pairs that two item relations of the data join over a third item, beside random "
            "pairs and random pairs of items with as many links.",
            found.get("two_hops", []),
        ),
        table(
            "Why these items were recommended",
            "The strongest link, by attention, between users' first recommendation and their history.",
            found["explanations"],
        ),
    ]


def relations_of_pairs(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each relation, the share of pairs whose most probable relation it is, and its mean probability."""
    dead = set(found.get("dead", []))
    return [
        {
            "relation": name,
            "share of pairs": share,
            "mean probability": found["mean_probability"][name],
            "": "dead" if name in dead else "",
        }
        for name, share in found.get("shares", {}).items()
    ]


def labelled(rows: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Table rows with their name in the first column."""
    return [{"": name, **values} for name, values in rows.items()]


def table(title: str, text: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A headed HTML table, or nothing if there are no rows."""
    if not rows:
        return ""
    columns = {name: isinstance(value, str) for name, value in rows[0].items()}
    cells = (
        "".join(f"<td{alignment(left)}>{_cell(row.get(name, ''))}</td>" for name, left in columns.items())
        for row in rows
    )
    names = {escape(name.replace("_", " ")): left for name, left in columns.items()}
    return section(title, escape(text), names, "".join(f"<tr>{row}</tr>" for row in cells))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"
    return escape(str(value))
