"""MLP-LLM: what stands in the slots, and what learns."""

from typing import Any

import pytest
import torch

from allmrec.baselines.mlp_llm import MLPLLM
from common.errors import UserError
from common.models.sasrec import SASRec
from tests.allmrec.baselines.prompt_cases import PromptCases
from tests.allmrec.world import NUM_ITEMS, catalogue, evaluation_batch, sasrec, training_batch


def build(folder: str, **options: Any) -> MLPLLM:  # noqa: ANN401
    torch.manual_seed(0)
    model = MLPLLM(NUM_ITEMS, options.pop("cf", None) or sasrec(), folder, precision="fp32", **options)
    model.attach(catalogue())
    return model


class TestMLPLLM(PromptCases):
    model = MLPLLM

    def build(self, folder: str) -> MLPLLM:
        return build(folder)


@pytest.mark.parametrize("family", ["opt", "llama", "qwen2"])
def test_only_the_two_projections_learn(folders: dict[str, str], family: str) -> None:
    model, losses = build(folders[family], lr=1e-2), []
    optimizer = model.configure_optimizers()
    assert optimizer is not None
    for _ in range(12):
        optimizer.zero_grad()
        loss = model.loss(training_batch())["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"project_user", "project_item"}
    frozen = [*model.llm.module.parameters(), *model.collaborative.module.parameters()]
    assert all(parameter.grad is None for parameter in frozen)


def test_slots_hold_projected_vectors_of_the_filter(folders: dict[str, str]) -> None:
    model, batch = build(folders["opt"]), evaluation_batch(2)
    prompts = model.prompts(batch)
    soft = model.soft(batch, prompts)
    assert soft is not None
    users = model.project_user(model.collaborative.user_vectors(batch))
    items = model.project_item(model.collaborative.item_vectors())
    wanted = [users[row] if item == 0 else items[item] for row, row_ in enumerate(prompts.slots) for item in row_]
    torch.testing.assert_close(soft, torch.stack(wanted))


def test_swapping_two_items_vectors_swaps_their_slots_and_nothing_else(folders: dict[str, str]) -> None:
    model, batch = build(folders["opt"]), evaluation_batch(1)
    prompts = model.prompts(batch)
    first, second = prompts.slots[0][-2:]
    before = model.soft(batch, prompts)
    model.vectors[[first, second]] = model.vectors[[second, first]]
    after = model.soft(batch, prompts)
    assert before is not None
    assert after is not None
    assert torch.equal(after[[-1, -2]], before[[-2, -1]])
    assert torch.equal(after[:-2], before[:-2])


def test_without_projections_the_filter_does_not_matter(folders: dict[str, str]) -> None:
    torch.manual_seed(9)
    other = SASRec(NUM_ITEMS, max_history=5, width=6, num_blocks=1, variant="allmrec")
    scores = []
    for cf in (sasrec(), other):
        model = build(folders["opt"], cf=cf).eval()
        for projection in (model.project_user, model.project_item):
            torch.nn.init.zeros_(projection.outer.weight)
            torch.nn.init.zeros_(projection.outer.bias)
        scores.append(model.score(evaluation_batch()))
    assert torch.equal(*scores)


def test_a_filter_of_another_catalogue_is_refused(folders: dict[str, str]) -> None:
    with pytest.raises(UserError, match="items"):
        build(folders["opt"], cf=SASRec(NUM_ITEMS + 3, max_history=5, width=6))


def test_full_ranking_is_refused(folders: dict[str, str]) -> None:
    with pytest.raises(UserError, match="cannot show the whole catalogue"):
        build(folders["opt"]).score_catalogue(evaluation_batch())
