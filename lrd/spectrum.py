"""How long it takes until a relation leads to the next event: histograms of intervals, and their spectra."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.data.splits import event_users
from common.errors import UserError
from common.nn.exact import float64_device
from common.types import Catalogue, Sequences
from lrd.graph import known_attributes

MINUTE = 60


def log_age(now: Int[Tensor, "*n"], then: Int[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Logarithmic age ``max(0, log₂(Δt / 60 s + 10⁻⁶))`` of events, shape ``(*n,)``."""
    minutes = (now - then).to(float64_device(now.device)).double() / MINUTE
    return (minutes + 1e-6).clamp_min(1e-12).log2().clamp_min(0).float().to(now.device)


def interval_histograms(catalogue: Catalogue, num_points: int) -> Float[Tensor, "r {num_points}"]:
    """Histograms of whole logarithmic ages, one per relation of :class:`Graph`, each divided by its largest count.

    Intervals of the virtual relation lie between consecutive events of a user; of an attribute, between consecutive
    events of a user among those with one value; of an item relation, between an event and the newest one of the user at
    an earlier time with an edge to it. Intervals of zero are skipped. A relation without any interval takes the
    histogram of the virtual one. The released code counts validation and test events as well, and items without a value
    as items of one value; ours neither.

    Raises:
        UserError: If an interval is too long for ``num_points``.
    """
    train, num_items = catalogue["train"], catalogue["num_items"]
    rows = [_binned(_consecutive(train), num_points)]
    rows += [_binned(_since_related(train, edges, num_items), num_points) for edges in catalogue["relations"].values()]
    rows += [_binned(_consecutive(train, values), num_points) for values in known_attributes(catalogue).values()]
    histograms = torch.stack(rows)
    return torch.where(histograms.any(1, keepdim=True), histograms, histograms[0])


def fourier_coefficients(histograms: Float[Tensor, "r n"]) -> tuple[Float[Tensor, "r f"], Float[Tensor, "r f"]]:
    """Real and imaginary part of the first ``n/2 + 1`` Fourier coefficients, doubled, as KDA starts from them."""
    coefficients = 2 * torch.fft.rfft(histograms.double())
    return coefficients.real.float(), coefficients.imag.float()


def _binned(ages: Float[Tensor, "n"], num_points: int) -> Float[Tensor, "{num_points}"]:
    bins = ages.long()
    if len(bins) and int(bins.max()) >= num_points:
        raise UserError(
            f"The longest interval has the logarithmic age {int(bins.max())}, but the transform has {num_points} "
            "points.",
            f"Set num_points of KDA to at least {2 ** int(bins.max()).bit_length()}.",
        )
    counts = torch.bincount(bins, minlength=num_points).float()
    return counts / counts.max().clamp(min=1)


def _consecutive(train: Sequences, values: Int[Tensor, "i_plus_1"] | None = None) -> Float[Tensor, "m"]:
    """Ages between neighbours among the events of a user, or among those with one known value."""
    users, times = event_users(train), train["times"].long()
    if values is None:
        groups = users
    else:
        value = values[train["items"].long()]
        groups = (users * (int(values.max()) + 1) + value)[value > 0]
        times = times[value > 0]
        order = groups.argsort(stable=True)
        groups, times = groups[order], times[order]
    gaps = (groups[1:] == groups[:-1]) & (times[1:] > times[:-1])
    return log_age(times[1:][gaps], times[:-1][gaps])


def _since_related(train: Sequences, edges: Int[Tensor, "m 2"], num_items: int) -> Float[Tensor, "k"]:
    """Ages of the newest event at an earlier time that an edge leads from, for all events that have one."""
    items, times = train["items"].long(), train["times"].long()
    # Below every pair, so that each has a last key that is not above it.
    lowest = edges.new_full((1,), -1)
    keys = torch.cat([lowest, edges[:, 0] * (num_items + 1) + edges[:, 1]]).sort().values
    place = torch.arange(len(items)) - train["offsets"].long()[event_users(train)]
    waiting, found = torch.arange(len(items)), [times.new_empty(0, 2)]
    for lag in range(1, int(place.max()) + 1 if len(place) else 1):
        waiting = waiting[place[waiting] >= lag]
        earlier = waiting - lag
        pairs = items[earlier] * (num_items + 1) + items[waiting]
        linked = keys[torch.searchsorted(keys, pairs, right=True) - 1] == pairs
        related = linked & (times[earlier] < times[waiting])
        found.append(torch.stack([times[waiting], times[earlier]], dim=1)[related])
        waiting = waiting[~related]
    now, then = torch.cat(found).T
    return log_age(now, then)
