"""Controls of stage 2: what its answers owe to each of the things that its prompt holds."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from allmrec.ablations import Ablation
from allmrec.collaborative import CollaborativeFilter, JointVectors
from allmrec.composer import Prompts
from allmrec.decoding import Scorer
from allmrec.frozen import Frozen
from allmrec.prompts import Domain
from allmrec.stage1 import NEEDS_TEXTS, finished_stage1, require_texts
from allmrec.stage2 import OF_THE_FILTER, ALLMRecStage2
from common.data.datasets import last_events
from common.models.base import MODEL, SequentialRecommender
from common.models.finished import read_checkpoint, wrong_model
from common.types import Catalogue, SequenceBatch, Sequences

PERMUTATION_SEED = 0


class ALLMRecControl(ALLMRecStage2):
    """A trained stage 2 from whose prompts something is taken away; nothing is trained again.

    * ``null_context``: neither user nor history; what is left above chance is knowledge of titles and items alone.
    * ``shuffled_users``: each user's vector is that of another one, drawn at random, after its training events.
    * ``shuffled_joint``: each item's joint vector is that of an item drawn at random.
    * ``untrained``: projections as they were before training.
    * an :data:`Ablation`: prompts without it, which the projections were not trained for.
    * ``none``: as trained; with other ``vectors``, ``order`` or ``scorer`` it shows their effect.

    ``none`` on ``vectors: texts`` is the paper's "A-LLMRec (SBERT)": trained on e, asked with q (section 4.1.4).

    Args:
        num_items: Number of items of the catalogue.
        trained: Run folder of stage 2.
        collaborative: Run folder of its collaborative filter.
        joint: Run folder of its stage 1.
        llm: Name or folder of its language model.
        control: What is taken away.
        vectors: Joint vectors that the prompt shows; as trained when omitted.
        domain: Whose words the prompt uses; as trained when omitted.
        order: Which of the orders of candidates in the prompt.
        scorer: How candidates are scored.
        generate_at_test: Whether a test also lets the language model write.
    """

    closed_form = True
    train_events: Sequences

    def __init__(
        self,
        num_items: int,
        trained: str,
        collaborative: str,
        joint: str,
        llm: str,
        control: Ablation | Literal["null_context", "shuffled_users", "shuffled_joint", "untrained"],
        vectors: Literal["items", "texts"] | None = None,
        domain: Domain | None = None,
        order: int = 0,
        scorer: Scorer = "sum",
        generate_at_test: bool = False,
    ) -> None:
        saved = read_checkpoint(trained)
        if (found := str(saved.get(MODEL))) != ALLMRecStage2.__name__:
            raise wrong_model(trained, found, ALLMRecStage2.__name__)
        own: dict[str, Any] = {
            "num_items": num_items,
            "collaborative": collaborative,
            "joint": joint,
            "llm": llm,
            "order": order,
            "scorer": scorer,
            "generate_at_test": generate_at_test,
        }
        changed = {"vectors": vectors, "domain": domain}
        own |= {name: value for name, value in changed.items() if value is not None}
        if control != "none" and control in get_args(Ablation):
            own["ablation"] = control
        super().__init__(**saved["hyper_parameters"] | own)
        self.control = control
        self.information_set = self._left()
        if control != "untrained":
            self.restore(saved)

    def _left(self) -> frozenset[str]:
        """What scores still depend on (PROTOCOL P9): others' vectors are found by the user's id."""
        known = self.information_set
        if self.control == "null_context":
            return known - OF_THE_FILTER - {"history", "order"}
        return known | {"user_id"} if self.control == "shuffled_users" else known

    def attach(self, catalogue: Catalogue) -> None:
        """Receives titles and joint vectors, which ``shuffled_joint`` permutes, and others' events."""
        super().attach(catalogue)
        self._shuffle(catalogue)

    def transfer(self, checkpoint: dict[str, Any], catalogue: Catalogue) -> None:
        """As of stage 2, with joint vectors permuted under ``shuffled_joint``."""
        super().transfer(checkpoint, catalogue)
        self._shuffle(catalogue)

    def _shuffle(self, catalogue: Catalogue) -> None:
        generator = torch.Generator().manual_seed(PERMUTATION_SEED)
        if self.control == "shuffled_joint":
            others = 1 + torch.randperm(self.num_items, generator=generator).to(self.joint.device)
            self.joint[1:] = self.joint[others]
        self.train_events = catalogue["train"]
        # Along a ring of all users with training events, so that no user keeps their own vector; any of these serves a
        # user without.
        known = self.train_events["offsets"].diff().nonzero().flatten()
        ring = known[torch.randperm(len(known), generator=generator)]
        others = known[torch.randint(len(known), (catalogue["num_users"],), generator=generator)]
        self.other_user = others.index_copy(0, ring - 1, ring.roll(1))

    def prompts(self, batch: SequenceBatch, null: bool = False) -> Prompts:
        """As of stage 2, without user and history under ``null_context``."""
        return super().prompts(batch, null or self.control == "null_context")

    def about(self, batch: SequenceBatch, question: str, null: bool = False) -> Prompts:
        """As of stage 2, without user and history under ``null_context``."""
        return super().about(batch, question, null or self.control == "null_context")

    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "b d"]:
        """The filter's vector of each row's user, or of another one."""
        return super().user_vectors(self.others(batch) if self.control == "shuffled_users" else batch)

    def others(self, batch: SequenceBatch) -> SequenceBatch:
        """The batch with another user in each row, whose newest training events are the history."""
        users = self.other_user[batch["user_id"].cpu() - 1]
        start, end = self.train_events["offsets"][users], self.train_events["offsets"][users + 1]
        items, times = last_events(self.train_events, start, end, batch["history"].size(1))
        theirs: SequenceBatch = {"user_id": users, "history": items, "history_time": times}
        return {**batch, **move_data_to_device(theirs, self.device)}


class JointDot(SequentialRecommender):
    """Joint vectors without a language model: candidates by ``s(x, dec(e))`` or ``s(x, dec(q))`` of a finished stage 1.

    The authors report these rows in their reply to reviewers of A-LLMRec, KDD 2024 (https://arxiv.org/abs/2404.11343).

    Args:
        num_items: Number of items of the catalogue.
        collaborative: Run folder of the collaborative filter.
        joint: Run folder of stage 1.
        vectors: ``items`` (e) or ``texts`` (q).
    """

    closed_form = True
    transfers_with = NEEDS_TEXTS
    decoded: Tensor

    def __init__(
        self, num_items: int, collaborative: str, joint: str, vectors: Literal["items", "texts"] = "items"
    ) -> None:
        super().__init__(num_items)
        self.save_hyperparameters()
        stage1 = finished_stage1(joint, collaborative)
        self.stage1 = Frozen(stage1)
        self.collaborative: CollaborativeFilter = stage1.collaborative
        self.information_set, self.text_encoder = stage1.information_set, stage1.text_encoder
        self.joint, self.vectors = joint, vectors
        self.register_buffer("decoded", torch.zeros(num_items + 1, self.collaborative.width), persistent=False)

    def attach(self, catalogue: Catalogue) -> None:
        """Reads the joint vectors, and marks the filter's trained items."""
        super().attach(catalogue)
        self.collaborative.attach(catalogue)
        joint = JointVectors.load(self.joint, self.collaborative)
        with torch.no_grad():
            self.decoded.copy_(self.stage1.module.alignment.items.decoder(getattr(joint, self.vectors)))

    def transfer(self, checkpoint: dict[str, Any], catalogue: Catalogue) -> None:
        """Decodes joint vectors of another data set's items from their texts, for the filter's histories, too.

        Raises:
            UserError: If it is about e, the items have no texts, or the filter cannot read vectors.
        """
        require_texts(self.vectors)
        super().attach(catalogue)
        _, items = self.stage1.module.read(catalogue["texts"], catalogue.get("text_cache"))
        self.collaborative.adopt(items)
        self.decoded.copy_(items)

    def table_marks(self) -> list[str]:
        """The sentence model of stage 1, where it is not the paper's."""
        return self.stage1.module.table_marks()

    def encode(self, batch: SequenceBatch) -> Float[Tensor, "b 1 d"]:
        """The filter's user vectors, shape ``(b, 1, d)``."""
        return self.collaborative.user_vectors(batch)[:, None]

    def output_table(self) -> Float[Tensor, "i_plus_1 d"]:
        """Item vectors decoded from joint vectors."""
        return self.decoded
