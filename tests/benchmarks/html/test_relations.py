"""Pictures of relations show the names that data give them."""

from typing import Any

import pytest

from benchmarks.html.relations import draw


@pytest.mark.parametrize("name", ["costs $$", "from $a_{$ to b", "_x"])
def test_a_name_is_no_formula(name: str) -> None:
    names = ["virtual", name]
    found: dict[str, Any] = {"relations": names, "cosines": [[1.0, 0.5], [0.5, 1.0]], "projection": [[0, 0], [1, 1]]}
    found |= {"shares": dict.fromkeys(names, 0.5), "pairs": 2}
    assert list(draw(found)) == ["cosines", "projection", "shares"]
