"""The frozen language model on tiny OPT, Llama and Qwen2 models."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from lightning import LightningModule
from torch.nn.functional import cross_entropy

from allmrec.decoding import greedy, likelihoods, read_prefix
from allmrec.llm import IGNORED, FrozenLLM, Quantization, labelled
from allmrec.prompts import SLOTS, PromptStyle
from allmrec.tokens import Tokens
from common.errors import UserError
from tests.allmrec.tiny import TITLES, build

STYLE = PromptStyle()
TEXTS = [STYLE.compose(TITLES[1:4], TITLES[4:7]), STYLE.compose(TITLES[1:2], TITLES[7:10])]


def soft_for(llm: FrozenLLM, ids: list[list[int]]) -> torch.Tensor:
    return torch.randn(sum(int(torch.isin(torch.tensor(row), llm.slot_ids).sum()) for row in ids), llm.width)


def test_slots_are_single_tokens_and_the_vocabulary_stays(llm: FrozenLLM) -> None:
    before = llm.embedding.weight.shape
    ids = llm.prompt_ids(TEXTS)
    assert [int(llm.is_slot(torch.tensor([row])).sum()) for row in ids] == [1 + 3 + 3, 1 + 1 + 3]
    assert llm.tokenizer.convert_ids_to_tokens(llm.slot_ids.tolist()) == list(SLOTS)
    assert before[0] == llm.module.config.vocab_size


def test_loss_is_that_of_one_unpadded_row_after_another(llm: FrozenLLM) -> None:
    ids, answers = llm.prompt_ids(TEXTS), llm.answer_ids([STYLE.answer("red wolf two"), STYLE.answer("sea")])
    soft = soft_for(llm, ids)
    terms, used = [], 0
    for prompt, answer in zip(ids, answers, strict=True):
        embeddings = []
        for token in [*prompt, *answer]:
            slot = token in llm.slot_ids.tolist()
            embeddings.append(soft[used] if slot else llm.embedding(torch.tensor(token)))
            used += slot
        logits = llm.module(inputs_embeds=torch.stack(embeddings)[None]).logits[0]
        terms.append(cross_entropy(logits[len(prompt) - 1 : -1], torch.tensor(answer), reduction="none"))
    torch.testing.assert_close(llm.answer_loss(ids, answers, soft), torch.cat(terms).mean(), rtol=1e-5, atol=1e-6)


def test_padding_changes_no_logit(llm: FrozenLLM) -> None:
    row = llm.prompt_ids(TEXTS[:1])[0]
    alone, soft = Tokens.of([row]), soft_for(llm, [row])
    wider = Tokens.of([row, [*row, *row[:9]]])
    both = torch.cat([soft, soft_for(llm, [[*row, *row[:9]]])])
    first = llm.logits(llm.embed(alone, soft), alone.real, 4)[0]
    torch.testing.assert_close(llm.logits(llm.embed(wider, both), wider.real, 4)[0], first, rtol=1e-4, atol=1e-5)


def test_labels_are_the_answer_alone() -> None:
    tokens, labels = labelled([[1, 2, 3], [4]], [[7, 9], [8, 5, 9]])
    assert tokens.ids.tolist() == [[1, 2, 3, 7, 9], [0, 4, 8, 5, 9]]
    assert labels.tolist() == [[IGNORED] * 3 + [7, 9], [IGNORED] * 2 + [8, 5, 9]]


def test_gradients_reach_the_vectors_and_nothing_else(llm: FrozenLLM) -> None:
    ids = llm.prompt_ids(TEXTS)
    soft = soft_for(llm, ids).requires_grad_()
    llm.answer_loss(ids, llm.answer_ids([STYLE.answer("sea")] * 2), soft).backward()
    assert soft.grad is not None
    assert bool((soft.grad.abs().sum(1) > 0).all())
    assert all(parameter.grad is None for parameter in llm.module.parameters())


class Owner(LightningModule):
    def __init__(self, llm: FrozenLLM) -> None:
        super().__init__()
        self.llm = llm
        self.projection = torch.nn.Linear(2, 2)


def test_owner_neither_saves_nor_trains_it_but_takes_it_along(llm: FrozenLLM) -> None:
    owner = Owner(llm).train()
    assert set(owner.state_dict()) == {"projection.weight", "projection.bias"}
    assert len(list(owner.parameters())) == 2
    assert not any(module.training for module in llm.module.modules())
    owner.double()
    assert llm.embedding.weight.dtype == torch.float64
    assert llm.num_parameters > 1000


def test_a_model_that_does_not_follow_its_owner_must_lie_where_the_owner_works(llm: FrozenLLM) -> None:
    gpu = torch.device("cuda:1")
    llm.require_place(gpu)
    llm.movable = False
    llm.require_place(torch.device("cpu"), whole=True)
    for whole in (False, True):
        with pytest.raises(UserError, match="placed on cpu, the trainer works on cuda:1"):
            llm.require_place(gpu, whole)


def test_checkpointed_layers_give_the_same_loss_without_dropout_and_keep_less(folders: dict[str, str]) -> None:
    losses, kept = [], [0, 0]
    for checkpointing in (False, True):
        llm = FrozenLLM(folders["opt"], "fp32", gradient_checkpointing=checkpointing).train()
        ids = llm.prompt_ids(TEXTS)
        soft = torch.ones_like(soft_for(llm, ids)).requires_grad_()

        def pack(tensor: torch.Tensor, which: int = int(checkpointing)) -> torch.Tensor:
            kept[which] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = llm.answer_loss(ids, llm.answer_ids([STYLE.answer("sea")] * 2), soft)
        loss.backward()
        assert soft.grad is not None
        losses.append((loss.detach(), soft.grad))
    torch.testing.assert_close(losses[0], losses[1])
    assert kept[1] < kept[0] / 2


@pytest.mark.parametrize("family", ["opt", "llama"])
def test_checkpointed_layers_score_and_write_outside_training(folders: dict[str, str], family: str) -> None:
    seen = []
    for checkpointing in (False, True):
        llm = FrozenLLM(folders[family], "fp32", gradient_checkpointing=checkpointing).eval()
        ids, answers = llm.prompt_ids(TEXTS), [llm.answer_ids(["sea", "red wolf"])] * 2
        soft = torch.ones_like(soft_for(llm, ids))
        scores = likelihoods(llm, read_prefix(llm, ids, soft), answers).total
        seen.append((scores.tolist(), greedy(llm, read_prefix(llm, ids, soft), [4, 4])))
    assert seen[0] == seen[1]


def test_weights_keep_their_precision_unless_told(folders: dict[str, str]) -> None:
    assert FrozenLLM(folders["llama"]).embedding.weight.dtype == torch.float32
    llm = FrozenLLM(folders["llama"], precision="bf16")
    assert llm.embedding.weight.dtype == torch.bfloat16
    ids = llm.prompt_ids(TEXTS)
    loss = llm.answer_loss(ids, llm.answer_ids([STYLE.answer("sea")] * 2), soft_for(llm, ids))
    assert loss.dtype == torch.float32
    assert bool(loss.isfinite())


def test_a_configuration_that_tells_no_type_is_of_whole_weights(folders: dict[str, str], empty_folder: Path) -> None:
    shutil.copytree(folders["llama"], empty_folder, dirs_exist_ok=True)
    config = json.loads((empty_folder / "config.json").read_text())
    assert config.pop("dtype") == "float32"
    (empty_folder / "config.json").write_text(json.dumps(config))
    assert FrozenLLM(str(empty_folder)).embedding.weight.dtype == torch.float32


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_incomplete_folder_names_the_missing_file(folders: dict[str, str], empty_folder: Path, file: str) -> None:
    shutil.copytree(folders["opt"], empty_folder, dirs_exist_ok=True)
    (empty_folder / file).unlink()
    with pytest.raises(UserError, match=file):
        FrozenLLM(str(empty_folder))


def test_missing_shard_is_named(folders: dict[str, str], empty_folder: Path) -> None:
    shutil.copytree(folders["opt"], empty_folder, dirs_exist_ok=True)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (empty_folder / "model.safetensors").rename(empty_folder / "model-00001-of-00002.safetensors")
    (empty_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="model-00002-of-00002"):
        FrozenLLM(str(empty_folder))


def test_hub_name_without_network_says_how_to_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr("allmrec.llm.AutoTokenizer.from_pretrained", offline)
    with pytest.raises(UserError, match="hf download facebook/opt-125m --local-dir"):
        FrozenLLM("facebook/opt-125m")


@pytest.mark.parametrize("name", ["./nowhere", "runs/llm/opt"])
def test_absent_folder_is_no_hub_name(name: str) -> None:
    with pytest.raises(UserError, match="does not exist"):
        FrozenLLM(name)


@pytest.mark.parametrize("told", [{"LOCAL_RANK": "1", "SLURM_LOCALID": "0"}, {"SLURM_LOCALID": "1"}])
def test_each_process_of_a_node_has_quantised_weights_on_its_own_gpu(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch, told: dict[str, str]
) -> None:
    places = []

    def load(*_: object, device_map: dict[str, int], **__: object) -> None:
        places.append(device_map)
        raise OSError("no GPU here")

    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, rank in told.items():
        monkeypatch.setenv(name, rank)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("allmrec.llm.quantization_config", lambda _: object())
    monkeypatch.setattr("allmrec.llm.AutoModelForCausalLM.from_pretrained", load)
    with pytest.raises(UserError, match="no GPU here"):
        FrozenLLM(folders["opt"], quantization="8bit")
    assert places == [{"": 1}]


def test_quantisation_without_bitsandbytes_says_what_to_install(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"recbench\[quant\]"):
        FrozenLLM(folders["opt"], quantization="8bit")


@pytest.mark.parametrize(("quantization", "likeness"), [("8bit", 0.95), ("4bit", 0.3)])
def test_quantised_weights_score_and_teach_about_as_whole_ones(
    folders: dict[str, str], quantization: Quantization, likeness: float, caplog: pytest.LogCaptureFixture
) -> None:
    whole, small = FrozenLLM(folders["opt"], "fp32"), FrozenLLM(folders["opt"], "fp32", quantization)
    assert whole.num_parameters == small.num_parameters
    ids, answers = whole.prompt_ids(["One of these"]), [whole.answer_ids([' "sea"', ' "red wolf"'])]
    totals = [likelihoods(llm, read_prefix(llm, ids, None), answers).total.cpu() for llm in (whole, small)]
    assert not torch.equal(*totals)
    torch.testing.assert_close(totals[1], totals[0], rtol=0.1, atol=0.0)
    slotted, answer = whole.prompt_ids(TEXTS[:1]), whole.answer_ids([STYLE.answer("sea")])
    soft = soft_for(whole, slotted).requires_grad_()
    first, second = (torch.autograd.grad(llm.answer_loss(slotted, answer, soft), soft)[0] for llm in (whole, small))
    assert float(torch.cosine_similarity(first.flatten(), second.flatten(), dim=0)) > likeness
    # Nothing is said at every product of every layer.
    assert not caplog.records


def test_tokenizer_without_end_token_is_refused(tmp_path: Path) -> None:
    folder = Path(build(tmp_path, "llama"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("eos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="end token"):
        FrozenLLM(str(folder))
