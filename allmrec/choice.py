"""Learning to name the next item among the candidates that a prompt shows."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from allmrec.composer import prompt_order
from allmrec.ranker import LanguageModelRanker
from common.models.negatives import drawn_negatives
from common.types import SequenceBatch


class ChoiceRanker(LanguageModelRanker):
    """A prompt-based ranker that learns from prompts as a test shows them: a target among candidates, in any order."""

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Next-token loss on the title of the last target, which is shown among its negatives in a random order."""
        target = batch["targets"][:, -1:]
        columns = torch.cat([target, drawn_negatives(batch)[:, -1]], dim=1)
        # Another order for each target and epoch, so that no place in the list becomes a habit.
        keys = batch["user_id"] * (self.num_items + 1) + target[:, 0] + (self.current_epoch << 48)
        shown = columns.gather(1, prompt_order(keys, columns.size(1), seed=self.order + 1))
        prompts = self.composer(batch["history"], shown, user=self.soft_slots, soft=self.soft_slots)
        answers = [self.composer.answers[item] for item in target.squeeze(1).tolist()]
        loss = self.llm.answer_loss(prompts.ids, answers, self.soft(batch, prompts))
        return {"loss": self.shared_mean(loss, sum(map(len, answers)))}

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """What learns, as the optimizer takes it."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the language model's name and revision, all that a checkpoint holds of what is frozen of it."""
        super().on_save_checkpoint(checkpoint)
        self.llm.sign(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks that the language model is the one of the training."""
        self.llm.refuse_other(checkpoint)
