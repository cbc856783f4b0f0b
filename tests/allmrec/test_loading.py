"""Which models can be read, and what is said of those that cannot."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    BartConfig,
    BartForCausalLM,
    BertConfig,
    BertLMHeadModel,
    BertModel,
    BloomConfig,
    ConvBertConfig,
    ConvBertModel,
    GPTNeoConfig,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5Model,
    ViTConfig,
    ViTModel,
    XLNetConfig,
    XLNetModel,
)

from allmrec.baselines.llm_only import LLMOnly
from allmrec.decoding import likelihoods, read_prefix, require_side_by_side
from allmrec.llm import FrozenLLM
from allmrec.retrieval import FrozenReader
from allmrec.slotted import LLM
from allmrec.tokens import Tokens
from common.errors import UserError
from tests.allmrec.tiny import open_its_eyes
from tests.fixtures.hub import COMMIT, cached


@pytest.fixture
def copy(folders: dict[str, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders["llama"], tmp_path / "copy"))


def damaged(copy: Path, kind: str) -> None:
    weights = copy / "model.safetensors"
    if kind == "weights":
        weights.write_bytes(weights.read_bytes()[:2000])
    elif kind == "tokenizer":
        (copy / "tokenizer.json").write_text("{}")
    elif kind == "index":
        weights.rename(copy / "model-00001-of-00001.safetensors")
        (copy / "model.safetensors.index.json").write_text('{"weight_map": ')
    else:
        kept = {name: value for name, value in load_file(weights).items() if "layers.1." not in name}
        save_file(kept, weights, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("kind", "said"),
    [("weights", "damaged"), ("tokenizer", "damaged"), ("index", "damaged"), ("layers", "lack 9 weights of a Llama")],
)
def test_a_damaged_folder_is_told_and_nothing_is_random(copy: Path, kind: str, said: str) -> None:
    damaged(copy, kind)
    with pytest.raises(UserError, match=said):
        FrozenLLM(str(copy))


def test_a_model_of_the_hub_is_known_by_its_commit(
    folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(Path(folders["opt"]), "of/tiny", tmp_path, monkeypatch)
    llm = FrozenLLM("of/tiny")
    assert llm.identity == {"model": "of/tiny", "revision": COMMIT}
    assert llm.title == "of/tiny"
    with pytest.raises(UserError, match=r"'of/another' .* cannot be loaded"):
        FrozenLLM("of/another")


def test_an_encoder_is_told_what_it_is(copy: Path) -> None:
    vocabulary = AutoConfig.from_pretrained(copy).vocab_size
    small: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    BertModel(BertConfig(vocab_size=vocabulary, num_attention_heads=2, **small)).save_pretrained(copy)
    with pytest.raises(UserError, match="a BertModel, lack 6 weights of a BertLMHeadModel"):
        FrozenLLM(str(copy))


def test_indices_of_other_frameworks_do_not_count(copy: Path) -> None:
    (copy / "flax_model.msgpack.index.json").write_text(json.dumps({"weight_map": {"a": "flax-00001.msgpack"}}))
    assert FrozenLLM(str(copy)).width == 16


@pytest.mark.parametrize(
    "config", [GPTNeoConfig(num_layers=2, attention_types=[[["global", "local"], 1]]), BloomConfig()]
)
def test_attention_over_places_in_memory_is_refused(copy: Path, config: Any) -> None:  # noqa: ANN401
    config.save_pretrained(copy)
    with pytest.raises(UserError, match="side by side"):
        FrozenLLM(str(copy))


def other_family(kind: str, vocabulary: int) -> PreTrainedModel:
    sizes: dict[str, Any] = {"vocab_size": vocabulary, "pad_token_id": None}
    if kind == "bart":
        places: Any = {f"{part}_{size}": 2 for part in ("encoder", "decoder") for size in ("layers", "attention_heads")}
        return BartForCausalLM(BartConfig(d_model=16, decoder_ffn_dim=24, init_std=0.3, **places, **sizes))
    if kind == "mamba":
        return MambaForCausalLM(MambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4, **sizes))
    layers: Any = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    return BertLMHeadModel(BertConfig(**layers, **sizes))


@pytest.mark.parametrize(("kind", "why"), [("bart", "by .* nats"), ("bert", "RuntimeError"), ("mamba", "IndexError")])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_family_that_scores_answers_otherwise_beside_others_is_refused(
    copy: Path,
    kind: str,
    why: str,
    precision: Any,  # noqa: ANN401
) -> None:
    torch.manual_seed(0)
    other_family(kind, AutoConfig.from_pretrained(copy).vocab_size).save_pretrained(copy)
    with pytest.raises(UserError, match=f"{kind}.*side by side: .*{why}"):
        LLMOnly(24, str(copy), precision=precision)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_trying_a_model_leaves_its_mode_and_the_dice_alone(folders: dict[str, str], precision: Any) -> None:  # noqa: ANN401
    llm = FrozenLLM(folders["opt"], precision, gradient_checkpointing=True)
    before = torch.random.get_rng_state()
    require_side_by_side(llm)
    assert llm.module.training
    assert torch.equal(torch.random.get_rng_state(), before)


def test_candidates_beyond_the_window_of_attention_are_scored_as_if_alone(copy: Path) -> None:
    small: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": None}
    vocabulary = AutoConfig.from_pretrained(copy).vocab_size
    torch.manual_seed(0)
    MistralForCausalLM(MistralConfig(vocab_size=vocabulary, sliding_window=12, **small)).save_pretrained(copy)
    llm = FrozenLLM(str(copy))
    assert llm.context == 12
    prompt, answers = [[1, 7, 8, 9, 10]], [[[5, 6, 7], [9, 8, 2], [11, 2], [6, 6, 2], [12, 13, 2]]]
    together = likelihoods(llm, read_prefix(llm, prompt, None), answers).total[0]
    alone = [-llm.answer_loss(prompt, [answer], None) * len(answer) for answer in answers[0]]
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("window", "context"), [(50, 50), (200, 90)])
def test_a_model_that_sees_pictures_too_has_the_context_of_its_text_model(
    copy: Path, window: int, context: int
) -> None:
    folder = open_its_eyes(copy, sliding_window=window, max_position_embeddings=90)
    assert FrozenLLM(folder).context == context


def test_a_type_told_of_the_text_model_alone_is_that_of_the_weights(copy: Path) -> None:
    open_its_eyes(copy)
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["dtype"] = "bfloat16"
    (copy / "config.json").write_text(json.dumps({name: value for name, value in config.items() if name != "dtype"}))
    assert FrozenLLM(str(copy)).embedding.weight.dtype == torch.bfloat16


def test_a_folder_may_keep_berts_words_in_a_text_file(empty_folder: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "red", "sea"]
    (empty_folder / "vocab.txt").write_text("\n".join(words))
    (empty_folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    small: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    BertModel(BertConfig(vocab_size=len(words), num_attention_heads=2, **small)).save_pretrained(empty_folder)
    reader = FrozenReader(str(empty_folder))
    assert reader.tokenizer.convert_ids_to_tokens(reader.prompt_ids(["red sea"])[0]) == ["[CLS]", "red", "sea", "[SEP]"]


@pytest.mark.parametrize(("kind", "why"), [("convbert", "depends on longer ones"), ("vit", "Error while it was tried")])
def test_a_reader_that_padding_disturbs_or_that_reads_no_text_is_refused(copy: Path, kind: str, why: str) -> None:
    vocabulary = AutoConfig.from_pretrained(copy).vocab_size
    torch.manual_seed(0)
    model: PreTrainedModel
    if kind == "convbert":
        small: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
        small |= {"embedding_size": 16, "num_attention_heads": 2, "initializer_range": 0.3}
        model = ConvBertModel(ConvBertConfig(vocab_size=vocabulary, **small))
    else:
        small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = ViTModel(ViTConfig(image_size=28, patch_size=14, **small), add_pooling_layer=False)
    model.save_pretrained(copy)
    with pytest.raises(UserError, match=rf"\({kind}\) cannot be a reader: .*{why}"):
        FrozenReader(str(copy))


def test_a_reader_has_the_whole_context_whatever_its_window(copy: Path) -> None:
    vocabulary = AutoConfig.from_pretrained(copy).vocab_size
    small: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    small |= {"vocab_size": vocabulary, "num_attention_heads": 2, "max_position_embeddings": 90, "local_attention": 8}
    special: dict[str, Any] = {
        f"{name}_token_id": number for number, name in enumerate(("pad", "bos", "eos", "cls", "sep"))
    }
    ModernBertModel(ModernBertConfig(**small, **special)).save_pretrained(copy)
    assert FrozenReader(str(copy)).context == 90


def test_a_reader_without_a_limit_has_room(copy: Path) -> None:
    vocabulary = AutoConfig.from_pretrained(copy).vocab_size
    XLNetModel(XLNetConfig(vocab_size=vocabulary, d_model=16, n_layer=1, n_head=2, d_inner=16)).save_pretrained(copy)
    assert FrozenReader(str(copy)).context > 10_000


def test_a_reader_of_two_halves_is_refused(copy: Path) -> None:
    vocabulary = AutoConfig.from_pretrained(copy).vocab_size
    small: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    small |= {"vocab_size": vocabulary, "decoder_start_token_id": 0}
    T5Model(T5Config(**small)).save_pretrained(copy)
    with pytest.raises(UserError, match=r"\(t5\) is an encoder with a decoder"):
        FrozenReader(str(copy))


def test_a_reader_that_counts_from_behind_its_padding_reads_a_text_as_ever(copy: Path) -> None:
    vocabulary = AutoConfig.from_pretrained(copy).vocab_size
    small: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=vocabulary, num_attention_heads=2, max_position_embeddings=40, **small)
    model = RobertaModel(config).train(False)
    model.save_pretrained(copy)
    reader = FrozenReader(str(copy))
    rows = [[7, 8, 9, 10], [11, 12]]
    states = reader.read(Tokens.of(rows), torch.zeros(0, reader.width))
    assert reader.context == 38
    for row, state in zip(rows, states, strict=True):
        torch.testing.assert_close(state, model(torch.tensor([row])).last_hidden_state[0].mean(0))


def test_a_checkpoint_knows_its_model_under_another_name_and_no_other(copy: Path) -> None:
    checkpoint: dict[str, Any] = {}
    FrozenLLM(str(copy)).sign(checkpoint)
    moved = copy.rename(copy.with_name("moved"))
    FrozenLLM(str(moved)).refuse_other(checkpoint)
    weights = moved / "model.safetensors"
    save_file({name: 2 * value for name, value in load_file(weights).items()}, weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match="trained on the frozen model"):
        FrozenLLM(str(moved)).refuse_other(checkpoint)
    assert set(checkpoint[LLM]) == {"model", "sha256"}
