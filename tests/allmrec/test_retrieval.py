"""The retrieval style on tiny decoders, and on the packaged encoder where it is installed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from allmrec.composer import USER_SLOT, Prompts
from allmrec.retrieval import ALLMRecRetrieval, FrozenReader
from common.errors import UserError
from common.text.encoders import packaged_minilm
from common.types import SequenceBatch
from tests.allmrec import tiny
from tests.allmrec.tiny import TITLES
from tests.allmrec.world import LATENT, NUM_ITEMS, catalogue, evaluation_batch, joint_file, sasrec, training_batch


@pytest.fixture
def joint(tmp_path: Path) -> str:
    return joint_file(tmp_path)


def build(reader: str, joint: str, **options: Any) -> ALLMRecRetrieval:  # noqa: ANN401
    torch.manual_seed(0)
    model = ALLMRecRetrieval(NUM_ITEMS, sasrec(), joint, reader, latent=LATENT, width=8, **options)
    model.attach(catalogue())
    return model


def assert_learns(model: ALLMRecRetrieval, steps: int) -> None:
    batch, optimizer = training_batch(), model.configure_optimizers()
    assert optimizer is not None
    first = model.loss(batch)["loss"].item()
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(batch)["loss"].backward()
        optimizer.step()
    assert model.loss(batch)["loss"].item() < first - 0.5
    assert not any("reader" in name or "collaborative" in name for name in model.state_dict())


@pytest.mark.parametrize("family", ["opt", "llama", "qwen2"])
def test_a_reader_keeps_no_keys_and_values(folders: dict[str, str], family: str) -> None:
    reader = FrozenReader(folders[family])
    assert reader(inputs_embeds=torch.zeros(1, 3, reader.width)).past_key_values is None


@pytest.mark.parametrize("family", ["opt", "llama", "qwen2"])
def test_it_learns_through_a_frozen_decoder(folders: dict[str, str], joint: str, family: str) -> None:
    assert_learns(build(folders[family], joint, pooling="last", lr=0.01), 15)


@pytest.mark.skipif(packaged_minilm() is None, reason="the extra minilm is not installed")
def test_it_learns_through_the_packaged_encoder(joint: str) -> None:
    model = build("minilm", joint, lr=0.003)
    assert model.language_model == "minilm"
    assert_learns(model, 15)


def test_a_reader_in_bf16_rounds_its_states_and_leaves_what_learns_in_fp32(folders: dict[str, str], joint: str) -> None:
    options: dict[str, Any] = {"pooling": "last", "lr": 0.01}
    whole, half = (build(folders["opt"], joint, precision=precision, **options) for precision in ("fp32", "bf16"))
    assert half.reader.module.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    states = [model.item_states(torch.arange(1, NUM_ITEMS + 1)) for model in (whole, half)]
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0.05)
    assert not torch.equal(*states)
    assert_learns(half, 15)


def test_company_changes_no_state(folders: dict[str, str], joint: str) -> None:
    model, batch = build(folders["llama"], joint), evaluation_batch()
    whole: Tensor = model.encode(batch)
    alone: Any = {key: value[2:3] if isinstance(value, Tensor) else value for key, value in batch.items()}
    torch.testing.assert_close(model.encode(alone), whole[2:3], rtol=1e-4, atol=1e-4)
    items = torch.tensor([3, 9, 1, 3])
    states = model.item_states(items)
    torch.testing.assert_close(states[0], states[3])
    torch.testing.assert_close(model.item_states(items[1:2])[0], states[1], rtol=1e-4, atol=1e-5)


def test_it_ranks_candidates_and_the_whole_catalogue_alike(folders: dict[str, str], joint: str) -> None:
    model, batch = build(folders["opt"], joint), evaluation_batch()
    whole = model.score_catalogue(batch)
    assert whole.shape == (4, NUM_ITEMS + 1)
    torch.testing.assert_close(model.score(batch), whole.gather(1, batch["candidates"]), rtol=1e-4, atol=1e-4)


def test_states_follow_the_weights(folders: dict[str, str], joint: str) -> None:
    model = build(folders["opt"], joint)
    before = model.output_table().clone()
    assert model.output_table() is model.output_table()
    model.loss(training_batch())
    torch.nn.init.normal_(model.item_head.weight)
    assert not torch.equal(model.output_table(), before)


@pytest.mark.parametrize(("option", "least"), [("shown_history", 0), ("max_title_tokens", 1)])
def test_a_text_of_less_than_nothing_is_refused(folders: dict[str, str], joint: str, option: str, least: int) -> None:
    with pytest.raises(UserError, match=f"{option} is {least - 1}"):
        build(folders["opt"], joint, **{option: least - 1})
    assert build(folders["opt"], joint, **{option: least}).score(evaluation_batch()).isfinite().all()


@pytest.mark.parametrize("family", ["opt", "llama"])
def test_a_long_history_loses_its_oldest_items_and_is_counted(tmp_path: Path, joint: str, family: str) -> None:
    batch = evaluation_batch()
    lengths = [len(ids) for ids in build(tiny.build(tmp_path / "wide", family), joint).prompts(batch).ids]
    model = build(tiny.build(tmp_path, family, context=max(lengths) - 1), joint)
    prompts = model.prompts(batch)
    assert prompts.shortened == [length == max(lengths) for length in lengths]
    row = prompts.shortened.index(True)
    assert prompts.slots[row] == [USER_SLOT, *batch["history"][row, 1:].tolist()]
    model.on_test_epoch_start()
    model.test_step(batch, 0)
    model.test_step(batch, 1)
    share = sum(prompts.shortened) / 4
    assert model.extra_metrics() == {"test/sampled-19/overall/prompts/shortened": share}
    assert 0 < share < 1


@pytest.mark.parametrize("full", [False, True])
def test_a_test_writes_each_prompt_once(
    folders: dict[str, str], joint: str, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    model, batch, rows = build(folders["opt"], joint).eval(), evaluation_batch(), list[int]()
    if full:
        batch = {**batch, "protocol": "full", "seen": batch["history"]}
        del batch["candidates"]
    wanted, shortened, write = model.rank(batch), model.prompts(batch).shortened, ALLMRecRetrieval.prompts

    def noted(model: ALLMRecRetrieval, chunk: SequenceBatch) -> Prompts:
        rows.append(len(chunk["history"]))
        return write(model, chunk)

    monkeypatch.setattr(ALLMRecRetrieval, "prompts", noted)
    model.chunk_rows = 3
    model.on_test_epoch_start()
    model.test_step(batch, 0)
    assert rows == [3, 1]
    found = model.case_ranks[batch["protocol"]].compute()
    assert all(torch.equal(found[name], values) for name, values in wanted.items())
    assert list(model.extra_metrics().values()) == [sum(shortened) / 4]


@pytest.mark.parametrize("family", ["opt", "llama"])
def test_texts_that_fit_in_no_way_are_told(tmp_path: Path, joint: str, family: str) -> None:
    with pytest.raises(UserError, match=r"text of an item has \d+ tokens, and .* room for 5"):
        build(tiny.build(tmp_path / "item", family, context=5), joint)
    model = build(tiny.build(tmp_path / "user", family, context=9), joint)
    with pytest.raises(UserError, match=r"a user's text and no history has \d+ tokens"):
        model.score(evaluation_batch())


def test_cut_titles_are_counted_and_an_empty_history_is_not_spoken_of(folders: dict[str, str], joint: str) -> None:
    model, batch = build(folders["opt"], joint, max_title_tokens=1), evaluation_batch()
    assert model.cut_titles == sum(len(title.split()) > 1 for title in TITLES)
    batch["history"] = torch.zeros_like(batch["history"])
    texts = model.reader.tokenizer.batch_decode(model.prompts(batch).ids)
    assert not any("So far" in text for text in texts)
    assert model.score(batch).isfinite().all()


def test_a_temperature_of_nothing_is_refused(folders: dict[str, str], joint: str) -> None:
    with pytest.raises(UserError, match="temperature is 0"):
        build(folders["opt"], joint, temperature=0.0)


def test_vectors_matter_in_their_slots(folders: dict[str, str], joint: str) -> None:
    model, batch = build(folders["opt"], joint), evaluation_batch()
    users, items = model.encode(batch), model.item_states(torch.tensor([1, 2]))
    model.joint.normal_()
    assert not torch.allclose(model.encode(batch), users)
    assert not torch.allclose(model.item_states(torch.tensor([1, 2])), items)
