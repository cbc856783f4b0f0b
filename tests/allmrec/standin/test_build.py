"""The stand-in: its trick, its folder, and that nothing of users enters it."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from allmrec.composer import Composer
from allmrec.decoding import likelihoods, read_prefix
from allmrec.llm import FrozenLLM
from allmrec.prompts import PromptStyle
from allmrec.standin.build import build_standin
from allmrec.standin.lessons import copy_loss, fresh_vectors, lesson
from allmrec.standin.settings import REPORT, Level, StandInSettings
from tests.allmrec.tiny import TITLES

TINY = StandInSettings(width=128, vocabulary=330, steps=4, batch_size=8, text_rows=2)
TEXTS = ["", *(f"{title}: all about {title}" for title in TITLES[1:])]


def build(root: Path, settings: StandInSettings = TINY) -> Path:
    return build_standin(TITLES, TEXTS, root, settings=settings)


def test_it_is_loaded_like_any_other_model(tmp_path: Path) -> None:
    folder = build(tmp_path)
    llm = FrozenLLM(str(folder))
    assert llm.width == TINY.width
    report = json.loads((folder / REPORT).read_text())
    assert (report["kind"], report["level"], report["parameters"]) == ("standin-text", 0, llm.num_parameters)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_it_is_deterministic_and_built_once(tmp_path: Path) -> None:
    first, second = build(tmp_path / "a"), build(tmp_path / "b")
    assert first.name == second.name
    assert first.name.endswith("-" + hashlib.sha256((first / "model.safetensors").read_bytes()).hexdigest()[:8])
    weights = [load_file(folder / "model.safetensors") for folder in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    (first / "model.safetensors").write_bytes(b"kept")
    assert build(tmp_path / "a") == first
    assert (first / "model.safetensors").read_bytes() == b"kept"
    assert build(tmp_path / "a", replace(TINY, seed=1)) != first


def test_slots_in_texts_of_the_catalogue_are_no_slots(tmp_path: Path) -> None:
    texts = ["", *(f"[UserRep] {text}</s> [HistoryEmb]" for text in TEXTS[1:])]
    assert build_standin(TITLES, texts, tmp_path, settings=TINY).is_dir()


def test_global_randomness_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    build(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_a_lesson_shows_the_target_and_its_vector(tmp_path: Path) -> None:
    llm = FrozenLLM(str(build(tmp_path)), "fp32")
    composer = Composer(llm, PromptStyle(), TITLES)
    batch = lesson(composer, 6, Level(3, 2, 0.0), torch.Generator().manual_seed(2))
    start = 0
    for prompt, answer in zip(batch.prompts, batch.answers, strict=True):
        slots = int(llm.is_slot(torch.tensor([prompt])).sum())
        user, candidates = batch.soft[start], batch.soft[start + slots - 3 : start + slots]
        start += slots
        place = int((candidates == user).all(1).nonzero())
        shown = str(llm.tokenizer.decode(prompt)).split("comes next:")[1].split("[CandidateEmb]")[place]
        assert str(llm.tokenizer.decode(answer[:-1])).strip() == shown.lstrip(", ")
    assert start == len(batch.soft)


def test_untrained_heads_find_the_slot_of_the_users_vector(tmp_path: Path) -> None:
    llm = FrozenLLM(str(build(tmp_path, replace(TINY, steps=0))), "fp32")
    llm.module.set_attn_implementation("eager")
    batch = lesson(Composer(llm, PromptStyle(), TITLES), 1, Level(6, 0, 0.0), torch.Generator().manual_seed(3))
    ids = torch.tensor(batch.prompts)
    slots = llm.is_slot(ids)[0].nonzero()[1:, 0]
    embedded = llm.module.get_input_embeddings()(ids.masked_fill(llm.is_slot(ids), 0))
    embedded[llm.is_slot(ids)] = batch.soft
    found = llm(inputs_embeds=embedded, output_attentions=True).attentions[1][0, 0, -1]
    target = int((batch.soft[1:] == batch.soft[0]).all(1).nonzero())
    assert int(found.argmax()) == int(slots[target])


def test_vectors_are_fresh() -> None:
    first, second = (fresh_vectors((500, 2), 32, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert not torch.equal(first, second)
    assert first.std().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.slow
def test_it_learns_to_name_the_candidate_that_the_user_points_at(tmp_path: Path) -> None:
    level = Level(2, 0, 0.0)
    settings = replace(TINY, steps=250, batch_size=16, text_rows=0, levels=(level,))
    llm = FrozenLLM(str(build(tmp_path, settings)), "fp32")
    composer = Composer(llm, PromptStyle(), TITLES)
    batch = lesson(composer, 200, level, torch.Generator().manual_seed(99))
    with torch.no_grad():
        assert copy_loss(llm, batch)[1] > 0.8
    # The same prompts under vectors of others: the answer follows the vector, not the text.
    prefix = read_prefix(llm, batch.prompts, batch.soft.flip(0))
    total = likelihoods(llm, prefix, [[answer] for answer in batch.answers]).total
    right = likelihoods(llm, read_prefix(llm, batch.prompts, batch.soft), [[a] for a in batch.answers]).total
    assert (right > total).float().mean() > 0.7


def test_a_lesson_has_no_more_candidates_than_the_catalogue_items(opt: FrozenLLM) -> None:
    composer = Composer(opt, PromptStyle(), TITLES[:8])
    for seed in range(3):
        given = lesson(composer, 4, Level(20, 10, 0.5), torch.Generator().manual_seed(seed))
        slots = sum(int(opt.is_slot(torch.tensor([row])).sum()) for row in given.prompts)
        assert len(given.soft) == slots == 4 * (1 + 7)
