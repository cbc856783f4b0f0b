"""Initial weights with which a small OPT learns in minutes to name the candidate that a vector points at."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import OPTForCausalLM
from transformers.models.opt.modeling_opt import OPTAttention

HEADS = 4
PARTS = 2 * HEADS
"""Parts of a token vector; a head compares two."""
USER, PLACE, WORD, BEFORE, FOUND, BAG, MARK = 0, 2, 3, 4, 5, 6, 7
"""What the parts hold at the start of training: what was read of the user's vector (two parts), the place of a token,
which token it is, which token precedes it, where the slot was found, which words are nearby, and whether this is the
user's place."""
READ = (WORD, FOUND)
"""Parts of a slot's vector that are compared: those that no head of the first layer writes to."""


@torch.no_grad()
def start_as_copier(model: OPTForCausalLM, title_tokens: float) -> None:
    """Sets initial weights from which the pretext task can be learnt in minutes.

    From random weights a small model learns to name some candidate, and then no gradient points to the right one.
    Therefore a few heads start as what the task needs. First layer: one fetches the user's vector from its place in the
    prompt; one notes at each token the word before it; one the words shortly before. Second layer: one looks for the
    slot with the user's vector, notes its place and says its words. Third layer: one looks shortly before that place
    for a token that follows the current word, and says it. All other heads have equal query and key projections, so
    that similar vectors attend to each other. All of this is trained.

    Args:
        model: A model of three layers or more.
        title_tokens: Tokens of an average title, which a slot follows.
    """
    decoder, width = model.model.decoder, model.config.hidden_size
    part = width // PARTS
    words, places = decoder.embed_tokens.weight, decoder.embed_positions.weight
    words.zero_()[:, _part(WORD, part)] = torch.randn(len(words), part)
    # Places a few tokens apart have similar vectors.
    pace = torch.logspace(-2.5, 0.4, part // 2)
    angles = (torch.arange(len(places)) - 2)[:, None] * pace
    places.zero_()[:, _part(PLACE, part)] = 3 * torch.cat([angles.sin(), angles.cos()], dim=1)
    for layer in decoder.layers:
        attention = layer.self_attn
        for projection in (attention.q_proj, attention.v_proj):
            torch.nn.init.normal_(projection.weight, std=0.05)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        torch.nn.init.normal_(attention.out_proj.weight, std=0.02)
    read = torch.zeros(2 * part, width)
    # Orthogonal, so that vectors are as like each other where they are read as where they stand.
    turned = torch.nn.init.orthogonal_(torch.empty(2 * part, 2 * part))
    for number, columns in zip(READ, turned.chunk(len(READ), dim=1), strict=True):
        read[:, _part(number, part)] = columns
    parts = torch.eye(width).view(PARTS, part, width)
    word, place, before, found, bag, mark = (parts[number] for number in (WORD, PLACE, BEFORE, FOUND, BAG, MARK))
    user = parts[USER : USER + 2].flatten(0, 1)
    first, second, third = (layer.self_attn for layer in decoder.layers[:3])
    # The user's slot is the second token, behind the beginning; OPT's table of places starts two rows late.
    places[1 + 2, _part(MARK, part)] = 4.0
    slow = torch.diag((pace < 4 / title_tokens).float().repeat(2))
    _wire(first, 0, 0 * mark, mark, (read, USER, 2.0))
    first.q_proj.bias[:part] = 3.0
    _wire(first, 1, _earlier(pace, 1.0) @ place, place, (word, BEFORE, 2.0))
    # Slow paces alone see that a place is near without minding how many tokens exactly.
    _wire(first, 2, _earlier(pace, 0.6 * title_tokens) @ place, slow @ place, (word, BAG, 2.0))
    seek, keys = 2.2 * user, 2.2 * read
    # The user's slot holds the user's vector too, and is not what is looked for.
    seek[0], keys[0] = 0.0, -mark.sum(0)
    _wire(second, 0, seek, keys, (place, FOUND, 2.0), (bag, WORD, 0.5))
    second.q_proj.bias[0] = 3.2
    near = 2 * _earlier(pace, 0.6 * title_tokens) @ found, 2 * slow @ place
    _wire(third, 0, torch.cat([2 * word, near[0]]), torch.cat([2 * before, near[1]]), (word, WORD, 2.0))


def _earlier(pace: Float[Tensor, "p"], tokens: float) -> Float[Tensor, "w w"]:
    """The matrix that turns the vector of a place into that of the place some tokens earlier."""
    cos, sin = torch.diag((pace * tokens).cos()), torch.diag((pace * tokens).sin())
    return torch.cat([torch.cat([cos, -sin], dim=1), torch.cat([sin, cos], dim=1)])


def _part(number: int, size: int) -> slice:
    return slice(number * size, (number + 1) * size)


def _wire(
    attention: OPTAttention,
    head: int,
    query: Float[Tensor, "q w"],
    key: Float[Tensor, "q w"],
    *moves: tuple[Tensor, int, float],
) -> None:
    """Makes one head compare what ``query`` and ``key`` read of tokens, and move what it finds.

    Args:
        attention: The layer's attention.
        head: Number of the head.
        query: What is read of the token that asks.
        key: What is read of the tokens that are asked.
        moves: What is read of the found token, the part that it is added to, and how many times.
    """
    own = _part(head, attention.head_dim)
    start, part = own.start, attention.head_dim // 2
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[own] = 0
    attention.out_proj.weight[:, own] = 0
    attention.q_proj.weight[start : start + len(query)] = query
    attention.k_proj.weight[start : start + len(key)] = key
    for value, out, gain in moves:
        end = start + len(value)
        attention.v_proj.weight[start:end] = value
        attention.out_proj.weight[out * part : out * part + len(value), start:end] = gain * torch.eye(len(value))
        start = end
