"""Encoders against naive loops and small models made on the spot."""

import functools
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.memory import is_oom_error
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling as SentencePooling
from sentence_transformers.sentence_transformer.modules import Transformer
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5Model,
)

from common.errors import UserError
from common.text.cache import text_vectors
from common.text.encoders import (
    LanguageModelEncoder,
    Pooling,
    PrecomputedVectors,
    SentenceEncoder,
    open_encoder,
    packaged_minilm,
)

TEXTS = ["red printer ink", "paper", "a long black cable for the red printer", "ink ink"]


WORDS = ["[PAD]", "[UNK]", *sorted({word for text in TEXTS for word in text.split()})]
SMALL: dict[str, Any] = {
    "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32,
}  # fmt: skip


def saved(folder: Path, model: PreTrainedModel, **special: str) -> Path:
    """A folder with ``model`` and a word tokenizer that has the special tokens ``special``."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", **special)
    fast.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of 2 layers with a word tokenizer, saved as a folder."""
    return saved(tmp_path_factory.mktemp("bert"), BertModel(BertConfig(**SMALL)), pad_token="[PAD]")


def alone(folder: Path, model: PreTrainedModel, limit: int | None = None) -> Tensor:
    """Mean states of each text by itself, cut behind ``limit`` tokens."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    with torch.inference_mode():
        ids = [tokenizer(text, return_tensors="pt")["input_ids"][:, :limit] for text in TEXTS]
        return torch.stack([model.eval()(input_ids=row).last_hidden_state[0].mean(0) for row in ids])


@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_language_model_equals_one_text_at_a_time(tiny_model: Path, pooling: Pooling) -> None:
    encoder = LanguageModelEncoder(str(tiny_model), pooling, batch_size=3)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_model)
    model = BertModel.from_pretrained(tiny_model).eval()
    with torch.inference_mode():
        states = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in TEXTS]
    pooled = {"cls": [s[0] for s in states], "mean": [s.mean(0) for s in states], "last": [s[-1] for s in states]}
    torch.testing.assert_close(encoder.encode(TEXTS), torch.stack(pooled[pooling]))


@pytest.mark.parametrize(("kind", "positions"), [("bert", 3), ("roberta", 5)])
def test_texts_are_cut_where_the_positions_of_a_model_end(kind: str, positions: int, tmp_path: Path) -> None:
    # RoBERTa's first position comes behind that of padding, whose id is 1.
    small = {**SMALL, "max_position_embeddings": positions}
    model = BertModel(BertConfig(**small)) if kind == "bert" else RobertaModel(RobertaConfig(**small, pad_token_id=1))
    folder = saved(tmp_path, model, pad_token="[UNK]" if kind == "roberta" else "[PAD]")
    torch.testing.assert_close(LanguageModelEncoder(str(folder), "mean").encode(TEXTS), alone(folder, model, 3))


def test_a_tokenizer_without_padding_has_some_token_for_it(tmp_path: Path) -> None:
    model = GPT2Model(GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2))
    folder = saved(tmp_path, model)
    torch.testing.assert_close(LanguageModelEncoder(str(folder), "mean").encode(TEXTS), alone(folder, model))


def test_of_an_encoder_decoder_the_encoder_is_asked(tmp_path: Path) -> None:
    model = T5Model(T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2))
    folder = saved(tmp_path, model, pad_token="[PAD]")
    expected = alone(folder, model.get_encoder())
    torch.testing.assert_close(LanguageModelEncoder(str(folder), "mean").encode(TEXTS), expected)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_weights_stored_in_half_precision_are_read_in_single(
    tiny_model: Path, stored: torch.dtype, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "half", BertModel.from_pretrained(tiny_model, dtype=stored), pad_token="[PAD]")
    expected = alone(folder, BertModel.from_pretrained(folder, dtype=torch.float32))
    torch.testing.assert_close(LanguageModelEncoder(str(folder), "mean").encode(TEXTS), expected)
    modules = [Transformer(str(folder)), SentencePooling(16)]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "sbert"))
    torch.testing.assert_close(SentenceEncoder(str(tmp_path / "sbert")).encode(TEXTS), expected)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_single_and_part_of_the_identity(tiny_model: Path, precision: str) -> None:
    single, half = (open_encoder(f"lm:{tiny_model}:mean{option}") for option in ("", f":{precision}"))
    exact, rough = single.encode(TEXTS), half.encode(TEXTS)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, atol=0.05, rtol=0.05)
    assert half.identity == {**single.identity, "precision": precision}


@pytest.fixture
def sentence_model(tiny_model: Path, tmp_path: Path) -> Path:
    modules = [Transformer(str(tiny_model)), SentencePooling(16)]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "sbert"))
    return tmp_path / "sbert"


def scarce(model: type[torch.nn.Module], room: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes ``model`` run out of memory with more than ``room`` texts; returns a list that fills with their numbers."""
    whole, tried = model.forward, list[int]()

    @functools.wraps(whole)
    def forward(self: torch.nn.Module, *args: Any, **inputs: Any) -> Any:  # noqa: ANN401
        tried.append(len(inputs["input_ids"]))
        if tried[-1] > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(self, *args, **inputs)

    monkeypatch.setattr(model, "forward", forward)
    return tried


@pytest.mark.parametrize("kind", ["lm", "sbert"])
def test_texts_that_do_not_fit_are_halved(
    kind: str, tiny_model: Path, sentence_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = open_encoder(f"lm:{tiny_model}:mean" if kind == "lm" else f"sbert:{sentence_model}")
    expected = encoder.encode(TEXTS)
    tried = scarce(BertModel, 2, monkeypatch)
    torch.testing.assert_close(encoder.encode(TEXTS), expected)
    assert tried[0] == 4
    assert tried[-2:] == [2, 2]


@pytest.mark.parametrize("kind", ["lm", "sbert"])
def test_a_text_that_does_not_fit_is_told(
    kind: str, tiny_model: Path, sentence_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = open_encoder(f"lm:{tiny_model}:mean" if kind == "lm" else f"sbert:{sentence_model}")
    scarce(BertModel, 0, monkeypatch)
    with pytest.raises(UserError, match=r"does not fit with a single text(.|\n)*--data.text_encoder") as caught:
        encoder.encode(TEXTS)
    assert not is_oom_error(caught.value)


def test_a_folder_without_a_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        open_encoder(f"sbert:{tmp_path}").encode(TEXTS)


def test_identity_changes_with_weights_and_pooling(tiny_model: Path, tmp_path: Path) -> None:
    identity = LanguageModelEncoder(str(tiny_model), "mean").identity
    assert identity != LanguageModelEncoder(str(tiny_model), "last").identity
    model = BertModel.from_pretrained(tiny_model)
    torch.nn.init.zeros_(model.embeddings.word_embeddings.weight)
    model.save_pretrained(tmp_path)
    assert identity["sha256"] != LanguageModelEncoder(str(tmp_path), "mean").identity["sha256"]


@pytest.mark.skipif(packaged_minilm() is None, reason="the extra minilm is not installed")
def test_packaged_sentence_encoder_knows_what_is_alike() -> None:
    vectors = open_encoder("minilm").encode(["ink cartridge for a printer", "toner for a printer", "red lipstick"])
    similarity = torch.nn.functional.normalize(vectors) @ torch.nn.functional.normalize(vectors).T
    assert vectors.shape == (3, 384)
    assert similarity[0, 1] > similarity[0, 2] + 0.2


@pytest.mark.parametrize("number_type", ["float32", "float64"])
def test_raw_numbers_npy_and_safetensors_agree(tmp_path: Path, number_type: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype(number_type)
    vectors.tofile(tmp_path / "feat.GPT")
    np.save(tmp_path / "v.npy", vectors)
    save_file({"v": torch.from_numpy(vectors)}, tmp_path / "v.safetensors")
    for spec in (f"feat.GPT:{number_type}", "v.npy", "v.safetensors"):
        loaded = open_encoder(f"file:{tmp_path / spec}").encode(TEXTS)
        np.testing.assert_array_equal(loaded.numpy(), vectors.astype("float32"))


def test_identity_of_a_vector_file_is_its_content_whatever_its_name(tmp_path: Path) -> None:
    for name, value in (("a.npy", 1.0), ("b.npy", 1.0), ("c.npy", 2.0)):
        np.save(tmp_path / name, np.full((4, 3), value))
    one, same, other = (open_encoder(f"file:{tmp_path / name}").identity for name in ("a.npy", "b.npy", "c.npy"))
    assert one == same
    assert one != other


@pytest.mark.parametrize("name", ["v.npy", "v.GPT:float64"])
def test_a_file_with_missing_numbers_is_told_by_its_items(name: str, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 8))
    vectors[1::2] = np.nan
    np.save(tmp_path / "v.npy", vectors)
    vectors.tofile(tmp_path / "v.GPT")
    with pytest.raises(UserError, match="item 2 is NaN"):
        text_vectors(open_encoder(f"file:{tmp_path / name}"), [str(i) for i in range(20)], tmp_path / "cache")


@pytest.mark.parametrize(("kind", "other"), [("float32", "float64"), ("float64", "float32")])
def test_raw_numbers_of_the_other_type_are_refused(tmp_path: Path, kind: str, other: str) -> None:
    path = tmp_path / "feat.GPT"
    (0.02 * np.random.default_rng(0).normal(size=(4, 6))).astype(kind).tofile(path)
    with pytest.raises(UserError, match=rf"of sizes that no vectors have.\nWrite file:.*:{kind} instead"):
        PrecomputedVectors(path, other).encode(TEXTS)


def test_bytes_behind_the_last_raw_number_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "feat.GPT"
    path.write_bytes(np.ones((4, 3)).tobytes() + b"\n")
    with pytest.raises(UserError, match="97 bytes of float64 numbers, no multiple"):
        PrecomputedVectors(path, "float64").encode(TEXTS)


def test_zeros_are_no_vectors(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.zeros((4, 3)))
    with pytest.raises(UserError, match="nothing but zeros"):
        PrecomputedVectors(tmp_path / "v.npy").encode(TEXTS)


def test_complex_numbers_are_no_vectors(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.zeros((4, 3), dtype=complex))
    with pytest.raises(UserError, match="complex"):
        PrecomputedVectors(tmp_path / "v.npy").encode(TEXTS)


def test_vector_file_of_another_catalogue_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.zeros((3, 2)))
    with pytest.raises(UserError, match=r"shape \(3, 2\), but the data set has 4 items"):
        PrecomputedVectors(tmp_path / "v.npy").encode(TEXTS)
    np.zeros(7).tofile(tmp_path / "feat.GPT")
    with pytest.raises(UserError, match="no multiple of the data set's 4 items"):
        PrecomputedVectors(tmp_path / "feat.GPT", "float64").encode(TEXTS)


def test_unknown_encoder_and_missing_model_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Write it as one of: minilm"):
        open_encoder("gpt")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="give the folder"):
        LanguageModelEncoder(str(tmp_path / "absent"), "mean").encode(TEXTS)


@pytest.mark.parametrize("name", ["empty.npy", "cut.npy", "words.npy", "objects.npy", "broken.safetensors"])
def test_a_file_that_holds_no_numbers_is_a_clear_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    np.save(tmp_path / "whole.npy", np.zeros((4, 3)))
    np.save(tmp_path / "words.npy", np.array(["a"] * 4))
    np.save(tmp_path / "objects.npy", np.array([{}] * 4), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-8])
    (tmp_path / "empty.npy").touch()
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 9)
    with pytest.raises(UserError, match=f"{name} cannot be read as vectors"):
        PrecomputedVectors(path).encode(TEXTS)


def test_a_path_of_vectors_may_hold_a_colon(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    np.save(tmp_path / "a:b" / "v.npy", np.eye(3))
    assert len(open_encoder(f"file:{tmp_path}/a:b/v.npy").encode(["x", "y", "z"])) == 3
