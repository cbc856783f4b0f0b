"""TALLRec: low-rank additions that are trained, saved, merged, and hold nothing else."""

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from allmrec.baselines.llm_only import LLMOnly
from allmrec.baselines.tallrec import TALLRec
from common.errors import UserError
from tests.allmrec.baselines.prompt_cases import PromptCases
from tests.allmrec.tiny import open_its_eyes
from tests.allmrec.world import NUM_ITEMS, catalogue, evaluation_batch, training_batch


def build(folder: str, **options: Any) -> TALLRec:  # noqa: ANN401
    torch.manual_seed(0)
    model = TALLRec(NUM_ITEMS, folder, precision="fp32", **options)
    model.attach(catalogue())
    return model


def stir(model: TALLRec) -> TALLRec:
    """Draws all additions at random, so that they add something."""
    for parameter in model.additions.values():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


class TestTALLRec(PromptCases):
    model = TALLRec

    def build(self, folder: str) -> TALLRec:
        return stir(build(folder))


def scores(model: TALLRec | LLMOnly) -> Tensor:
    with torch.no_grad():
        return model.score(evaluation_batch(3))


@pytest.mark.parametrize("family", ["opt", "llama", "qwen2"])
def test_untrained_additions_add_nothing(folders: dict[str, str], family: str) -> None:
    plain = LLMOnly(NUM_ITEMS, folders[family], precision="fp32")
    plain.attach(catalogue())
    torch.testing.assert_close(scores(build(folders[family]).eval()), scores(plain.eval()))


@pytest.mark.parametrize("family", ["opt", "llama", "qwen2"])
def test_merged_weights_say_what_the_additions_say(folders: dict[str, str], family: str) -> None:
    model = stir(build(folders[family]))
    before, untouched = scores(model), scores(build(folders[family]).eval())
    assert not torch.allclose(before, untouched, atol=1e-3)
    for layer in model.llm.module.modules():
        if isinstance(layer, LoraLayer):
            layer.merge()
    torch.testing.assert_close(scores(model), before, rtol=1e-4, atol=1e-4)


def test_an_addition_is_the_scaled_product_of_two_maps(folders: dict[str, str]) -> None:
    model = stir(build(folders["opt"], rank=2, alpha=6.0))
    layer = next(m for m in model.llm.module.modules() if isinstance(m, LoraLayer))
    x = torch.randn(3, 16)
    a, b = (parts["default"].weight for parts in (layer.lora_A, layer.lora_B))
    torch.testing.assert_close(layer(x), layer.base_layer(x) + 3.0 * x @ a.T @ b.T)  # type: ignore[operator]  # PEFT's layers have no types


def test_what_sees_pictures_has_no_additions(folders: dict[str, str], tmp_path: Path) -> None:
    model = build(open_its_eyes(Path(shutil.copytree(folders["llama"], tmp_path / "copy")))).train()
    model.loss(training_batch())["loss"].backward()
    assert len(model.additions) == 2 * 2 * 2
    assert all(parameter.grad is not None for parameter in model.additions.values())


def test_only_additions_are_trained_and_saved(folders: dict[str, str]) -> None:
    model = build(folders["opt"], lora_dropout=0.0, lr=1e-2).train()
    frozen = {n: p.clone() for n, p in model.llm.module.named_parameters() if "lora_" not in n}
    optimizer, losses = model.configure_optimizers(), []
    assert optimizer is not None
    for _ in range(15):
        optimizer.zero_grad()
        loss = model.loss(training_batch())["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    now = dict(model.llm.module.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    assert all("lora_" in name for name in model.state_dict())
    assert sum(p.numel() for p in model.parameters()) == 2 * 2 * (8 * 16 + 16 * 8)
    assert model.frozen_parameters() == sum(p.numel() for p in frozen.values())


def test_additions_to_a_model_in_bf16_learn_by_steps_below_its_rounding(folders: dict[str, str]) -> None:
    torch.manual_seed(0)
    model = TALLRec(NUM_ITEMS, folders["opt"], precision="bf16", lr=1e-5)
    model.attach(catalogue())
    stir(model).train()
    before = [parameter.clone() for parameter in model.additions.values()]
    optimizer = model.configure_optimizers()
    assert optimizer is not None
    model.loss(training_batch())["loss"].backward()
    optimizer.step()
    moved = torch.cat([(new - old).abs().flatten() for new, old in zip(model.additions.values(), before, strict=True)])
    assert (moved > 0).float().mean() > 0.9
    assert all(p.dtype == torch.float32 for p in model.llm.module.parameters() if p.requires_grad)


def test_dropout_of_additions_follows_the_mode(folders: dict[str, str]) -> None:
    model = stir(build(folders["opt"], lora_dropout=0.5))
    assert torch.equal(scores(model), scores(model))
    batch = training_batch()
    with torch.no_grad():
        model.train()
        assert model.loss(batch)["loss"] != model.loss(batch)["loss"]
        model.eval()
        assert model.loss(batch)["loss"] == model.loss(batch)["loss"]


def test_prompt_is_that_of_text_alone(folders: dict[str, str]) -> None:
    plain, batch = LLMOnly(NUM_ITEMS, folders["opt"], precision="fp32"), evaluation_batch()
    plain.attach(catalogue())
    assert build(folders["opt"]).prompts(batch) == plain.prompts(batch)


def test_checkpoint_gives_the_same_scores_and_is_small(folders: dict[str, str], tmp_path: Path) -> None:
    model = stir(build(folders["opt"]))
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "best.ckpt")
    restored = TALLRec.load_from_checkpoint(tmp_path / "best.ckpt", weights_only=True, map_location="cpu")
    restored.attach(catalogue())
    torch.testing.assert_close(scores(restored.eval()), scores(model))
    assert (tmp_path / "best.ckpt").stat().st_size < 40_000


def test_checkpoint_of_another_language_model_is_refused(folders: dict[str, str]) -> None:
    checkpoint: dict[str, Any] = {}
    build(folders["opt"]).on_save_checkpoint(checkpoint)
    with pytest.raises(UserError, match="trained on the frozen model"):
        build(folders["llama"]).on_load_checkpoint(deepcopy(checkpoint))


def test_unknown_targets_are_refused_with_those_there_are(folders: dict[str, str]) -> None:
    with pytest.raises(UserError, match="no linear map called 'c_attn'") as mistake:
        build(folders["opt"], targets=("q_proj", "c_attn"))
    assert "fc1, fc2, k_proj, out_proj" in str(mistake.value)


def test_additions_to_nothing_are_refused(folders: dict[str, str]) -> None:
    with pytest.raises(UserError, match="no map to tune"):
        build(folders["opt"], targets=())


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0.0}, {"lora_dropout": 1.5}])
def test_numbers_that_nothing_can_be_made_of_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"--model.{next(iter(wrong))} is"):
        build("no folder is read before", **wrong)


def test_training_without_other_candidates_is_refused(folders: dict[str, str]) -> None:
    with pytest.raises(UserError, match="num_negatives is 0"):
        build(folders["opt"]).loss(training_batch(negatives=0))


def test_full_ranking_is_refused(folders: dict[str, str]) -> None:
    with pytest.raises(UserError, match="cannot show the whole catalogue"):
        build(folders["opt"]).score_catalogue(evaluation_batch())
