"""The strongest floor: a conditional logit over a few simple counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from operator import matmul

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from common.errors import UserError
from common.models.closed_form import ClosedFormRecommender
from common.models.floors import DAY, Clock, EventLog, clock_information, query_time
from common.models.item_knn import cosine_neighbours, history_matrix, user_item_matrix
from common.types import Catalogue, DataModule, SequenceBatch, Sequences

WINDOWS = (7, 30, 90, 365)
"""Lengths of the windows of recent popularity, in days."""
MAX_LINKS = 2
"""Relations, and attributes, that features are built from: those with the most links and the most known values."""
FLAGS = "(flags)"
"""Name of all attributes with a single value, such as MovieLens' genres, which count as one; no column is called so."""
MAX_FEATURES = len(WINDOWS) + 8 + 2 * (2 * MAX_LINKS)
"""Recent popularity, eight features that every data set has, and two for each relation and attribute: 20."""
MAX_CASES = 10_000
"""Most validation cases that weights are fitted on."""
NO_CANDIDATES = "Leave this floor out: it is fitted on stored candidates, and the data have too few items for any."
"""What to do where no protocol has candidates."""


class FeatureFloor(ClosedFormRecommender):
    """Conditional logit over at most 20 counts, fitted on validation cases with their stored candidates.

    ``P(i | u) ∝ exp(w · x(u, i))``, ``w`` from L-BFGS on standardised features with a small ridge. Counts enter as
    ``log(1 + count)`` and come from training events before the query, except for co-occurrences, which come from all
    training events. The features of item ``i`` for a user whose last item is ``q``:

    * ``popularity``: events of ``i``; ``popular_7d`` … ``popular_365d``: those of the last 7 … 365 days;
    * ``unborn``: whether ``i`` has no event yet; ``age``: days since its first, ``rest``: days since its last event;
    * ``next``: how often ``i`` directly followed ``q``; ``cosine_last``: co-occurrence cosine of ``i`` and ``q``;
      ``cosine_history``: sum of the cosines of ``i`` with the history; ``repeat``: whether ``i`` is in the history;
    * for two relations: ``<relation>_last``: whether it leads from ``q`` to ``i``; ``<relation>_history``: from how
      many items of the history it leads to ``i``;
    * for two attributes: ``<attribute>_last``: whether ``i`` and ``q`` share the value; ``<attribute>_history``: how
      many items of the history share it with ``i``. Attributes that have a single value, such as MovieLens' genres,
      are together one attribute, of which items share none or several values.

    Args:
        num_items: Number of items.
        clock: Time that counts refer to: the ``query`` or the user's ``last_event``.
        use_times: Whether to use the features that read times; switch off if times were not recorded.
        fit_protocol: Protocol of the validation candidates that weights are fitted on.
        ridge: L2 coefficient of the mean log-loss.
    """

    def __init__(
        self,
        num_items: int,
        clock: Clock = "query",
        use_times: bool = True,
        fit_protocol: str = "sampled-99",
        ridge: float = 1e-4,
    ) -> None:
        super().__init__(num_items)
        self.save_hyperparameters()
        self.clock: Clock = clock
        self.use_times = use_times
        self.fit_protocol = fit_protocol
        self.ridge = ridge
        self.information_set = frozenset({"order", "graph", "attributes"}) | (
            clock_information(clock) if use_times else frozenset()
        )
        self.weights = torch.zeros(MAX_FEATURES, dtype=torch.float32)

    def complete(self, data: DataModule) -> None:
        """Fits the weights on validation cases, unless they came from a checkpoint.

        Raises:
            UserError: If no candidates of the protocol are stored.
        """
        if bool(self.weights.any()):
            return
        try:
            cases = data.case_loader("val", self.fit_protocol)
        except UserError as error:
            cure = error.cure if "sampled" in error.cure else NO_CANDIDATES
            raise UserError(f"--model.fit_protocol: {error.what}", cure) from error
        self.fit(cases)

    def get_extra_state(self) -> Float[Tensor, "f"]:
        """The weights, for checkpoints. A buffer would be rounded with the model under ``bf16-true``."""
        return self.weights

    def set_extra_state(self, state: Float[Tensor, "f"]) -> None:
        """Takes the weights from a checkpoint."""
        self.weights = state.cpu()

    def attach(self, catalogue: Catalogue) -> None:
        """Computes the counts behind the features from training events, relations and attributes."""
        super().attach(catalogue)
        self.events = EventLog(catalogue)
        self.first = self.events.first_times()
        matrix = user_item_matrix(catalogue["train"], self.num_items)
        self.cosine = cosine_neighbours(matrix, neighbours=200, shrink=0.0)
        self.next = transitions(catalogue["train"], self.num_items)
        relations = {name: _links(pairs, self.num_items) for name, pairs in catalogue.get("relations", {}).items()}
        attributes = _known_values(catalogue.get("attributes", {}))
        relations, attributes = _fullest(relations), _fullest(attributes)
        self.links: dict[str, tuple[sparse.csr_array, ...]] = {name: (links,) for name, links in relations.items()}
        # Items that share a value are linked through it.
        self.links |= {name: (known, known.T.tocsr()) for name, known in attributes.items()}
        for kind, tables in (("graph", relations), ("attributes", attributes)):
            if not tables:
                self.information_set -= {kind}

    def features(self, batch: SequenceBatch) -> Iterator[tuple[str, Float[Tensor, "b i_plus_1"]]]:
        """Yields the name and the values of each feature for the whole catalogue."""
        if self.use_times:
            yield from self._time_features(batch)
        elif self.train_count is not None:
            yield "popularity", self.train_count.float().log1p().expand(len(batch["history"]), -1)
        last = history_matrix(batch["history"][:, -1:], self.num_items)
        history = history_matrix(batch["history"], self.num_items)
        yield "next", _dense(last @ self.next).log1p_()
        yield "cosine_last", _dense(last @ self.cosine)
        yield "cosine_history", _dense(history @ self.cosine)
        yield "repeat", _dense(history)
        for name, chain in self.links.items():
            yield f"{name}_last", _dense(reduce(matmul, chain, last))
            yield f"{name}_history", _dense(reduce(matmul, chain, history)).log1p_()

    def _time_features(self, batch: SequenceBatch) -> Iterator[tuple[str, Float[Tensor, "b i_plus_1"]]]:
        now = query_time(batch, self.clock).cpu()
        until_now = self.events.counts(now)
        for days in WINDOWS:
            yield f"popular_{days}d", (until_now - self.events.counts(now - days * DAY)).log1p_()
        born = until_now > 0
        yield "popularity", until_now.log1p_()
        yield "unborn", (~born).float()
        for name, since in (("age", self.first), ("rest", self.events.last_times(now))):
            yield name, torch.where(born, (now[:, None] - since).double() / DAY, 0).float().log1p_()

    def fit(self, batches: Iterable[SequenceBatch]) -> None:
        """Fits the weights on sampled cases, of which the first ``MAX_CASES`` are read; each counts once.

        Args:
            batches: Evaluation batches with ``candidates``, the target in column 0.

        Raises:
            UserError: If they have none, because their protocol ranks the catalogue.
        """
        cases: dict[int, Tensor] = {}
        for batch in batches:
            if "candidates" not in batch:
                what = f"--model.fit_protocol {self.fit_protocol} ranks the catalogue and stores no candidates."
                raise UserError(what, "Name a protocol that does, such as sampled-19.")
            columns = [values.gather(1, batch["candidates"].long().cpu()) for _, values in self.features(batch)]
            # A case that comes again replaces itself.
            cases |= zip(batch["case_id"].tolist(), torch.stack(columns, dim=2), strict=True)
            if len(cases) >= MAX_CASES:
                break
        # As many whatever the size of a batch.
        weights = conditional_logit(torch.stack(list(cases.values())[:MAX_CASES]), self.ridge)
        self.weights = torch.nn.functional.pad(weights, (0, MAX_FEATURES - len(weights))).float()

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Weighted sum of the features."""
        # Lightning makes bf16 the default under ``bf16-true``, which would make ties.
        scores = torch.zeros(len(batch["history"]), self.num_items + 1, dtype=torch.float32)
        for (_, values), weight in zip(self.features(batch), self.weights.tolist(), strict=False):
            scores.add_(values, alpha=weight)
        return scores.to(self.device)


def conditional_logit(features: Float[Tensor, "m c f"], ridge: float) -> Float[Tensor, "f"]:
    """Weights that make candidate 0 of each case most probable, float64 of shape ``(f,)``.

    A feature that does not vary gets weight 0. Means are not subtracted, since they do not change the softmax.

    Args:
        features: Features of each candidate of each case, the target first.
        ridge: L2 coefficient of the weights of standardised features.
    """
    scale = features.double().std(dim=(0, 1))
    scaled = features.double() / torch.where(scale > 0, scale, torch.inf)
    weights = torch.zeros(features.size(2), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = -(scaled @ weights).log_softmax(dim=1)[:, 0].mean() + ridge * weights.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return weights.detach() / torch.where(scale > 0, scale, torch.inf)


def transitions(train: Sequences, num_items: int) -> sparse.csr_array:
    """How often each item (column) directly followed each item (row) in a user's training events."""
    offsets, items = train["offsets"].cpu().numpy(), train["items"].cpu().numpy()
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    same = users[1:] == users[:-1]
    return _counted(items[:-1][same], items[1:][same], num_items + 1)


def _counted(rows: np.ndarray, columns: np.ndarray, size: int) -> sparse.csr_array:
    """How often each pair occurs, shape ``(size, size)``."""
    return sparse.coo_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(size, size)).tocsr()


def _links(pairs: Tensor, num_items: int) -> sparse.csr_array:
    """Sparse matrix with 1 where the relation leads from the row's item to the column's."""
    heads, tails = pairs.cpu().numpy().T
    links = _counted(heads, tails, num_items + 1)
    links.data[:] = 1.0
    return links


def _known_values(attributes: Mapping[str, Tensor]) -> dict[str, sparse.csr_array]:
    """For each attribute a sparse matrix with 1 where the row's item has the column's value; flags become one."""
    values = {name: _one_hot(ids) for name, ids in attributes.items()}
    flags = [name for name, ids in attributes.items() if int(ids.max()) == 1]
    if flags:
        values[FLAGS] = sparse.hstack([values.pop(name) for name in flags], format="csr")
    return values


def _one_hot(ids: Tensor) -> sparse.csr_array:
    """Sparse matrix with 1 where the row's item has the column's value; rows of unknown values are empty."""
    columns = ids.cpu().numpy()
    known = columns.nonzero()[0]
    shape = (len(columns), int(columns.max(initial=0)) + 1)
    return sparse.csr_array((np.ones(len(known), np.float32), (known, columns[known])), shape=shape)


def _fullest(tables: Mapping[str, sparse.csr_array]) -> dict[str, sparse.csr_array]:
    """The ``MAX_LINKS`` matrices with the most entries, without empty ones, by name."""
    first = sorted(tables, key=lambda name: (-tables[name].nnz, name))[:MAX_LINKS]
    return {name: tables[name] for name in sorted(first) if tables[name].nnz}


def _dense(rows: sparse.csr_array) -> Tensor:
    return torch.from_numpy(rows.toarray().astype(np.float32, copy=False))
