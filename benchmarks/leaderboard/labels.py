"""Labels of rows: the method and, where several rows are of one method, what tells them apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.runs import Result

MOST_SETTINGS = 3
"""Settings that a label shows; rows that differ in more are told apart by their ids."""
LETTERS = 4
"""Letters of an id in a label; more where those of another row begin with the same."""
LONGEST = 60
"""Characters of what a label says of settings."""


def labels_of(rows: Mapping[str, Result]) -> dict[str, str]:
    """Labels of rows by configuration id, each unlike the others.

    Rows of one method are told apart by the settings that they do not share, or by the first letters of their ids where
    these are many, long, or not what differs, as with rows on different predecessors.

    Args:
        rows: A run of each row, by configuration id.
    """
    methods: dict[str, list[str]] = defaultdict(list)
    for name, result in rows.items():
        methods[result.method].append(name)
    labels: dict[str, str] = {}
    for method, names in methods.items():
        if len(names) == 1:
            labels[names[0]] = method
            continue
        told = _differences([rows[name].settings for name in names])
        clear = len(set(told)) == len(told) and all(0 < len(text) <= LONGEST for text in told)
        endings = [f"[{text}]" for text in told] if clear else _ids(names)
        labels |= {name: f"{method} {ending}" for name, ending in zip(names, endings, strict=True)}
    return labels


def told_by_id(label: str, config_id: str) -> bool:
    """Whether a label tells its row apart by the row's id."""
    _, bracket, ending = label.rpartition(" [")
    letters = ending.removesuffix("]")
    return bool(bracket) and len(letters) >= LETTERS and config_id.startswith(letters)


def _ids(names: Sequence[str]) -> list[str]:
    """The first letters of configuration ids, as many as tell them apart."""
    longest = max(map(len, names))
    count = next((n for n in range(LETTERS, longest) if len({name[:n] for name in names}) == len(names)), longest)
    return [f"[{name[:count]}]" for name in names]


def _differences(settings: Sequence[Mapping[str, object]]) -> list[str]:
    """For each of ``settings`` the values that not all share, or nothing if these are many or unknown."""
    keys = sorted({key for values in settings for key in values})
    differing = [key for key in keys if len({repr(values.get(key)) for values in settings}) > 1]
    if not all(settings) or len(differing) > MOST_SETTINGS:
        return [""] * len(settings)
    names = _shortened(differing)
    return [", ".join(f"{names[key]} {_shown(values.get(key))}" for key in differing) for values in settings]


def _shortened(keys: Iterable[str]) -> dict[str, str]:
    """The last part of each dotted name, or the whole of it if two end alike."""
    ends = {key: key.rpartition(".")[2] for key in keys}
    counts = Counter(ends.values())
    return {key: end if counts[end] == 1 else key for key, end in ends.items()}


def _shown(value: object) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
