"""Tiny language models of three families, in folders as Transformers saves them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, normalizers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.decoders import Metaspace as MetaspaceDecoder
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, Metaspace, Punctuation, WhitespaceSplit
from tokenizers.pre_tokenizers import Sequence as Steps
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

FAMILIES = ("opt", "llama", "qwen2")
TITLES = ["", "red wolf", "blue sea", "old road", "lost city", "gold king", "iron day", "night fire", "green stone"]
TITLES += ["far home", "long river", "storm", "ghost", "red king", "red wolf two", "sea", "old sea", "wolf", "city"]
TITLES += ["day", "fire wolf", "stone king", "home", "road day", "king"]
WORDS = sorted({word for title in TITLES for word in title.split()})


def word_tokenizer(vocabulary: Mapping[str, int], begin: str | None = "<s>", end: str = "</s>") -> Tokenizer:
    """Words and single punctuation marks, behind a beginning token if there is one."""
    tokenizer = Tokenizer(WordLevel(dict(vocabulary), unk_token="<unk>"))
    tokenizer.pre_tokenizer = Steps([WhitespaceSplit(), Punctuation()])
    if begin:
        tokenizer.post_processor = TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, vocabulary[begin])])
    return tokenizer


def bpe_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Byte pairs learnt from a few texts, with no beginning token, as Qwen has it."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=320, special_tokens=["</s>"], initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def piece_tokenizer(texts: Sequence[str], entries: Sequence[str]) -> Tokenizer:
    """Pieces of words behind a beginning token; as in Llama 2, a mark stands for spaces and in front of any text."""
    tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer, tokenizer.decoder = Metaspace(), MetaspaceDecoder()
    trainer = BpeTrainer(vocab_size=300, special_tokens=list(entries), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    # Llama 2 marks words without parting them.
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


def model(family: str, vocabulary: int, context: int = 512, **sizes: int) -> PreTrainedModel:
    common: dict[str, Any] = {
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "hidden_size": 16,
        "num_hidden_layers": 2,
    }
    common |= {"num_attention_heads": 2, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None, **sizes}
    torch.manual_seed(5)
    built: PreTrainedModel
    if family == "opt":
        built = OPTForCausalLM(OPTConfig(ffn_dim=24, word_embed_proj_dim=12, dropout=0.1, init_std=0.3, **common))
    elif family == "llama":
        built = LlamaForCausalLM(LlamaConfig(intermediate_size=24, initializer_range=0.3, **common))
    else:
        options: dict[str, Any] = {"num_key_value_heads": 1, "tie_word_embeddings": True}
        built = Qwen2ForCausalLM(Qwen2Config(intermediate_size=24, initializer_range=0.3, **options, **common))
    return built


def save(folder: Path, built: PreTrainedModel, tokenizer: Tokenizer, begin: str | None, pad: str | None) -> str:
    built.save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=begin, eos_token="</s>", pad_token=pad)
    fast.save_pretrained(folder)
    return str(folder)


def open_its_eyes(folder: Path, **text: int) -> str:
    """Puts a model that sees pictures, too, in the place of a folder's own; ``text`` is about how it reads."""
    shared = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    own: dict[str, Any] = {"vocab_size": AutoConfig.from_pretrained(folder).vocab_size, "num_key_value_heads": 1}
    own |= {"head_dim": 8, "max_position_embeddings": 512, "pad_token_id": None}
    pictures = shared | {"image_size": 28, "patch_size": 14}
    torch.manual_seed(5)
    config = Gemma3Config(text_config=shared | own | text, vision_config=pictures)
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def build(folder: Path, family: str, context: int = 512) -> str:
    """A folder with a tiny model: words for OPT, pieces for Llama, byte pairs and no beginning for Qwen2; OPT pads."""
    sentence = (
        "One of these items comes next : \" The one they will buy is stands for a person's taste So far bought ,."
    )
    words = sorted({*WORDS, *"".join(c if c.isalnum() else " " for c in sentence).split()})
    if family == "qwen2":
        tokenizer, begin = bpe_tokenizer([*TITLES, sentence]), None
    elif family == "llama":
        tokenizer, begin = piece_tokenizer([*TITLES, "untitled", sentence], ["<s>", "<pad>", "</s>", "<unk>"]), "<s>"
    else:
        entries = ["<s>", "<pad>", "</s>", "<unk>", *"\",.:'", *words]
        tokenizer, begin = word_tokenizer({word: i for i, word in enumerate(entries)}), "<s>"
    built = model(family, tokenizer.get_vocab_size(), context)
    return save(folder / family, built, tokenizer, begin, "<pad>" if family == "opt" else None)
