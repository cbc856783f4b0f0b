"""Stage 1: what it encodes, what it learns, and the vectors that it leaves."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding, Transformer
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from allmrec.collaborative import CollaborativeFilter
from allmrec.sentences import TextTower, text_marks
from allmrec.stage1 import ALLMRecStage1
from common.errors import UserError
from common.models.caser import Caser
from common.models.gru4rec import GRU4Rec
from common.models.ncf import NCF
from common.models.sasrec import SASRec
from common.types import SequenceBatch
from lrd.data import name_of
from tests.allmrec.tiny import WORDS, word_tokenizer
from tests.allmrec.world import LATENT, NUM_ITEMS, NUM_USERS, catalogue, evaluation_batch, sasrec, training_batch


@pytest.fixture(scope="module")
def sbert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny BERT and mean pooling."""
    folder = tmp_path_factory.mktemp("bert")
    entries = ["<s>", "<pad>", "</s>", "<unk>", ":", ",", "Title", "Description", "about", *WORDS]
    tokenizer: Tokenizer = word_tokenizer({word: i for i, word in enumerate(entries)})
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")
    fast.save_pretrained(folder / "bert")
    sizes: dict[str, Any] = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(6)
    BertModel(BertConfig(vocab_size=len(entries), intermediate_size=16, **sizes)).save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"))
    SentenceTransformer(modules=[transformer, Pooling(12)], device="cpu").save(str(folder / "sbert"))
    return str(folder / "sbert")


def build(sbert: str, **options: Any) -> ALLMRecStage1:  # noqa: ANN401
    torch.manual_seed(0)
    model = ALLMRecStage1(NUM_ITEMS, options.pop("cf", None) or sasrec(), sbert, latent=LATENT, **options)
    model.attach(catalogue())
    return model


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each forward pass of the sentence model reads."""
    counts: list[int] = []
    one = TextTower._pass

    def counted(tower: TextTower, rows: list[list[int]], device: torch.device) -> Tensor:
        counts.append(len(rows))
        return one(tower, rows, device)

    monkeypatch.setattr(TextTower, "_pass", counted)
    return counts


def test_tower_says_what_the_library_says(sbert: str) -> None:
    tower, texts = TextTower(sbert, rows=3).eval(), catalogue()["texts"]
    tower.attach(texts)
    wanted = SentenceTransformer(sbert, device="cpu").encode(texts[1:], convert_to_tensor=True)
    torch.testing.assert_close(tower.all(torch.device("cpu"))[1:], wanted.clone(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trained", [True, False])
def test_a_sentence_model_stored_in_half_precision_is_read_in_single(sbert: str, trained: bool, tmp_path: Path) -> None:
    SentenceTransformer(sbert, device="cpu").bfloat16().save(str(tmp_path))
    model = build(str(tmp_path), train_sbert=trained)
    model.loss(training_batch())["loss"].backward()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    wanted = (
        SentenceTransformer(str(tmp_path), device="cpu")
        .float()
        .encode(catalogue()["texts"][1:], convert_to_tensor=True)
    )
    torch.testing.assert_close(model.tower.all(model.device)[1:], wanted.clone(), rtol=1e-4, atol=1e-5)


def test_gradient_reaches_every_parameter(sbert: str) -> None:
    model = build(sbert, match_negatives=True)
    model.loss(training_batch(negatives=1))["loss"].backward()
    assert any(name.startswith("tower") for name, _ in model.named_parameters())
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_each_distinct_item_is_encoded_once(sbert: str, encoded: list[int]) -> None:
    model, batch = build(sbert, positions="all", match_negatives=True), training_batch(6, negatives=1)
    model.loss(batch)
    used = torch.cat([batch["targets"].flatten(), batch["negatives"][batch["targets"] != 0].flatten()])
    assert sum(encoded) == len(set(used.tolist()) - {0})


def test_frozen_texts_are_encoded_once_for_all(sbert: str, encoded: list[int]) -> None:
    model, batch = build(sbert, train_sbert=False), training_batch()
    for _ in range(3):
        model.loss(batch)["loss"].backward()
    assert sum(encoded) == NUM_ITEMS + 1
    assert {name.split(".")[0] for name in model.state_dict()} == {"alignment"}


def test_the_filters_item_vectors_are_made_once_for_all(sbert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(sbert, train_sbert=False)
    assert torch.equal(model.item_vectors, model.collaborative.item_vectors())
    monkeypatch.setattr(CollaborativeFilter, "item_vectors", lambda cf: pytest.fail("made again"))
    model.loss(training_batch(negatives=1))
    model.joint_vectors()


def test_texts_are_encoded_once_for_the_vectors_that_a_model_leaves_and_not_to_rank_by_e(
    sbert: str, encoded: list[int], tmp_path: Path
) -> None:
    model = build(sbert).eval()
    model.score(evaluation_batch())
    assert not encoded
    for _ in range(2):
        model.write_artifacts(tmp_path)
    assert sum(encoded) == NUM_ITEMS + 1
    joint = model.joint_vectors()
    model.loss(training_batch())
    encoded.clear()
    torch.nn.init.normal_(model.alignment.texts.encoder.weight)
    assert not torch.equal(model.joint_vectors().texts, joint.texts)
    assert sum(encoded) == NUM_ITEMS + 1


def test_frozen_texts_are_encoded_in_the_first_run_alone(sbert: str, encoded: list[int], tmp_path: Path) -> None:
    texts, device = catalogue()["texts"], torch.device("cpu")

    def vectors(cache: Path | None = tmp_path, **options: Any) -> Tensor:  # noqa: ANN401
        encoded.clear()
        tower = TextTower(sbert, trained=False, **options)
        tower.attach(texts, cache)
        return tower.all(device)

    first = vectors(cache=None)
    assert torch.equal(vectors(), first)
    assert torch.equal(vectors(), first)
    assert not encoded
    for other in ({"max_tokens": 3}, {"unit": False}):
        vectors(**other)
        assert sum(encoded) == NUM_ITEMS + 1
    texts = [*texts[:-1], "sea"]
    vectors()
    assert sum(encoded) == NUM_ITEMS + 1


@pytest.mark.parametrize("formulation", ["paper", "released"])
def test_training_aligns_and_leaves_the_filter_alone(sbert: str, formulation: Any) -> None:  # noqa: ANN401
    model = build(sbert, formulation=formulation, lr=0.02)
    frozen = [p.clone() for p in model.collaborative.module.parameters()]
    batch, optimizer = training_batch(6, negatives=1), model.configure_optimizers()
    assert optimizer is not None
    first = model.loss(batch)
    before = model.tower.all(model.device).clone()
    for _ in range(30):
        optimizer.zero_grad()
        model.loss(batch)["loss"].backward()
        optimizer.step()
    last = model.loss(batch)
    assert last["loss"] < first["loss"]
    assert last["loss_matching"] < first["loss_matching"]
    assert not torch.equal(model.tower.all(model.device), before)
    assert all(torch.equal(p, q) for p, q in zip(frozen, model.collaborative.module.parameters(), strict=True))


def test_last_and_all_positions_agree_on_sequences_of_one_target(sbert: str) -> None:
    batch = cut(training_batch(), 1)
    batch["history"][0], batch["targets"][0] = 7, 8
    losses = [build(sbert, positions=positions, train_sbert=False).loss(batch) for positions in ("last", "all")]
    torch.testing.assert_close(losses[0], losses[1])


def test_all_positions_take_each_target_with_the_state_before_it(sbert: str) -> None:
    # Unlike SASRec, a recurrent filter counts no positions from the end, so that prefixes have the states between.
    gru = GRU4Rec(NUM_ITEMS, variant="allpos")
    batch = training_batch(1)
    batch["history"][0, :2], batch["targets"][0, :2] = torch.tensor([5, 9]), torch.tensor([9, 11])
    whole = build(sbert, positions="all", train_sbert=False, cf=gru).loss(batch)
    single = [build(sbert, train_sbert=False, cf=gru).loss(cut(batch, end))["loss_rec"] for end in range(1, 5)]
    torch.testing.assert_close(whole["loss_rec"], torch.stack(single).mean())


def cut(batch: SequenceBatch, end: int) -> SequenceBatch:
    return {
        "user_id": batch["user_id"],
        "history": batch["history"][:, :end],
        "targets": batch["targets"][:, :end],
        "negatives": batch["negatives"][:, :end],
    }


def test_a_filter_without_states_between_is_told_so(sbert: str) -> None:
    model = build(sbert, positions="all", cf=Caser(NUM_ITEMS, NUM_USERS, max_history=4))
    with pytest.raises(UserError, match="last item alone"):
        model.loss(training_batch())


@pytest.mark.parametrize("longest", [1, 3])
def test_a_filter_of_shorter_histories_than_the_data_is_told_so(sbert: str, longest: int) -> None:
    model = build(sbert, positions="all", cf=SASRec(NUM_ITEMS, longest, width=6))
    with pytest.raises(UserError, match=f"the last {longest} items of a history, of which a batch has 4\n"):
        model.loss(training_batch())
    assert bool(model.loss(cut(training_batch(), longest))["loss"].isfinite())


def test_a_batch_of_histories_of_one_item_is_no_sign_of_a_filter_without_states(sbert: str) -> None:
    batch = training_batch(negatives=1)
    batch["history"][:, :-1] = batch["targets"][:, :-1] = 0
    assert bool(build(sbert, positions="all").loss(batch)["loss"].isfinite())


def test_ncf_serves_as_filter(sbert: str) -> None:
    model = build(sbert, positions="all", cf=NCF(NUM_ITEMS, NUM_USERS))
    assert bool(model.loss(training_batch(negatives=1))["loss"].isfinite())


@pytest.mark.parametrize("vectors", ["items", "texts"])
def test_candidates_are_ranked_by_decoded_joint_vectors(sbert: str, vectors: Any) -> None:  # noqa: ANN401
    model = build(sbert, vectors=vectors).eval()
    batch, joint = evaluation_batch(), model.joint_vectors()
    decoded = model.alignment.items.decoder(getattr(joint, vectors))
    users = model.collaborative.user_vectors(batch)
    wanted = (users[:, None] * decoded[batch["candidates"]]).sum(-1)
    torch.testing.assert_close(model.score(batch), wanted, rtol=1e-5, atol=1e-6)


def test_joint_vectors_belong_to_items_and_are_saved(sbert: str, tmp_path: Path) -> None:
    model = build(sbert)
    joint = model.joint_vectors()
    assert joint.items.shape == joint.texts.shape == (NUM_ITEMS + 1, LATENT)
    assert not joint.items[0].any()
    torch.testing.assert_close(
        joint.items[3], model.alignment.items.encode(model.collaborative.item_vectors()[3]).detach()
    )
    joint.save(tmp_path / "joint.safetensors")
    assert torch.equal(type(joint).load(tmp_path / "joint.safetensors", model.collaborative).texts, joint.texts)


@pytest.mark.parametrize("most", [-5, 0, 1])
def test_texts_of_special_tokens_alone_are_refused(sbert: str, most: int) -> None:
    with pytest.raises(UserError, match=f"max_tokens is {most}\\.\n1 of them stand around any text: give 2 or more"):
        TextTower(sbert, max_tokens=most)
    tower = TextTower(sbert, max_tokens=2)
    tower.attach(catalogue()["texts"])
    assert max(map(len, tower.ids)) == 2


def test_no_text_has_more_tokens_than_the_sentence_model_has_places(sbert: str, tmp_path: Path) -> None:
    tokenizer = SentenceTransformer(sbert, device="cpu").tokenizer
    sizes: dict[str, Any] = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"max_position_embeddings": 10, "intermediate_size": 16, "pad_token_id": 1}
    RobertaModel(RobertaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(tmp_path)
    tower = TextTower(str(tmp_path))
    tower.attach(["", "red " * 20])
    assert [len(row) for row in tower.ids] == [1, 8]
    assert tower.all(torch.device("cpu")).isfinite().all()


def test_a_sentence_model_without_a_transformer_is_refused(sbert: str, tmp_path: Path) -> None:
    words = SentenceTransformer(sbert, device="cpu").tokenizer.backend_tokenizer
    SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=4)], device="cpu").save(str(tmp_path))
    with pytest.raises(UserError, match="begins with StaticEmbedding"):
        TextTower(str(tmp_path))


@pytest.mark.parametrize("option", [{"latent": 0}, {"weight_item": -0.5}, {"weight_text": -0.1}])
def test_senseless_numbers_are_refused(sbert: str, option: dict[str, float]) -> None:
    ((name, value),) = option.items()
    with pytest.raises(UserError, match=f"{name} is {value}"):
        ALLMRecStage1(NUM_ITEMS, sasrec(), sbert, **option)  # type: ignore[arg-type]  # values of several types


def test_items_without_texts_are_counted(sbert: str) -> None:
    with pytest.warns(UserWarning, match="1 of 2 items have no texts"):
        TextTower(sbert).attach(["", "red", " "])


def test_data_without_texts_is_refused(sbert: str) -> None:
    with pytest.raises(UserError, match="no item texts"):
        TextTower(sbert).attach(["", ""])


def test_a_frozen_sentence_model_must_be_that_of_the_training(sbert: str, tmp_path: Path) -> None:
    model, checkpoint = build(sbert, train_sbert=False), dict[str, Any]()
    model.on_save_checkpoint(checkpoint)
    build(sbert, train_sbert=False).on_load_checkpoint(checkpoint)
    other = SentenceTransformer(sbert, device="cpu")
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    other.save(str(tmp_path / "other"))
    with pytest.raises(UserError, match="was trained on sentence model"):
        build(str(tmp_path / "other"), train_sbert=False).on_load_checkpoint(checkpoint)
    # A checkpoint holds the weights of one that learns.
    build(str(tmp_path / "other"), train_sbert=True).on_load_checkpoint(checkpoint)


def test_unknown_sentence_model_says_how_to_get_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="cannot be loaded"):
        TextTower(str(tmp_path / "empty"))


def test_the_packaged_encoder_has_one_name_in_all_tables() -> None:
    assert text_marks("minilm") == [f"texts by {name_of('minilm', 'text')}"]
    assert text_marks("sentence-transformers/nq-distilbert-base-v1") == text_marks(None) == []
