"""TALLRec: a language model, tuned with LoRA to name the next item from titles only."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig
from peft.mapping import inject_adapter_in_model
from torch import nn

from allmrec.choice import ChoiceRanker
from allmrec.decoding import Scorer
from allmrec.llm import FrozenLLM, Precision, Quantization, Weights
from allmrec.prompts import Domain
from common.errors import UserError, above_zero, at_least, shares
from common.types import Catalogue


class TALLRec(ChoiceRanker):
    """Tunes low-rank additions to the linear maps of a language model on the text prompt of LLM-Only.

    A map becomes ``W x + (α / r) B A x``, of which only ``A`` and ``B`` learn: E. Hu et al., "LoRA", ICLR 2022
    (https://arxiv.org/abs/2106.09685). K. Bao et al., "TALLRec: An Effective and Efficient Tuning Framework to Align
    Large Language Model with Recommendation", RecSys 2023 (https://arxiv.org/abs/2305.00447).

    This is the version that A-LLMRec (https://arxiv.org/abs/2404.11343) compares with. It departs from TALLRec's code
    (github.com/SAI990323/TALLRec):

    * It names one of 20 titles, with A-LLMRec's prompt without vectors; TALLRec answers yes or no to one item.
    * There is no first tuning on general instructions.
    * The loss covers only the title, not the prompt.
    * Batches of 4 and 5 epochs are A-LLMRec's settings. Rank, α, dropout and targets, which A-LLMRec does not report,
      are TALLRec's.

    A checkpoint contains only the additions. Train it on a ``PromptDataModule``.

    Args:
        num_items: Number of items of the catalogue.
        llm: Name or folder of the language model.
        rank: r, the rank of the additions.
        alpha: α; the additions are scaled by ``alpha / rank``.
        lora_dropout: Dropout on the input of the additions.
        targets: Names of the linear maps that have additions.
        domain: Whose words the prompt uses.
        shown_history: Items of the history that a prompt shows.
        max_title_tokens: Tokens that a title may have; longer ones are cut.
        scorer: How candidates are scored.
        order: Which of the orders of candidates in the prompt.
        generate_at_test: Whether a test also lets the language model write.
        answer_tokens: Tokens that a written answer may have; ``None``: a few more than the longest candidate.
        repetition_penalty: Of tokens that an answer has already; 1.5 in the released code.
        precision: Type of the language model's weights; ``auto`` takes fp32 where they are stored so, else bf16.
        quantization: Bits of the language model's weights.
        device_map: How the language model is spread over devices.
        gradient_checkpointing: Whether its layers are computed again in the backward pass.
        llm_weights: The language model's own, or ``random`` ones, as a control.
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient of Adam.
        betas: Decay rates of Adam's moments.

    Raises:
        UserError: If a number is out of range, or ``targets`` is empty or names a map that the language model lacks.
    """

    soft_slots = False

    def __init__(
        self,
        num_items: int,
        llm: str,
        rank: int = 8,
        alpha: float = 16.0,
        lora_dropout: float = 0.05,
        targets: tuple[str, ...] = ("q_proj", "v_proj"),
        domain: Domain = "general",
        shown_history: int = 10,
        max_title_tokens: int = 64,
        scorer: Scorer = "sum",
        order: int = 0,
        generate_at_test: bool = True,
        answer_tokens: int | None = None,
        repetition_penalty: float = 1.0,
        precision: Precision = "auto",
        quantization: Quantization = "none",
        device_map: str | None = None,
        gradient_checkpointing: bool = False,
        llm_weights: Weights = "trained",
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        at_least(1, rank=rank)
        above_zero(alpha=alpha)
        shares(lora_dropout=lora_dropout)
        model = FrozenLLM(llm, precision, quantization, device_map, gradient_checkpointing, llm_weights)
        super().__init__(
            num_items,
            model,
            domain=domain,
            shown_history=shown_history,
            max_title_tokens=max_title_tokens,
            scorer=scorer,
            order=order,
            generate_at_test=generate_at_test,
            answer_tokens=answer_tokens,
            repetition_penalty=repetition_penalty,
            lr=lr,
            weight_decay=weight_decay,
            betas=betas,
        )
        self.save_hyperparameters()
        maps = chosen_maps(model, targets)
        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=lora_dropout, target_modules=maps)  # type: ignore[arg-type]  # PEFT declares an int, and takes any alpha
        # New layers start in training mode, whatever mode the model is in.
        inject_adapter_in_model(config, model.module).eval()
        # Only what is listed here is saved and trained, because the language model is hidden from this module. In bf16,
        # rounding would swallow the steps of Adam.
        self.additions = nn.ParameterDict(
            {name.replace(".", "/"): p for name, p in model.module.named_parameters() if "lora_" in name}
        ).float()
        # For the dropout of the additions; the language model has none.
        model.follows_training = True

    def setup(self, stage: str) -> None:
        """Checks that the whole language model lies where the additions go."""
        super().setup(stage)
        self.llm.require_place(self.trainer.strategy.root_device, whole=True)

    def transfer(self, checkpoint: dict[str, Any], catalogue: Catalogue) -> None:
        """Loads the additions for another data set, whose items are known by their titles."""
        self.attach(catalogue)
        self.restore(checkpoint)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The additions."""
        return [{"params": list(self.additions.values())}]


def chosen_maps(llm: FrozenLLM, targets: tuple[str, ...]) -> list[str]:
    """Full names of a language model's linear maps with these names; what sees pictures alone would learn nothing.

    Raises:
        UserError: If there is no name, or the model lacks one; it lists the maps of the model.
    """
    model = llm.module
    reading = {*model.get_decoder().modules(), model.get_output_embeddings()}
    maps = [name for name, part in model.named_modules() if isinstance(part, nn.Linear) and part in reading]
    names = {full: full.rpartition(".")[2] for full in maps}
    there = set(names.values())
    missing = [name for name in targets if name not in there]
    if missing or not targets:
        raise UserError(
            f"language model {llm.name!r} has no linear map called {missing[0]!r}"
            if missing
            else "TALLRec is given no map to tune",
            f"Choose --model.targets from: {', '.join(sorted(there - {'lm_head'}))}.",
        )
    return [full for full, name in names.items() if name in targets]
