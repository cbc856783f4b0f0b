"""Tiny sentence models in folders, for catalogues of a few words."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tests.allmrec.tiny import word_tokenizer


def build(folder: Path, words: Iterable[str], family: str = "bert", layers: int = 2) -> str:
    """A folder with a tiny sentence model that knows ``words``: width 12, mean pooling, vectors of length 1."""
    entries = ["<s>", "<pad>", "</s>", "<unk>", *sorted({*words, *",:;."})]
    vocabulary = {word: i for i, word in enumerate(entries)}
    tokenizer: Tokenizer = word_tokenizer(vocabulary)
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(token, vocabulary[token]) for token in ("<s>", "</s>")]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")
    fast.save_pretrained(folder / family)
    torch.manual_seed(6)
    model: PreTrainedModel
    if family == "bert":
        sizes: dict[str, Any] = {"hidden_size": 12, "num_hidden_layers": layers, "num_attention_heads": 2}
        model = BertModel(BertConfig(vocab_size=len(entries), intermediate_size=16, initializer_range=0.3, **sizes))
    else:
        sizes = {"dim": 12, "n_layers": layers, "n_heads": 2, "hidden_dim": 16}
        model = DistilBertModel(DistilBertConfig(vocab_size=len(entries), initializer_range=0.3, **sizes))
    model.save_pretrained(folder / family)
    transformer = Transformer(str(folder / family))
    SentenceTransformer(modules=[transformer, Pooling(12), Normalize()], device="cpu").save(
        str(folder / f"sbert-{family}")
    )
    return str(folder / f"sbert-{family}")


def with_map(sbert: str, width: int, folder: Path) -> str:
    """A folder with the same model and a linear map to another width behind its pooling, in place of the last step."""
    torch.manual_seed(7)
    transformer, pooling, _ = SentenceTransformer(sbert, device="cpu")
    SentenceTransformer(modules=[transformer, pooling, Dense(12, width)], device="cpu").save(str(folder))
    return str(folder)
