"""What a test of a model that reads prompts says beside ranks."""

from __future__ import annotations

from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from allmrec.generation import AnswerRates, CaseRates
from common.models.base import Recommender
from common.types import SequenceBatch

PROMPTS, GENERATED = "prompts", "generated"
"""What figures of a test are about, in the names of metrics."""


class PromptReport(Recommender):
    """Reports figures of a test that ranks do not hold, and warns of what was cut to fit into the model's context.

    A subclass says what can be cut, and notes a row of numbers for each case; one of the figures is ``shortened``.
    """

    rates: dict[tuple[str, str], CaseRates]
    context: int
    """Tokens that fit into the model's context."""
    max_title_tokens: int
    """Tokens that a title may have."""
    cut_titles: int
    """Titles that had more."""

    def note(self, about: str, kind: type[CaseRates], batch: SequenceBatch, rows: Float[Tensor, "b r"]) -> None:
        """Takes in rows of a test batch.

        Args:
            about: What they are about.
            kind: The figures that they are made into.
            batch: Whose rows they are.
            rows: What is known of each case.
        """
        key = about, batch["protocol"]
        if key not in self.rates:
            self.rates[key] = kind().to(self.device)
        self.rates[key].update(batch["case_id"], rows)

    def on_test_epoch_start(self) -> None:
        """Forgets earlier ranks and figures."""
        super().on_test_epoch_start()
        self.rates = {}

    def on_test_epoch_end(self) -> None:
        """Logs metrics of ranks, and the figures; says what was cut."""
        super().on_test_epoch_end()
        figures = self.extra_metrics()
        self.log_dict(figures, sync_dist=False)
        shortened = max((share for name, share in figures.items() if name.endswith("/shortened")), default=0.0)
        if shortened or self.cut_titles:
            rank_zero_warn(
                f"{shortened:.1%} of the prompts had their history shortened to fit into the context of "
                f"{self.context:,} tokens; {self.cut_titles:,} of {self.num_items:,} titles were cut to "
                f"{self.max_title_tokens} tokens."
            )

    def extra_metrics(self) -> dict[str, float]:
        """The figures, ``test/<protocol>/overall/prompts/<figure>``; ``…/generated/<figure>`` of written answers."""
        return {
            f"test/{protocol}/overall/{about}/{name}": float(figure)
            for (about, protocol), rates in self.rates.items()
            for name, figure in rates.figures().items()
        }

    def case_values(self) -> dict[str, dict[str, Float[Tensor, "m"]]]:
        """Hits of written answers, ``generated/hr@1`` and ``generated/legacy_hr@1``."""
        return {
            protocol: {f"{GENERATED}/{name}": hits for name, hits in rates.hits().items()}
            for (_, protocol), rates in self.rates.items()
            if isinstance(rates, AnswerRates)
        }
