"""RecFormer: the shared properties, its matrix, its stages, and Transformers' Longformer below it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig, BertModel, LongformerConfig, LongformerModel

from allmrec.baselines.recformer import RecFormer
from allmrec.baselines.recformer_encoder import load, small_config
from common.errors import UserError
from common.models.base import Recommender
from common.types import SequenceBatch
from tests.common.models import toy
from tests.common.models.cases import SequentialCases

SMALL: dict[str, Any] = {
    "max_items": toy.MAX_HISTORY,
    "initial": None,
    "attributes": ("title",),
    "window": 4,
    "width": 16,
    "layers": 1,
    "heads": 2,
    "vocabulary": 320,
    "dropout": 0.0,
    "refresh_epochs": 1,
}


class TestRecFormer(SequentialCases):
    model = RecFormer
    steps, lr, done = 300, 2e-3, 0
    arguments: ClassVar[dict[str, Any]] = SMALL | {"width": 32}
    exceptions: ClassVar[dict[str, str]] = {
        "test_untrained_items_score_alike": "an item that was never trained on has its own text",
        "test_every_objective_moves_the_weights": "its losses are the paper's own, whatever the objective",
    }

    def batches(self) -> Iterator[SequenceBatch]:
        last = toy.full_batch()
        while True:
            yield {"user_id": last["user_id"], "history": last["history"], "targets": last["target"][:, None]}

    def optimise(self, model: Recommender, optimiser: torch.optim.Optimizer, batch: SequenceBatch) -> float:
        assert isinstance(model, RecFormer)
        # Without a trainer nobody says when epochs begin, and when the matrix stays for good.
        model.settled = self.done >= 120
        if self.done % 10 == 0 and not model.settled:
            model.refresh()
        self.done += 1
        return super().optimise(model, optimiser, batch)


def build(**options: Any) -> RecFormer:  # noqa: ANN401
    torch.manual_seed(0)
    model = RecFormer(toy.NUM_ITEMS, **SMALL | options)
    model.attach(toy.catalogue())
    return model


def trainer(*callbacks: L.Callback, epochs: int = 4) -> L.Trainer:
    options: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    options |= {"callbacks": list(callbacks), "enable_checkpointing": False, "accelerator": "cpu"}
    return L.Trainer(max_epochs=epochs, num_sanity_val_steps=0, **options)


class Stop(L.Callback):
    """Ends a training after four epochs, as early stopping may."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch == 3


class Course(L.Callback):
    """Notes the matrix that each epoch learns against, and what it logs for the first time."""

    def __init__(self) -> None:
        self.matrices: list[torch.Tensor] = []
        self.logged: list[set[str]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:  # noqa: ANN401
        assert isinstance(pl_module, RecFormer)
        self.matrices.append(pl_module.matrix.clone())

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.logged.append(set(trainer.callback_metrics) - set().union(*self.logged))


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize(("refresh_epochs", "wanted"), [(1, [1, 0, 0, 0]), (2, [1, 1, 0, 0])])
def test_matrix_is_made_every_epoch_and_then_stays(refresh_epochs: int, wanted: list[int], validated: bool) -> None:
    course = Course()
    model = build(refresh_epochs=refresh_epochs, lr=1e-2, warmup_steps=1)
    validation = toy.loader(toy.sampled_batch()) if validated else None
    trainer(course, epochs=5).fit(model, toy.loader(next(toy.sequence_batches())), validation)
    changed = [not torch.equal(a, b) for a, b in zip(course.matrices[:-1], course.matrices[1:], strict=True)]
    assert changed == [bool(one) for one in wanted]


def test_stages_are_logged_apart_and_pretraining_learns_no_matrix() -> None:
    course = Course()
    model = build(pretrain_epochs=1, refresh_epochs=0, lr=1e-3)
    trainer(course, epochs=2).fit(model, toy.loader(next(toy.sequence_batches())))
    first, second = course.logged
    assert first == {"train/loss", "train/loss_contrast", "train/loss_words"}
    assert second == {"train/loss_recommend"}
    assert not course.matrices[0].any()
    assert course.matrices[1].any()


def test_no_gradient_reaches_the_matrix_but_the_encoder_learns() -> None:
    model = build()
    model.refresh()
    before = model.matrix.clone()
    model.loss(next(toy.sequence_batches()))["loss"].backward()
    assert torch.equal(model.matrix, before)
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())


def test_a_history_of_one_has_the_vector_of_its_item() -> None:
    model = build(layers=2).eval()
    with torch.no_grad():
        state = model.encode({"history": torch.tensor([[0, 0, 7]])})[0, 0]
    torch.testing.assert_close(state * model.temperature, model.output_table()[7], rtol=1e-4, atol=1e-5)


def test_scores_are_cosines_over_the_temperature() -> None:
    model = build().eval()
    with torch.no_grad():
        scores = model.score_catalogue(toy.full_batch())[:, 1:]
    assert float(scores.abs().max()) <= 1 / 0.05 + 1e-4


def test_reversing_a_history_changes_its_vector() -> None:
    model = build().eval()
    with torch.no_grad():
        there, back = (model.encode({"history": torch.tensor([row])}) for row in ([3, 7, 9], [9, 7, 3]))
    assert not torch.allclose(there, back)


def test_catalogue_is_encoded_once_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build().eval()
    calls: list[int] = []
    one = RecFormer.item_vectors

    def counted(self: RecFormer) -> torch.Tensor:
        calls.append(1)
        return one(self)

    monkeypatch.setattr(RecFormer, "item_vectors", counted)
    with torch.no_grad():
        for batch in (toy.full_batch(), toy.sampled_batch()):
            model.rank(batch)
    assert len(calls) == 1
    model.train().loss(next(toy.sequence_batches()))
    with torch.no_grad():
        model.eval().rank(toy.full_batch())
    assert len(calls) == 2


def test_directions_are_computed_once_for_each_matrix() -> None:
    model = build().train()
    model.refresh()
    first = model.output_table()
    torch.testing.assert_close(first, F.normalize(model.matrix, dim=1))
    model.loss(next(toy.sequence_batches()))
    assert model.output_table() is first
    model.refresh()
    assert model.output_table() is not first


def test_padding_tokens_change_nothing() -> None:
    model = build().eval()
    batch = torch.tensor([[0, 0, 3], [4, 5, 6]])
    with torch.no_grad():
        together, alone = model.encode({"history": batch})[0], model.encode({"history": batch[:1]})[0]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_encoder_is_transformers_longformer_but_for_places_of_items() -> None:
    model = build(layers=2).eval()
    encoder, text = model.encoder, model.text(torch.tensor([[0, 3, 9], [5, 6, 7]]))
    torch.nn.init.zeros_(encoder.item_embedding.weight)
    theirs: torch.nn.Module = LongformerModel(encoder.config, add_pooling_layer=False)
    theirs.eval()
    theirs.load_state_dict(encoder.longformer.state_dict())
    front = torch.zeros_like(text.ids).index_fill(1, torch.tensor([0]), 1)
    with torch.no_grad():
        wanted = theirs(
            input_ids=text.ids,
            token_type_ids=text.types,
            attention_mask=text.real.long(),
            global_attention_mask=front,
        ).last_hidden_state
        torch.testing.assert_close(encoder(text)[text.real], wanted[text.real])


def test_pretraining_lowers_both_losses() -> None:
    model = build(pretrain_epochs=1, width=32)
    batch, optimizer = next(toy.sequence_batches()), torch.optim.Adam(model.parameters(), lr=3e-3)
    course: list[dict[str, float]] = []
    for _ in range(60):
        optimizer.zero_grad()
        losses = model.loss(batch)
        losses["loss"].backward()
        optimizer.step()
        course.append({name: value.item() for name, value in losses.items()})
    for name in ("loss_contrast", "loss_words"):
        assert sum(step[name] for step in course[-5:]) < sum(step[name] for step in course[:5])


def test_checkpoint_of_the_last_stage_keeps_its_matrix(tmp_path: Path) -> None:
    model = build(refresh_epochs=1, lr=1e-2)
    runner = trainer(epochs=4)
    runner.fit(model, toy.loader(next(toy.sequence_batches())))
    runner.save_checkpoint(tmp_path / "last.ckpt")
    restored = RecFormer.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True, map_location="cpu")
    restored.attach(toy.catalogue())
    assert torch.equal(restored.matrix, model.matrix)


def test_a_training_resumed_within_an_epoch_learns_from_the_matrix_of_its_start() -> None:
    model, batch = build(refresh_epochs=2), next(toy.sequence_batches())
    model.refresh()
    for weights in model.encoder.parameters():
        weights.data.mul_(1.5)
    model.fresh = None
    checkpoint: dict[str, Any] = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    resumed = build(refresh_epochs=2)
    resumed.on_load_checkpoint(checkpoint)
    resumed.load_state_dict(checkpoint["state_dict"])
    torch.manual_seed(0)  # cuts are drawn
    expected = model.loss(batch)["loss"]
    torch.manual_seed(0)
    assert resumed.loss(batch)["loss"] == expected
    assert torch.equal(resumed.matrix, model.matrix)
    assert not torch.equal(resumed.matrix, resumed.current_vectors())


def test_training_validation_and_test_of_a_checkpoint_follow_each_other(tmp_path: Path) -> None:
    model = build(pretrain_epochs=1, refresh_epochs=1, lr=1e-3)
    runner, batch = trainer(epochs=4), toy.loader(next(toy.sequence_batches()))
    runner.fit(model, batch, toy.loader(toy.sampled_batch()))
    runner.save_checkpoint(tmp_path / "last.ckpt")
    with torch.no_grad():
        wanted = model.eval().score(toy.sampled_batch())
    runner.test(
        model, toy.loader(toy.sampled_batch()), ckpt_path=tmp_path / "last.ckpt", weights_only=True, verbose=False
    )
    with torch.no_grad():
        torch.testing.assert_close(model.eval().score(toy.sampled_batch()), wanted)


def test_a_longformer_by_folder_keeps_its_weights(tmp_path: Path) -> None:
    model = build()
    model.encoder.longformer.save_pretrained(tmp_path)
    assert model.tokenizer is not None
    model.tokenizer.save_pretrained(tmp_path)
    encoder, tokenizer = load(str(tmp_path), 5, 8, 64)
    name = "encoder.layer.0.output.dense.weight"
    same = model.encoder.longformer.get_parameter(name)
    assert torch.equal(encoder.longformer.get_parameter(name), same)
    assert tokenizer.get_vocab() == model.tokenizer.get_vocab()
    assert encoder.window == 8


def test_a_longformer_stored_in_half_precision_learns_in_single(tmp_path: Path) -> None:
    small = build()
    assert small.tokenizer is not None
    small.tokenizer.save_pretrained(tmp_path)
    small.encoder.longformer.bfloat16().save_pretrained(tmp_path)
    model = build(initial=str(tmp_path))
    model.loss(next(toy.sequence_batches()))["loss"].backward()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_another_kind_of_encoder_is_refused(tmp_path: Path) -> None:
    BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)).save_pretrained(
        tmp_path
    )
    with pytest.raises(UserError, match="is a bert"):
        load(str(tmp_path), 5, 8, 64)


def test_places_of_a_longformer_bound_its_texts(tmp_path: Path) -> None:
    model = build(max_tokens=40)
    model.encoder.longformer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"max_tokens is 64, and .* has positions for 44"):
        load(str(tmp_path), 5, 4, 64)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="width 9 with 2 heads"):
        small_config(300, 9, 1, 2, 4, 64, 0.0)
    with pytest.raises(UserError, match="vocabulary is 100"):
        small_config(100, 8, 1, 2, 4, 64, 0.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": 3},
        {"max_tokens": 1},
        {"max_attribute_tokens": 0},
        {"cuts": 0},
        {"width": 0},
        {"heads": 0},
        {"catalogue_rows": 0},
        {"temperature": 0.0},
        {"mask_share": 2.0},
        {"pretrain_epochs": -1},
        {"refresh_epochs": -1},
    ],
)
def test_numbers_that_nothing_can_be_made_of_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"--model.*{next(iter(wrong))} is"):
        build(**wrong)


@pytest.mark.parametrize("refresh_epochs", [1, 9])
def test_a_checkpoint_scores_the_same_in_another_process(tmp_path: Path, refresh_epochs: int) -> None:
    model = build(refresh_epochs=refresh_epochs, lr=1e-2, warmup_steps=1)
    runner, batch = trainer(Stop(), epochs=12), toy.loader(next(toy.sequence_batches()))
    runner.fit(model, batch, toy.loader(toy.sampled_batch()))
    runner.save_checkpoint(tmp_path / "last.ckpt")
    other = RecFormer.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True, map_location="cpu")
    other.attach(toy.catalogue())
    with torch.no_grad():
        wanted = model.eval().score(toy.sampled_batch())
        assert torch.equal(other.eval().score(toy.sampled_batch()), wanted)
        vectors = other.item_vectors()
    assert torch.equal(other.output_table(), F.normalize(vectors, dim=1)) is (refresh_epochs == 9)


def test_what_is_read_is_what_is_told() -> None:
    assert build().information_set == {"order", "text"}
    model = RecFormer(toy.NUM_ITEMS, **SMALL | {"attributes": ("title", "brand")})
    assert model.information_set == {"order", "text", "attributes"}


def test_items_without_attributes_are_counted() -> None:
    few = toy.catalogue()
    few["titles"][4] = few["titles"][30] = " "
    with pytest.warns(UserWarning, match="2 of 40 items have no title"):
        build().attach(few)


def test_learning_rates_rise_and_fall_in_both_stages() -> None:
    rates: list[float] = []

    class Rates(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:  # noqa: ANN401
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    model = build(pretrain_epochs=4, lr=1e-3, pretrain_lr=1e-2, warmup_steps=2)
    trainer(Rates(), epochs=8).fit(model, toy.loader(next(toy.sequence_batches())))
    assert rates == pytest.approx([5e-3, 1e-2, 1e-2, 5e-3, 5e-4, 1e-3, 1e-3, 5e-4])


def test_texts_beyond_the_limit_lose_their_oldest_items() -> None:
    model = build(max_tokens=9)
    long: SequenceBatch = {"history": torch.tensor([[1, 2, 3, 4, 5, 6]])}
    text = model.text(long["history"])
    assert text.real.sum() <= 9
    assert int(text.places[text.real].max()) < 6


def test_a_longformer_with_berts_tokenizer_begins_texts_as_bert_does(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(chr, range(33, 127)), "##0", "##1", "title", "item"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "attention_window": 4, "max_position_embeddings": 40}
    config = LongformerConfig(vocab_size=len(words), pad_token_id=0, **sizes)
    LongformerModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    model = build(initial=str(tmp_path), max_tokens=32)
    model.refresh()
    text = model.text(torch.tensor([[1, 2]]))
    assert words[text.ids[0, 0]] == "[CLS]"
    content: dict[str, Any] = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(content)
    again = build(initial=str(tmp_path), max_tokens=32)
    again.restore(content)
    assert torch.equal(again.text(torch.tensor([[1, 2]])).ids, text.ids)
    assert torch.equal(again.item_vectors(), model.item_vectors())
