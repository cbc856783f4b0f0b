"""A sentence model whose last layers learn, and whose lower layers are computed only once."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities.memory import is_oom_error
from torch import Tensor, nn

from allmrec.frozen import Frozen, digest_of
from allmrec.sentences import TextTower
from allmrec.tokens import in_batches, similar_lengths
from common.errors import UserError, at_least


class LayeredTower(TextTower):
    """Vectors of item texts from a sentence model whose last layers are fine-tuned.

    If no layer learns, the vector of each item is computed once. If some layers learn, the token states below them are
    computed once, without dropout, and only the learning layers run again. If the whole model learns, including its
    word vectors, all of it runs every time. What a model says before it has learnt anything is kept from run to run.

    Args:
        name: ``minilm`` (packaged weights), a name on the hub, or a folder.
        trained_layers: Number of last layers that learn; ``None`` for the whole model.
        max_tokens: Longer texts are cut after this many tokens; ``None`` takes the model's own limit.
        rows: Texts per forward pass.

    Raises:
        UserError: If the model cannot be loaded, or has fewer layers.
    """

    def __init__(
        self, name: str, trained_layers: int | None = None, max_tokens: int | None = None, rows: int = 64
    ) -> None:
        at_least(0, trained_layers=trained_layers)
        super().__init__(name, trained=trained_layers != 0, max_tokens=max_tokens, rows=rows, unit=False)
        self.lower: Frozen[nn.Module] | None = None
        if trained_layers:
            transformer = cast(Any, self.model)[0]
            lower, transformer.model = split_layers(transformer.auto_model, trained_layers, name)
            self.lower = Frozen(lower)
        self.states: Float[Tensor, "m w"] | None = None
        self.loaded: str | None = digest_of(self.model) if self.trained else None

    def attach(self, texts: Sequence[str], cache: Path | None = None, kind: str = "texts") -> None:
        """Tokenises the text of each item; index 0 is padding."""
        super().attach(texts, cache, kind)
        self.states = None

    @torch.no_grad()
    def all(self, device: torch.device) -> Float[Tensor, "i_plus_1 w"]:
        """Vectors of the whole catalogue, without dropout, which the cache keeps unless the weights have changed."""
        if self.cache is None or not self.as_loaded():
            return super().all(device)
        mode = self.training
        self.eval()
        vectors = self._frozen_table(device)
        self.train(mode)
        return vectors.to(device)

    def as_loaded(self) -> bool:
        """Whether the layers that learn have learnt nothing yet; once they have, this is not asked again."""
        single = all(parameter.dtype == torch.float32 for parameter in self.parameters())
        if self.loaded is not None and not (single and digest_of(self.model) == self.loaded):
            self.loaded = None
        return self.loaded is not None

    # Validation runs in inference mode, and no training step can use its tensors.
    @torch.inference_mode(False)
    @torch.no_grad()
    def lower_states(self, device: torch.device) -> Float[Tensor, "m w"]:
        """Token states of all items below the learning layers, one item after the other; computed once."""
        if self.states is None:
            batches = similar_lengths(torch.tensor([len(row) for row in self.ids]), self.rows)
            self.starts = torch.tensor([0, *(len(row) for row in self.ids)]).cumsum(0)[:-1]
            # Layers behind the tokens' may give vectors another width.
            width = int(cast(Any, self.lower).module.config.hidden_size)
            self.states = torch.zeros(sum(map(len, self.ids)), width, device=device)
            for batch in batches:
                self._fill([self.ids[i] for i in batch.tolist()], self.starts[batch], self.states)
        self.states = self.states.to(device)
        return self.states

    def _fill(self, rows: list[list[int]], starts: Int[Tensor, "n"], states: Float[Tensor, "m w"]) -> None:
        ids, real = self._padded(rows, states.device)
        assert self.lower is not None
        made = self.lower(input_ids=ids, attention_mask=real.long()).last_hidden_state
        place = starts.to(states.device)[:, None] + torch.arange(ids.size(1), device=states.device)
        states[place[real]] = made[real]

    def _encode(self, items: Int[Tensor, "n"]) -> Float[Tensor, "n w"]:
        if self.lower is None:
            return super()._encode(items)
        states = self.lower_states(items.device)
        chosen = items.tolist()
        lengths = torch.tensor([len(self.ids[item]) for item in chosen])
        return in_batches(lengths, self.rows, lambda batch: self._upper([chosen[i] for i in batch.tolist()], states))

    def _upper(self, items: list[int], states: Float[Tensor, "m w"]) -> Float[Tensor, "n d"]:
        ids, real = self._padded([self.ids[item] for item in items], states.device)
        place = self.starts[items].to(states.device)[:, None] + torch.arange(ids.size(1), device=states.device)
        given = states[place.clamp(max=len(states) - 1)]
        transformer, *after = cast(Any, self.model)
        upper = transformer.auto_model(inputs_embeds=given, attention_mask=real.long()).last_hidden_state
        features: dict[str, Tensor] = {"token_embeddings": upper, "attention_mask": real.long()}
        for module in after:
            features = module(features)
        return features["sentence_embedding"]


def with_encoder_group(owner: nn.Module, encoder: nn.Module | None, lr: float) -> list[dict[str, Any]]:
    """Parameter groups: the encoder, if it learns, comes second and has its own learning rate."""
    own = list(encoder.parameters()) if encoder is not None else []
    known = {id(parameter) for parameter in own}
    rest = [parameter for parameter in owner.parameters() if id(parameter) not in known]
    return [{"params": rest}, *([{"params": own, "lr": lr}] if own else [])]


class GivenStates(nn.Module):
    """Replaces the embedding layer of a model and passes on the states that it is given."""

    def forward(self, *args: Tensor | None, inputs_embeds: Tensor | None = None, **kwargs: object) -> Tensor:
        """``inputs_embeds``, the only tensor among the arguments."""
        return inputs_embeds if inputs_embeds is not None else next(arg for arg in args if arg is not None)


def split_layers(model: nn.Module, top: int, name: str) -> tuple[nn.Module, nn.Module]:
    """Splits an encoder below its last ``top`` layers into a lower and an upper model.

    Args:
        model: BERT, DistilBERT, RoBERTa or a similar model: embeddings, a list of layers, and at most a pooler.
        top: Layers of the upper part.
        name: Name of the model for messages.

    Raises:
        UserError: If the model has another structure, or not more than ``top`` layers.
    """
    inseparable = UserError(
        f"the layers of {name!r} ({type(model).__name__}) cannot be split into frozen and trained ones",
        "Give trained_layers 0 or null, or a BERT, DistilBERT, RoBERTa or MPNet model.",
    )
    lower, upper = deepcopy(model), deepcopy(model)
    stacks = [getattr(part, place, None) for part in (lower, upper) for place in ("encoder", "transformer")]
    found = [stack for stack in stacks if isinstance(getattr(stack, "layer", None), nn.ModuleList)]
    if len(found) != 2 or not hasattr(model, "embeddings"):
        raise inseparable
    count = len(cast(Any, found[0]).layer)
    if top >= count:
        raise UserError(
            f"trained_layers is {top}, but {name!r} has {count} layers",
            f"Give at most {count - 1}, or null to train the whole model.",
        )
    below, above = cast(Any, found[0]), cast(Any, found[1])
    below.layer, above.layer = below.layer[: count - top], above.layer[count - top :]
    upper.embeddings = GivenStates()
    try:
        same = reads_alike(model, lower, upper)
    except Exception as error:
        if is_oom_error(error):
            raise
        raise inseparable from error
    if not same:
        raise inseparable
    return lower, upper


@torch.no_grad()
def reads_alike(model: nn.Module, lower: nn.Module, upper: nn.Module) -> bool:
    """Whether two parts of an encoder say of a short text what all of it says.

    Some do more between embeddings and layers, or behind all layers, which either part would do once.
    """
    tokens = torch.arange(8)[None]
    whole = model.eval()(input_ids=tokens).last_hidden_state
    states = lower.eval()(input_ids=tokens).last_hidden_state
    parts = upper.eval()(inputs_embeds=states).last_hidden_state
    return torch.allclose(parts, whole, rtol=1e-3, atol=1e-3)
