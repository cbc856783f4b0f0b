"""A-LLMRec's stage 2 on a random OPT, against its released code: splice, loss, gradients, greedy answers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import OPTConfig, OPTForCausalLM

from allmrec.alignment import AutoEncoder
from allmrec.decoding import greedy, read
from allmrec.llm import IGNORED, FrozenLLM, answer_loss, labelled
from allmrec.prompts import PromptStyle
from allmrec.stage2 import Projection
from allmrec.tokens import Tokens
from tests.allmrec.tiny import save, word_tokenizer
from tests.parity.golden import Golden, assert_same, load
from tests.parity.golden import read as read_golden

pytestmark = pytest.mark.golden
LAYERS = {"inner": 0, "norm": 1, "outer": 3}


@dataclass
class Stage2:
    """Our modules with the released weights."""

    llm: FrozenLLM
    user: Projection
    item: Projection
    latent: AutoEncoder
    items: Tensor

    def soft(self, released: Golden, candidates: str = "candidates") -> list[Tensor]:
        """Vectors of each row: the user, the last history items, the candidates."""
        batch, most = released.group("batch."), released.args["interact_max"]
        users = self.user(released.tensors["in.user_vector"])
        rows = []
        for user, history, shown in zip(users, batch["history"], batch[candidates], strict=True):
            past = history[history != 0][-most:]
            rows.append(torch.cat([user[None], self.item(self.latent.encode(self.items[torch.cat([past, shown])]))]))
        return rows


@pytest.fixture(scope="module")
def released(golden: Path) -> Golden:
    return read_golden(golden / "allmrec_stage2.safetensors")


@pytest.fixture(scope="module")
def stage(released: Golden, tmp_path_factory: pytest.TempPathFactory) -> Stage2:
    args, weights = released.args, released.group("param.")
    tokens = json.loads(args["vocabulary"]) | json.loads(args["special_tokens"])
    config = OPTConfig(
        vocab_size=args["llm_vocab"],
        hidden_size=args["llm_hidden"],
        word_embed_proj_dim=args["llm_hidden"],
        num_hidden_layers=args["llm_layers"],
        num_attention_heads=args["llm_heads"],
        ffn_dim=args["llm_ffn"],
        max_position_embeddings=args["llm_max_positions"],
    )
    model = OPTForCausalLM(config).double()
    prefix = "llm.llm_model."
    given = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    given["lm_head.weight"] = given["model.decoder.embed_tokens.weight"]
    model.load_state_dict(given, strict=True)
    folder = tmp_path_factory.mktemp("opt")
    save(folder, model, word_tokenizer(tokens, begin="</s>"), "</s>", "[PAD]")
    llm = FrozenLLM(str(folder), "fp32")
    llm.module.double().load_state_dict(given, strict=True)
    latent = AutoEncoder(args["hidden"], args["latent"], "sigmoid")
    load(latent, {f"{mine}.{k}": weights[f"mlp.{fc}.{k}"] for mine, fc in layers() for k in ("weight", "bias")})
    user = Projection(args["hidden"], llm.embedding, "leaky_relu")
    item = Projection(args["latent"], llm.embedding, "gelu")
    load(user, ours(weights, "log_emb_proj"))
    load(item, ours(weights, "item_emb_proj"))
    return Stage2(llm, user, item, latent, weights["recsys.model.item_emb.weight"])


def layers() -> list[tuple[str, str]]:
    return [("encoder", "fc1"), ("decoder", "fc2")]


def ours(released: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """A projection's weights, or gradients, under our names."""
    return {
        f"{mine}.{k}": released[f"{name}.{place}.{k}"] for mine, place in LAYERS.items() for k in ("weight", "bias")
    }


def rows(ids: Tensor, mask: Tensor) -> list[list[int]]:
    return [row[real.bool()].tolist() for row, real in zip(ids, mask, strict=True)]


def prompts(released: Golden, stage: Stage2) -> list[list[int]]:
    """The released token rows behind the user's slot, which the released prompt puts in front of the beginning."""
    batch = released.group("batch.")
    return [[int(stage.llm.slot_ids[0]), *row] for row in rows(batch["prompt_ids"], batch["prompt_mask"])]


def test_tokens_are_those_released(released: Golden, stage: Stage2) -> None:
    batch = released.group("batch.")
    texts = json.loads(released.args["prompts"]), json.loads(released.args["answers"])
    assert stage.llm.prompt_ids(texts[0]) == rows(batch["prompt_ids"], batch["prompt_mask"])
    behind_beginning = [row[1:] for row in rows(batch["answer_ids"], batch["answer_mask"])]
    assert stage.llm.answer_ids(texts[1]) == behind_beginning


def test_our_slots_and_titles_make_the_released_prompt(released: Golden) -> None:
    wanted, titles = json.loads(released.args["prompts"]), json.loads(released.args["titles"])
    first = wanted[0]
    opening: str
    closing: str
    middle: str
    opening, closing = first[: first.index('"')], first[first.rindex("]") + 1 :]
    middle = first[first.rindex("[HistoryEmb]") + len("[HistoryEmb]") : first.index("[CandidateEmb]")]
    middle = middle[: middle.index('"')]

    class Released(PromptStyle):
        separator = ","

        def introduce(self) -> str:
            return ""

        def remember(self, history: str) -> str:
            return opening + history

        def ask(self, candidates: str) -> str:
            return middle + candidates + closing

    batch, most = released.group("batch."), released.args["interact_max"]

    def named(items: Tensor) -> Sequence[str]:
        return [titles.get(str(item), "No Title") for item in items.tolist() if item]

    made = [
        Released().compose(named(h)[-most:], named(c))
        for h, c in zip(batch["history"], batch["candidates"], strict=True)
    ]
    assert made == wanted


def test_splice_and_labels_are_those_released(released: Golden, stage: Stage2) -> None:
    out = released.group("out.")
    answers = stage.llm.answer_ids(json.loads(released.args["answers"]))
    tokens, labels = labelled(prompts(released, stage), answers)
    embedded = stage.llm.embed(tokens, torch.cat(stage.soft(released)))
    real = out["attention_mask"].bool()
    for row in range(len(real)):
        assert_same(embedded[row][tokens.real[row]], out["inputs_embeds"][row][real[row]])
        assert torch.equal(labels[row][tokens.real[row]], out["labels"][row][real[row]])


def test_loss_and_projection_gradients_are_those_released(released: Golden, stage: Stage2) -> None:
    answers = stage.llm.answer_ids(json.loads(released.args["answers"]))
    loss = stage.llm.answer_loss(prompts(released, stage), answers, torch.cat(stage.soft(released)))
    # The released loss is computed in fp32 from the float64 logits.
    torch.testing.assert_close(loss, released.tensors["out.loss"], rtol=1e-6, atol=0)
    for module in (stage.user, stage.item):
        module.zero_grad()
    loss.backward()
    floor = 1e-6 * max(float(g.abs().max()) for g in released.group("grad.").values())
    for module, name in ((stage.user, "log_emb_proj"), (stage.item, "item_emb_proj")):
        for key, wanted in ours(released.group("grad."), name).items():
            torch.testing.assert_close(module.get_parameter(key).grad, wanted, rtol=1e-6, atol=floor)
    assert not any(parameter.requires_grad for parameter in stage.llm.module.parameters())


def test_target_log_probabilities_are_those_released(released: Golden, stage: Stage2) -> None:
    out = released.group("out.")
    answers = stage.llm.answer_ids(json.loads(released.args["answers"]))
    tokens, labels = labelled(prompts(released, stage), answers)
    logits = stage.llm.logits(stage.llm.embed(tokens, torch.cat(stage.soft(released))), tokens.real, tokens.ids.size(1))
    wanted = out["target_log_probs"][out["labels"][:, 1:] != IGNORED]
    learnt = labels[:, 1:] != IGNORED
    ours = logits[:, :-1].log_softmax(-1)[learnt].gather(1, labels[:, 1:][learnt][:, None])[:, 0]
    assert_same(ours, wanted)
    assert_same(answer_loss(logits[:, :-1], labels[:, 1:]), -wanted.mean())


def test_greedy_answers_are_those_released(released: Golden, stage: Stage2) -> None:
    batch, out, args = released.group("batch."), released.group("out."), released.args
    slot = stage.llm.slot_ids[0].expand(len(batch["target"]), 1)
    # The released padding lies between the user's slot and the text.
    ids, real = torch.cat([slot, batch["generate_prompt_ids"]], dim=1), out["generate_attention_mask"].bool()
    soft = torch.cat(stage.soft(released, "generate_candidates"))
    prefix = read(stage.llm, stage.llm.embed(Tokens(ids, real), soft), real)
    assert_same(prefix.logits, out["generate_next_logits"])
    start, chosen = out["generate_ids"][:, 0], out["generate_ids"][:, 1:]
    limits = [chosen.size(1)] * len(chosen)
    written = greedy(stage.llm, prefix, limits, args["repetition_penalty"], penalised=sorted(set(start.tolist())))
    assert written == chosen.tolist()


def test_modules_are_built_as_released(stage: Stage2) -> None:
    assert isinstance(stage.user.activation, nn.LeakyReLU)
    assert isinstance(stage.item.activation, nn.GELU)
