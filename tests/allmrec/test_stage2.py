"""Stage 2: what is trained, what is scored, and what changes neither."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning as L
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

from allmrec.collaborative import CollaborativeFilter, JointVectors
from allmrec.composer import Composer, Prompts
from allmrec.stage2 import ALLMRecStage2, Projection
from common.errors import UserError
from common.types import SequenceBatch
from tests.allmrec.world import (
    LATENT,
    NUM_ITEMS,
    catalogue,
    evaluation_batch,
    joint_file,
    sasrec,
    training_batch,
)


@pytest.fixture
def joint(tmp_path: Path) -> str:
    return joint_file(tmp_path)


def build(llm: str, joint: str, **options: Any) -> ALLMRecStage2:  # noqa: ANN401
    torch.manual_seed(0)
    model = ALLMRecStage2(NUM_ITEMS, sasrec(), joint, llm, latent=LATENT, precision="fp32", **options)
    model.attach(catalogue())
    return model


def rows(batch: SequenceBatch, order: list[int]) -> SequenceBatch:
    taken: Any = {key: value[order] if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    chosen: SequenceBatch = taken
    return chosen


@pytest.mark.parametrize("family", ["opt", "llama", "qwen2"])
def test_training_lowers_the_loss_through_the_projections_alone(
    folders: dict[str, str], joint: str, family: str
) -> None:
    model = build(folders[family], joint, lr=0.01)
    batch, optimizer = training_batch(), model.configure_optimizers()
    assert optimizer is not None
    frozen = [p.clone() for p in [*model.llm.module.parameters(), *model.collaborative.module.parameters()]]
    first = model.loss(batch)["loss"].item()
    for _ in range(20):
        optimizer.zero_grad()
        model.loss(batch)["loss"].backward()
        optimizer.step()
    assert model.loss(batch)["loss"].item() < first - 0.1
    after = [*model.llm.module.parameters(), *model.collaborative.module.parameters()]
    assert all(torch.equal(before, now) for before, now in zip(frozen, after, strict=True))
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"project_user", "project_item"}


def test_joint_vectors_of_no_width_are_refused(joint: str) -> None:
    with pytest.raises(UserError, match="latent is 0"):
        ALLMRecStage2(NUM_ITEMS, sasrec(), joint, "facebook/opt-125m", latent=0)


@pytest.mark.parametrize(
    "kind", [torch.nn.Embedding, partial(Gemma3TextScaledWordEmbedding, padding_idx=0, embed_scale=16)]
)
@pytest.mark.parametrize("activation", ["leaky_relu", "gelu"])
def test_projected_vectors_start_smaller_than_words(
    activation: Literal["leaky_relu", "gelu"], kind: Callable[..., torch.nn.Embedding]
) -> None:
    torch.manual_seed(0)
    words = kind(1000, 256)
    torch.nn.init.normal_(words.weight, std=0.05)
    read = words(torch.arange(1000)).square().mean().sqrt().item()
    # Either activation halves the mean square of what layer norm gives.
    projected = Projection(50, words, activation)(7 * torch.randn(400, 50))
    assert projected.square().mean().sqrt().item() == pytest.approx(read / 2**0.5, rel=0.15)


def test_slots_hold_projected_vectors_in_order(folders: dict[str, str], joint: str) -> None:
    model = build(folders["opt"], joint, vectors="texts")
    batch = evaluation_batch(2)
    prompts = model.prompts(batch)
    soft = model.soft(batch, prompts)
    table = JointVectors.load(Path(joint), CollaborativeFilter(sasrec())).texts
    users = model.project_user(model.collaborative.user_vectors(batch))
    wanted = []
    for row, slots in enumerate(prompts.slots):
        wanted += [users[row], *model.project_item(table[slots[1:]])]
    assert soft is not None
    torch.testing.assert_close(soft, torch.stack(wanted))


@pytest.mark.parametrize("scorer", ["sum", "mean", "null_context"])
def test_company_in_the_batch_changes_no_score(folders: dict[str, str], joint: str, scorer: str) -> None:
    model, batch = build(folders["llama"], joint, scorer=scorer), evaluation_batch()
    whole = model.score(batch)
    for order in ([3, 1, 0, 2], [2]):
        torch.testing.assert_close(model.score(rows(batch, order)), whole[order], rtol=0, atol=1e-4)


def test_output_columns_permute_scores(folders: dict[str, str], joint: str) -> None:
    model, batch = build(folders["qwen2"], joint), evaluation_batch()
    prompts = model.prompts(batch)
    model.prompts = lambda *_: prompts  # type: ignore[method-assign]  # a stub for one test
    order = torch.randperm(20)
    permuted: Any = {**batch, "candidates": batch["candidates"][:, order]}
    assert torch.equal(model.score(permuted), model.score(batch)[:, order])


def test_null_context_knows_neither_user_nor_history(folders: dict[str, str], joint: str) -> None:
    model, batch = build(folders["opt"], joint), evaluation_batch()
    other: Any = {**batch, "history": batch["history"].flip(0)}
    assert torch.equal(model.likelihoods(batch, null=True).total, model.likelihoods(other, null=True).total)
    assert not torch.equal(model.likelihoods(batch).total, model.likelihoods(other).total)


def test_ranks_put_the_target_among_its_candidates(folders: dict[str, str], joint: str) -> None:
    model, batch = build(folders["opt"], joint), evaluation_batch()
    ranks, scores = model.rank(batch), model.score(batch)
    assert torch.equal(ranks["higher"], (scores[:, 1:] > scores[:, :1]).sum(1))
    assert ranks["num_candidates"].tolist() == [20] * 4


def test_a_row_writes_what_it_writes_alone(folders: dict[str, str], joint: str) -> None:
    model, batch = build(folders["llama"], joint), evaluation_batch()
    assert model.generate(batch) == [model.generate(rows(batch, [row]))[0] for row in range(4)]


def test_candidates_are_shown_in_another_order_each_epoch(
    folders: dict[str, str], joint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch, shown = build(folders["opt"], joint), training_batch(), []
    compose = Composer.__call__

    def watched(composer: Composer, history: Tensor, candidates: Tensor, **parts: bool) -> Prompts:
        shown.append(candidates)
        return compose(composer, history, candidates, **parts)

    monkeypatch.setattr(Composer, "__call__", watched)
    for epoch in (0, 1):
        monkeypatch.setattr(ALLMRecStage2, "current_epoch", epoch)
        model.loss(batch)
    expected = torch.cat([batch["targets"][:, -1:], batch["negatives"][:, -1]], dim=1).sort(1).values
    assert all(torch.equal(c.sort(1).values, expected) for c in shown)
    assert not torch.equal(shown[0], shown[1])


def test_training_shows_the_target_everywhere_equally(
    folders: dict[str, str], joint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch, places = build(folders["opt"], joint), training_batch(), []
    target = batch["targets"][:, -1:]

    def watched(composer: Composer, history: Tensor, candidates: Tensor, **parts: bool) -> Prompts:
        places.append((candidates == target).int().argmax(1))
        raise InterruptedError

    monkeypatch.setattr(Composer, "__call__", watched)
    for epoch in range(1000):
        monkeypatch.setattr(ALLMRecStage2, "current_epoch", epoch)
        with pytest.raises(InterruptedError):
            model.loss(batch)
    counts = torch.bincount(torch.cat(places), minlength=batch["negatives"].size(2) + 1)
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_full_ranking_is_refused(folders: dict[str, str], joint: str) -> None:
    with pytest.raises(UserError, match="sampled"):
        build(folders["opt"], joint).score_catalogue(evaluation_batch())


def test_collaborative_filter_of_another_catalogue_is_refused(folders: dict[str, str], joint: str) -> None:
    model = ALLMRecStage2(NUM_ITEMS + 1, sasrec(), joint, folders["opt"], latent=LATENT)
    with pytest.raises(UserError, match="knows 24 items, the data set has 25"):
        model.attach({**catalogue(), "num_items": NUM_ITEMS + 1})


def test_checkpoint_holds_the_projections_and_the_name_of_the_language_model(
    folders: dict[str, str], joint: str, tmp_path: Path
) -> None:
    model = build(folders["opt"], joint)
    trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(model)
    path = tmp_path / "stage2.ckpt"
    trainer.save_checkpoint(path)
    saved = torch.load(path, weights_only=True)
    assert {name.split(".")[0] for name in saved["state_dict"]} == {"project_user", "project_item"}
    assert saved["llm"]["model"] == "opt"
    same = ALLMRecStage2.load_from_checkpoint(path, weights_only=True, collaborative=sasrec())
    torch.testing.assert_close(same.project_item.state_dict(), model.project_item.state_dict())
    with pytest.raises(UserError, match="trained on the frozen model"):
        ALLMRecStage2.load_from_checkpoint(path, weights_only=True, collaborative=sasrec(), llm=folders["llama"])
