"""GRU4Rec: a gated recurrent unit over the history, with three training schemes."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from common.errors import UserError, at_least
from common.models.base import SequentialRecommender
from common.nn.adagrad import Adagrad
from common.nn.decay import biases_apart
from common.nn.dropout import Dropout
from common.nn.embedding import ItemEmbedding
from common.nn.exact import float64_device
from common.nn.losses import Objective, pairwise_loss
from common.types import PAD, Catalogue, SequenceBatch

Variant = Literal["session", "prefix", "allpos"]

OBJECTIVES: dict[Variant, Objective] = {"session": "sampled_softmax", "prefix": "bpr", "allpos": "ce"}
"""Objective of each variant where none is named."""
LEARNING_RATES: dict[Variant, float] = {"session": 0.05, "prefix": 1e-3, "allpos": 1e-3}
"""Learning rate of each variant where none is given: of Adagrad in ``session``, of Adam in the others."""

SLOTS = "slots"
"""Checkpoint key of what ``session`` carries from step to step."""
_CARRIED = ("slot_user", "slot_next", "slot_state", "num_slots")


class GRU4Rec(SequentialRecommender):
    """Scores items by the last state of a GRU over the history: ``r_i = h · w_i + b_i``.

    B. Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016
    (https://arxiv.org/abs/1511.06939); B. Hidasi and A. Karatzoglou, "Recurrent Neural Networks with Top-k Gains for
    Session-based Recommendations", CIKM 2018 (https://arxiv.org/abs/1706.03847). One layer, as in all of the
    authors' tuned settings.

    * ``session``: follows the authors' PyTorch code with constrained embedding (one table for input and output).
      ``b`` slots go through users in lock step: each step reads one event per slot, carries the state over without
      gradient and starts from zero for a new user. Negatives of a row are the other rows' targets and ``num_extras``
      items drawn with probability ∝ count^``sample_alpha``, shared by all rows and not checked against the targets.
      The loss is divided by the full number of slots even when fewer are left. Needs ``instances: session``.
    * ``allpos``: the same network with back-propagation through the whole sequence, which the authors advise for
      user histories. Needs ``instances: sequence``.
    * ``prefix``: follows LRD's code, for comparison with LRD: item vectors narrower than the state, a linear map
      without bias between them, no item bias, no weight decay of biases. Needs ``instances: prefix``.

    Evaluation replays the given history from a zero state; an empty history has the zero state.

    Args:
        num_items: Number of items of the catalogue.
        variant: See above.
        hidden_size: Width of the state and, except in ``prefix``, of the item vectors.
        width: Width of the item vectors of ``prefix``.
        dropout_embedding: Dropout of the input vectors.
        dropout_hidden: Dropout of the states; ``session`` carries them over after dropout, as the authors do.
        num_extras: Items drawn at each step of ``session``; at least 1, since a step may be down to a single user.
        sample_alpha: Exponent of popularity in the draw of extras; 0 is uniform.
        logq: Factor of the log popularity that ``session`` subtracts from training scores.
        elu: α of the exponential linear unit before BPR-max in ``session``, or ``None``.
        momentum: Momentum of Adagrad (``session``).
        sparse: Whether a step of ``session`` changes only the item vectors in use; with ``ce`` all are. Gradient
            clipping and the NCCL backend require ``False``.
        objective: Training loss; by default sampled softmax in ``session``, BPR in ``prefix``, full softmax in
            ``allpos``.
        calibration: The ``t`` of gBCE.
        score_penalty: Weight of BPR-max's penalty on negative scores (the authors' ``bpreg``).
        lr: Learning rate; by default 0.05 of Adagrad in ``session``, 0.001 of Adam elsewhere.
        weight_decay: L2 coefficient of Adam.

    Raises:
        UserError: If an argument is out of range, or ``session`` is given other instances.
    """

    popularity: Tensor
    log_count: Tensor

    def __init__(
        self,
        num_items: int,
        variant: Variant = "session",
        hidden_size: int = 100,
        width: int = 64,
        dropout_embedding: float = 0.0,
        dropout_hidden: float = 0.0,
        num_extras: int = 2048,
        sample_alpha: float = 0.5,
        logq: float = 0.0,
        elu: float | None = 0.5,
        momentum: float = 0.0,
        sparse: bool = True,
        objective: Objective | None = None,
        calibration: float = 0.75,
        score_penalty: float = 1.0,
        lr: float | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            num_items,
            objective=objective or OBJECTIVES[variant],
            calibration=calibration,
            score_penalty=score_penalty,
            lr=LEARNING_RATES[variant] if lr is None else lr,
            weight_decay=weight_decay,
        )
        at_least(1, num_extras=num_extras)
        if weight_decay and variant == "session":
            raise UserError(
                f"--model.weight_decay is {weight_decay} in the session variant", "Leave it at 0, or train allpos."
            )
        self.save_hyperparameters()
        self.variant = variant
        self.num_extras, self.sample_alpha, self.logq, self.elu = num_extras, sample_alpha, logq, elu
        self.momentum, self.sparse = momentum, sparse
        item_width = width if variant == "prefix" else hidden_size
        self.item_embedding = ItemEmbedding(num_items, item_width)
        self.gru = nn.GRU(item_width, hidden_size, batch_first=True)
        self.project = nn.Linear(hidden_size, width, bias=False) if variant == "prefix" else None
        self.item_bias = ItemEmbedding(num_items, 1) if variant != "prefix" else None
        self.dropout_embedding = Dropout(dropout_embedding, "dropout_embedding")
        self.dropout_hidden = Dropout(dropout_hidden, "dropout_hidden")
        # DistributedDataParallel learns from the tables which gradients to expect; the full softmax reads all rows.
        for table in (self.item_embedding, self.item_bias):
            if table is not None:
                table.sparse = sparse and variant == "session" and self.objective != "ce"
        # Bits of float64 kept as whole numbers, which no change of the module's type rounds.
        popularity = torch.linspace(0, 1, num_items + 1, dtype=torch.float64).view(torch.long)
        self.register_buffer("popularity", popularity, persistent=False)
        self.register_buffer("log_count", torch.zeros(num_items + 1), persistent=False)
        self.reset_parameters()
        self.reset_slots()

    def reset_parameters(self) -> None:
        """Draws initial weights: Glorot uniform per gate (``session``, ``allpos``) or N(0, 0.01²) (``prefix``)."""
        if self.project is not None:
            nn.init.normal_(self.item_embedding.weight, std=0.01)
            nn.init.normal_(self.project.weight, std=0.01)
        else:
            nn.init.xavier_uniform_(self.item_embedding.weight)
            for name, parameter in self.gru.named_parameters():
                for gate in parameter.chunk(3):
                    nn.init.zeros_(gate) if name.startswith("bias") else nn.init.xavier_uniform_(gate)
        if self.item_bias is not None:
            nn.init.zeros_(self.item_bias.weight)
        with torch.no_grad():
            self.item_embedding.weight[PAD] = 0

    def reset_slots(self) -> None:
        """Discards the carried states, so that all users start from zero."""
        self.slot_user = torch.zeros(0, dtype=torch.long, device=self.device)
        self.slot_next = self.slot_user
        self.slot_state = self.item_embedding.weight.new_zeros(0, self.gru.hidden_size)
        self.num_slots = 0

    def attach(self, catalogue: Catalogue) -> None:
        """Computes the popularity that extras and ``logq`` use from the training events."""
        super().attach(catalogue)
        count = catalogue["train_count"].cpu().double()
        weight = torch.where(count > 0, count**self.sample_alpha, 0.0).cumsum(0)
        self.popularity = (weight / weight[-1]).view(torch.long).to(self.device)
        self.log_count = count.clamp_min(1).log().to(self.item_embedding.weight.dtype).to(self.device)

    def draw_extras(self) -> Int[Tensor, "e"]:
        """Draws the step's shared negatives, shape ``(num_extras,)``, by inverting the cumulative popularity."""
        device = float64_device(self.device)
        uniform = torch.rand(self.num_extras, dtype=torch.float64, device=device)
        return torch.searchsorted(self.popularity.to(device).view(torch.float64), uniform, right=True).to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the states that the next step goes on from; of several processes, those of the first."""
        super().on_save_checkpoint(checkpoint)
        if self.variant == "session":
            checkpoint[SLOTS] = {name: getattr(self, name) for name in _CARRIED}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes up the states that were saved within an epoch."""
        for name, value in checkpoint.get(SLOTS, {}).items():
            setattr(self, name, value)

    def on_train_start(self) -> None:
        """Moves states from a checkpoint to the model's device.

        Raises:
            UserError: If several accelerators would have to add up sparse gradients, which NCCL cannot.
        """
        if self.item_embedding.sparse and self.trainer.world_size > 1 and self.device.type != "cpu":
            raise UserError(
                "--model.sparse is true, but accelerators cannot add up sparse gradients", "Set --model.sparse false."
            )
        self.slot_user, self.slot_next = self.slot_user.to(self.device), self.slot_next.to(self.device)
        self.slot_state = self.slot_state.to(self.device)

    def on_train_batch_start(self, batch: SequenceBatch, batch_idx: int) -> None:
        """Starts every epoch from zero states; one that is resumed goes on from those that it had."""
        if batch_idx == 0:
            self.reset_slots()

    def encode(self, batch: SequenceBatch) -> Float[Tensor, "b p d"]:
        """States of a replay from the zero state: at every position in ``allpos``, otherwise only after the last."""
        history = batch["history"]
        real = history != PAD
        length, steps = real.sum(1), torch.arange(history.size(1), device=history.device)
        # Rolling moves the padding behind the events, where packing skips it.
        start = (history.size(1) - length)[:, None]
        rolled = history.gather(1, (steps + start) % history.size(1))
        vectors = self.dropout_embedding(self.item_embedding(rolled))
        events = pack_padded_sequence(vectors, length.clamp_min(1).cpu(), batch_first=True, enforce_sorted=False)
        states = pad_packed_sequence(self.gru(events)[0], batch_first=True, total_length=history.size(1))[0]
        states = self.dropout_hidden(states)
        if self.variant == "allpos":
            back = ((steps - start) % history.size(1))[..., None]
            aligned: Tensor = states.gather(1, back.expand_as(states)) * real[..., None]
            return aligned
        rows = torch.arange(len(states), device=states.device)
        last: Tensor = states[rows, (length - 1).clamp_min(0)] * (length > 0)[:, None]
        return (last if self.project is None else self.project.forward(last))[:, None]

    def output_bias(self) -> Float[Tensor, "i_plus_1"] | None:
        """Item biases; ``prefix`` has none."""
        return None if self.item_bias is None else self.item_bias.table()[:, 0]

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """One session-parallel step, or the objective over positions in the other variants."""
        if self.variant != "session":
            return super().loss(batch)
        if batch["history"].size(1) != 1:
            raise UserError(
                f"the session variant of GRU4Rec got histories of {batch['history'].size(1)} events",
                "Set data.instances to session, or model.variant to allpos or prefix.",
            )
        self.num_slots = max(self.num_slots, len(batch["user_id"]))
        targets = batch["targets"][:, 0]
        states = self.advance(batch["user_id"], batch["history"][:, 0], targets)
        return {"loss": self.step_loss(states, targets, self.draw_extras())}

    def advance(
        self, users: Int[Tensor, "b"], items: Int[Tensor, "b"], targets: Int[Tensor, "b"]
    ) -> Float[Tensor, "b d"]:
        """Advances each user's carried state, which is zero at the start of a session, by one event.

        A session continues if the previous step had its user with this event as target, in any slot: the data may
        move sessions, close slots and start over.
        """
        same = (users[:, None] == self.slot_user) & (items[:, None] == self.slot_next)
        carried = same.to(self.slot_state.dtype) @ self.slot_state
        inputs = self.dropout_embedding(self.look_up(self.item_embedding, items))
        states: Tensor = self.dropout_hidden(self.gru(inputs[:, None], carried[None])[0][:, 0])
        self.slot_user, self.slot_next, self.slot_state = users, targets, states.detach()
        return states

    def step_loss(
        self, states: Float[Tensor, "b d"], targets: Int[Tensor, "b"], extras: Int[Tensor, "e"]
    ) -> Float[Tensor, ""]:
        """The objective with column ``i`` of ``[targets, extras]`` as the positive of row ``i``, the rest negative.

        An item that occurs twice counts twice, also against itself, as in the authors' code.
        """
        rows = len(targets)
        if self.objective == "ce":
            return self.softmax_loss(states, targets) * (rows / self.num_slots)
        columns = torch.cat([targets, extras])
        scores = F.linear(states, self.look_up(self.item_embedding, columns))
        if self.item_bias is not None:
            scores = scores + self.look_up(self.item_bias, columns)[:, 0]
        if self.logq:
            log_odds = torch.cat([self.log_count[targets], self.sample_alpha * self.log_count[extras]])
            scores = scores - self.logq * log_odds
        # In each row, the columns before its own stay where they are, and those after it move up.
        others = torch.ones(rows, len(columns) - 1, dtype=torch.long, device=scores.device).triu()
        others += torch.arange(len(columns) - 1, device=scores.device)
        loss = pairwise_loss(
            self.objective,
            scores.diagonal(),
            scores.gather(1, others),
            num_items=self.num_items,
            calibration=self.calibration,
            score_penalty=self.score_penalty,
            elu=self.elu,
        )
        return loss * (rows / self.num_slots)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters, in ``prefix`` with biases apart."""
        return biases_apart(self) if self.variant == "prefix" else super().parameter_groups()

    def configure_optimizers(self) -> torch.optim.Optimizer | None:
        """Adagrad in ``session``, Adam elsewhere."""
        if self.variant == "session":
            return Adagrad(self.parameters(), lr=self.lr, momentum=self.momentum)
        return super().configure_optimizers()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips as Lightning does, or refuses where gradients are sparse."""
        if gradient_clip_val and self.item_embedding.sparse:
            raise UserError(
                f"gradient_clip_val is {gradient_clip_val}, but GRU4Rec's sparse gradients cannot be clipped",
                "Set model.sparse to false, or trainer.gradient_clip_val to null.",
            )
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def look_up(self, table: ItemEmbedding, items: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        """Looks up rows of a table in training; if ``sparse``, the gradient holds only these rows."""
        return F.embedding(items, table.weight, sparse=self.sparse)
