"""RecFormer's encoder: the Longformer of Transformers, with embeddings of item positions."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, LongformerConfig, LongformerModel, PreTrainedTokenizerFast
from transformers.models.longformer.modeling_longformer import LongformerLMHead

from allmrec.baselines.recformer_text import Text
from common.errors import UserError, at_least
from common.text.revisions import unavailable

TOKEN_TYPES = 4
SMALLEST_VOCABULARY = 261
"""Number of bytes and special tokens."""


class RecFormerEncoder(nn.Module):
    """Reads texts; the vector of a text is the final state of ``<s>``, the only token with global attention.

    ``x_t = norm(word_t + position_t + type_t + item_t)``: the type says whether a token belongs to the name or to the
    value of an attribute, the item position how many items ago its item was. All other tokens attend within a window.

    Args:
        config: Configuration of the Longformer, with four token types.
        max_items: Items of a text.
        model: Longformer with weights; by default a new one is made from ``config``.
    """

    def __init__(self, config: LongformerConfig, max_items: int, model: LongformerModel | None = None) -> None:
        super().__init__()
        self.config = config
        self.longformer = model if model is not None else LongformerModel(config, add_pooling_layer=False)
        self.item_embedding = nn.Embedding(max_items + 1, config.hidden_size)
        nn.init.normal_(self.item_embedding.weight, std=config.initializer_range)

    @property
    def window(self) -> int:
        """Width of the attention window in tokens, half of it on either side."""
        windows = self.config.attention_window
        return windows if isinstance(windows, int) else max(windows)

    def positions(self, real: Bool[Tensor, "b t"]) -> Int[Tensor, "b t"]:
        """Position of each token in its text, counted from the id after padding's, as in RoBERTa."""
        padding = int(self.config.pad_token_id or 0)
        return padding + real.long().cumsum(1) * real

    def words(self, text: Text, fixed: bool = False) -> Float[Tensor, "b t d"]:
        """Sum of word vectors and item positions, to which the embedding layer of the Longformer adds the rest.

        Args:
            text: Texts.
            fixed: Whether word vectors are frozen.
        """
        table = self.longformer.embeddings.word_embeddings.weight
        words = F.embedding(text.ids, table.detach() if fixed else table)
        placed: Tensor = words + self.item_embedding(text.places)
        return placed

    def forward(self, text: Text, fixed: bool = False) -> Float[Tensor, "b t d"]:
        """Final states of all tokens; those of padding are meaningless.

        Args:
            text: Texts, padded to a multiple of the window.
            fixed: Whether word vectors are frozen.
        """
        front = torch.zeros_like(text.ids)
        front[:, 0] = 1
        states: Tensor = self.longformer(
            inputs_embeds=self.words(text, fixed),
            token_type_ids=text.types,
            position_ids=self.positions(text.real),
            attention_mask=text.real.long(),
            global_attention_mask=front,
        ).last_hidden_state
        return states


class WordHead(LongformerLMHead):
    """Scores of the vocabulary for hidden words: linear map, GELU, layer norm, and an output matrix with bias."""

    def __init__(self, config: LongformerConfig) -> None:
        super().__init__(config)  # type: ignore[no-untyped-call]  # `super` hides that it is Transformers'
        # Transformers ties this to the decoder's bias, under a second name.
        del self.bias

    def loss(
        self, states: Float[Tensor, "b t d"], ids: Int[Tensor, "b t"], wanted: Bool[Tensor, "b t"]
    ) -> Float[Tensor, ""]:
        """Cross-entropy over hidden words, 0 where none is hidden."""
        if not bool(wanted.any()):
            return states.sum() * 0.0
        return F.cross_entropy(self(states[wanted]), ids[wanted])


def small_config(
    vocabulary: int, width: int, layers: int, heads: int, window: int, max_tokens: int, dropout: float
) -> LongformerConfig:
    """Configuration of a Longformer to train from scratch; its feed-forward maps are four times as wide.

    Raises:
        UserError: If ``width`` is not a multiple of ``heads``, ``window`` is odd, or the vocabulary has no room for all
            bytes.
    """
    require_even(window)
    at_least(SMALLEST_VOCABULARY, vocabulary=vocabulary)
    if width % heads:
        raise UserError(f"width {width} with {heads} heads", "Give a width that is a multiple of the heads.")
    return LongformerConfig(
        attention_window=[window] * layers,
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        # Positions count from the id after padding's, and texts are padded to a multiple of the window.
        max_position_embeddings=max_tokens + window + 2,
        type_vocab_size=TOKEN_TYPES,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        layer_norm_eps=1e-5,
        # Longformer's 0.02 suits a width of 768. In a narrow model, <s> would hardly depend on its text: the vectors of
        # all items would start out equal and stay so.
        initializer_range=0.02 * (768 / width) ** 0.5,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )


def load(name: str, max_items: int, window: int, max_tokens: int) -> tuple[RecFormerEncoder, PreTrainedTokenizerFast]:
    """A pre-trained Longformer and its tokenizer, with new embeddings of token types and item positions.

    Args:
        name: Name on the hub, or a folder.
        max_items: Items of a text.
        window: Width of the attention window in tokens.
        max_tokens: Tokens of a text.

    Raises:
        UserError: If it cannot be loaded, is not a Longformer, or has fewer positions than ``max_tokens``.
    """
    require_even(window)
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise unavailable(name, error) from error
    if not isinstance(config, LongformerConfig):
        raise UserError(
            f"{name!r} is a {config.model_type}, and RecFormer's encoder is a Longformer",
            "Give a Longformer such as allenai/longformer-base-4096, or null to train a small one from scratch.",
        )
    places = int(config.max_position_embeddings) - int(config.pad_token_id or 0) - 1
    if max_tokens > places:
        raise UserError(
            f"max_tokens is {max_tokens}, and {name!r} has positions for {places} tokens",
            f"Give --model.max_tokens {places} or fewer.",
        )
    config.type_vocab_size = TOKEN_TYPES
    config.attention_window = [window] * config.num_hidden_layers
    # By default, weights stay in the type that they are stored in, and the new ones above them are fp32.
    options: dict[str, Any] = {"add_pooling_layer": False, "ignore_mismatched_sizes": True, "dtype": torch.float32}
    try:
        model = LongformerModel.from_pretrained(name, config=config, **options)
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise unavailable(name, error) from error
    # BERT's begins a text with the token that classifies it.
    tokenizer.bos_token = tokenizer.bos_token or tokenizer.cls_token
    return RecFormerEncoder(config, max_items, model), cast(PreTrainedTokenizerFast, tokenizer)


def require_even(window: int) -> None:
    """Checks that half a window fits on either side.

    Raises:
        UserError: If it does not.
    """
    if window % 2 or window < 2:
        raise UserError(f"--model.window is {window}", "Give an even number, 2 or more.")
