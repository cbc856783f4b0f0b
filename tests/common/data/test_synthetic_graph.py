"""What holds of every graph of functions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.data.synthetic_graph import FIRST_LATENT, RELATIONS, Edges, Role, Scope, build_edges

GRAPHS = st.builds(
    lambda departments, seed: (departments, build_edges(departments, np.random.default_rng(seed))),
    st.integers(2, 12),
    st.integers(0, 1000),
)


@given(GRAPHS)
def test_edges_are_sorted_by_head_and_stay_among_the_functions(drawn: tuple[int, Edges]) -> None:
    departments, edges = drawn
    assert (np.diff(edges.head) >= 0).all()
    for end in (edges.head, edges.tail):
        assert end.min() >= 1
        assert end.max() <= departments * len(Role)


@given(GRAPHS)
def test_only_the_next_interest_leaves_a_department_and_leads_round_all(drawn: tuple[int, Edges]) -> None:
    departments, edges = drawn
    head, tail = (edges.head - 1) // len(Role), (edges.tail - 1) // len(Role)
    leaves = edges.relation == RELATIONS.index("next_interest")
    assert (head[~leaves] == tail[~leaves]).all()
    following = dict(zip(head[leaves].tolist(), tail[leaves].tolist(), strict=True))
    visited, place = set(), 0
    while place not in visited:
        visited.add(place)
        place = following[place]
    assert visited == set(range(departments))


@given(GRAPHS)
def test_every_function_has_a_latent_relation_leading_on(drawn: tuple[int, Edges]) -> None:
    departments, edges = drawn
    heads = set(edges.head[edges.relation >= FIRST_LATENT].tolist())
    assert heads == set(range(1, departments * len(Role) + 1))


@given(GRAPHS)
def test_no_latent_relation_is_the_reverse_of_an_observed_one(drawn: tuple[int, Edges]) -> None:
    _, edges = drawn
    bound = edges.scope == Scope.SAME
    observed = {(h, t) for h, t, r in zip(edges.head, edges.tail, edges.relation, strict=True) if r < FIRST_LATENT}
    latent = edges.where(bound & (edges.relation >= FIRST_LATENT))
    assert not {(t, h) for h, t in zip(latent.head, latent.tail, strict=True)} & observed
