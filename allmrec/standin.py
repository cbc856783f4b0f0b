"""A stand-in language model for machines that can download none: small, built from a catalogue's texts alone.

It learns the catalogue's titles and one trick, on random item sets with fresh random vectors: name the candidate whose
slot holds the vector that stands for the user. It never sees a user, a sequence or a collaborative filter's vector. Its
folder has Hugging Face layout and is loaded by the code that loads any other model; its rows are marked as its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast
from transformers.models.opt.modeling_opt import OPTAttention

from allmrec.composer import Composer
from allmrec.llm import IGNORED, FrozenLLM, answer_loss, labelled
from allmrec.prompts import STYLES, Domain, PromptStyle

HEADS = 4
PARTS = 2 * HEADS
"""Parts of a token vector; a head compares two."""
USER, PLACE, WORD, BEFORE, FOUND, BAG, MARK = 0, 2, 3, 4, 5, 6, 7
"""What the parts hold at the start of training: what was read of the user's vector (two parts), where a token stands,
which token it is, which token stands before it, where the slot was found, which words stand about here, whether this is
the user's place."""
READ = (WORD, FOUND)
"""Parts of a slot's vector that are compared: those that no head of the first layer writes to."""
END = "</s>"
REPORT = "standin.json"
"""File of a stand-in's folder that says how it was made; no other language model has one."""
VERSION = 7
"""Raised when a change makes another model of the same settings."""


class Level(NamedTuple):
    """One lesson."""

    candidates: int
    history: int
    noise: float
    """How unlike the vectors of the user and of the right candidate are at most: only where some are hardly alike does
    the model learn to weigh candidates, so that a user's vector that is little better than chance learns from it."""


LEVELS = (
    Level(2, 0, 0.0),
    Level(3, 0, 0.0),
    Level(5, 2, 0.1),
    Level(8, 4, 0.2),
    Level(12, 7, 0.3),
    Level(20, 10, 0.5),
    Level(20, 10, 2.5),
)


@dataclass(frozen=True)
class StandInSettings:
    """Size and training of a stand-in.

    Args:
        width: Width of token vectors, a multiple of 16.
        layers: Layers, at least 3.
        vocabulary: Tokens of the byte-pair tokenizer.
        context: Tokens that fit into the context.
        steps: Training steps.
        batch_size: Prompts a step.
        text_rows: Texts a step, read as plain text.
        text_tokens: Tokens of a text that are read.
        title_tokens: Tokens of a title that prompts show.
        lr: Learning rate of AdamW, after warming up for a tenth of the steps.
        passed: Share of whole answers that must be right, over 20 batches, before the next level.
        seed: Seed of all draws.
        levels: Lessons, in their order.
    """

    width: int = 128
    layers: int = 3
    vocabulary: int = 4000
    context: int = 1024
    steps: int = 600
    batch_size: int = 16
    text_rows: int = 4
    text_tokens: int = 48
    title_tokens: int = 24
    lr: float = 2e-3
    passed: float = 0.8
    seed: int = 0
    levels: tuple[Level, ...] = LEVELS


SMALL = StandInSettings(
    vocabulary=2500,
    steps=600,
    batch_size=8,
    text_rows=1,
    passed=0.65,
    levels=(*LEVELS[:3], Level(8, 3, 0.2), Level(12, 5, 0.3), Level(20, 5, 0.5), Level(20, 5, 2.5)),
)
"""A stand-in for the small synthetic world, built in about a minute on two cores."""


def build_standin(
    titles: Sequence[str],
    texts: Sequence[str],
    root: Path,
    domain: Domain = "general",
    settings: StandInSettings | None = None,
    show: Callable[[str], None] = lambda text: None,
) -> Path:
    """Trains a stand-in, or finds the one that the same catalogue and settings gave before.

    Args:
        titles: Title of each item; index 0 is padding.
        texts: Text of each item; index 0 is padding.
        root: Folder of stand-ins.
        domain: Whose words its prompts use.
        settings: Size and training.
        show: Told of the step at hand.

    Returns:
        Folder of the model, which appears whole or not at all.
    """
    settings = settings or StandInSettings()
    folder = root / standin_name(titles, texts, domain, settings)
    if (folder / REPORT).is_file():
        return folder
    partial = root / f"{folder.name}.{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    style = STYLES[domain]()
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        tokenizer = train_tokenizer([*titles, *texts], style, settings.vocabulary)
        save_untrained(partial, tokenizer, settings, titles)
        report = train(FrozenLLM(str(partial), "fp32"), style, titles, texts, settings, partial, show)
    (partial / REPORT).write_text(json.dumps(_recipe(domain, settings) | report, indent=2))
    partial.replace(folder)
    return folder


def standin_name(titles: Sequence[str], texts: Sequence[str], domain: Domain, settings: StandInSettings) -> str:
    """Name of the folder: a hash of the catalogue, the settings and the version of the pretext."""
    content = json.dumps([_recipe(domain, settings), list(titles), list(texts)])
    return f"standin-text-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _recipe(domain: Domain, settings: StandInSettings) -> dict[str, object]:
    return {"kind": "standin-text", "version": VERSION, "domain": domain, **asdict(settings)}


def train_tokenizer(texts: Sequence[str], style: PromptStyle, size: int) -> Tokenizer:
    """Byte pairs of the catalogue and of the prompt's words; as OPT's, it begins every text with the end token."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    alphabet = ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=size, special_tokens=["<pad>", END], initial_alphabet=alphabet, show_progress=False)
    sample = [style.compose(list(texts[1:3]), list(texts[3:5]), soft=False)] * 100
    tokenizer.train_from_iterator([*texts, *sample], trainer)
    tokenizer.post_processor = TemplateProcessing(
        single=f"{END} $A", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    return tokenizer


def save_untrained(folder: Path, tokenizer: Tokenizer, settings: StandInSettings, titles: Sequence[str]) -> None:
    """Writes tokenizer and initial model."""
    end = tokenizer.token_to_id(END)
    config = OPTConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=settings.width,
        word_embed_proj_dim=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=HEADS,
        ffn_dim=4 * settings.width,
        max_position_embeddings=settings.context,
        dropout=0.0,
        pad_token_id=tokenizer.token_to_id("<pad>"),
        bos_token_id=end,
        eos_token_id=end,
    )
    model = OPTForCausalLM(config)
    lengths = [len(tokens.ids) for tokens in tokenizer.encode_batch(list(titles), add_special_tokens=False)]
    start_as_copier(model, sum(lengths) / len(lengths))
    model.save_pretrained(folder)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, unk_token=END, pad_token="<pad>"
    )
    fast.save_pretrained(folder)


@torch.no_grad()
def start_as_copier(model: OPTForCausalLM, title_tokens: float) -> None:
    """Initial weights with which the trick can be learnt in minutes.

    From random weights a small model learns to name some candidate, and then no gradient tells it which. So a few heads
    start out as what the trick needs. First layer: one fetches the user's vector, from the place where prompts hold it;
    one notes at each token the word before it; one the words shortly before. Second: one looks for the slot with the
    user's vector, notes its place and says its words. Third: one looks shortly before that place for a token that
    stands behind the word at hand, and says it. All other heads have equal query and key projections, so that like
    attends to like. Training changes all of it.

    Args:
        model: A model of three layers or more.
        title_tokens: Tokens of an average title, at whose end a slot stands.
    """
    decoder, width = model.model.decoder, model.config.hidden_size
    part = width // PARTS
    words, places = decoder.embed_tokens.weight, decoder.embed_positions.weight
    words.zero_()[:, _part(WORD, part)] = torch.randn(len(words), part)
    # Places a few tokens apart have like vectors.
    pace = torch.logspace(-2.5, 0.4, part // 2)
    angles = (torch.arange(len(places)) - 2)[:, None] * pace
    places.zero_()[:, _part(PLACE, part)] = 3 * torch.cat([angles.sin(), angles.cos()], dim=1)
    for layer in decoder.layers:
        attention = layer.self_attn
        for projection in (attention.q_proj, attention.v_proj):
            torch.nn.init.normal_(projection.weight, std=0.05)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        torch.nn.init.normal_(attention.out_proj.weight, std=0.02)
    read = torch.zeros(2 * part, width)
    # Orthogonal, so that vectors are as like each other where they are read as where they stand.
    turned = torch.nn.init.orthogonal_(torch.empty(2 * part, 2 * part)).split(part, dim=1)
    for number, columns in zip(READ, turned, strict=True):
        read[:, _part(number, part)] = columns
    parts = torch.eye(width).view(PARTS, part, width)
    word, place, before, found, bag, mark = (parts[number] for number in (WORD, PLACE, BEFORE, FOUND, BAG, MARK))
    user = parts[USER : USER + 2].flatten(0, 1)
    first, second, third = (layer.self_attn for layer in decoder.layers[:3])
    # The user's slot is the second token, behind the beginning; OPT's table of places starts two rows late.
    places[1 + 2, _part(MARK, part)] = 4.0
    slow = torch.diag((pace < 4 / title_tokens).float().repeat(2))
    _wire(first, 0, 0 * mark, mark, (read, USER, 2.0))
    first.q_proj.bias[:part] = 3.0
    _wire(first, 1, _earlier(pace, 1.0) @ place, place, (word, BEFORE, 2.0))
    # Slow paces alone see that a place is near without minding how many tokens exactly.
    _wire(first, 2, _earlier(pace, 0.6 * title_tokens) @ place, slow @ place, (word, BAG, 2.0))
    seek, keys = 2.2 * user, 2.2 * read
    # The user's slot holds the user's vector too, and is not what is looked for.
    seek[0], keys[0] = 0.0, -mark.sum(0)
    _wire(second, 0, seek, keys, (place, FOUND, 2.0), (bag, WORD, 0.5))
    second.q_proj.bias[0] = 3.2
    near = 2 * _earlier(pace, 0.6 * title_tokens) @ found, 2 * slow @ place
    _wire(third, 0, torch.cat([2 * word, near[0]]), torch.cat([2 * before, near[1]]), (word, WORD, 2.0))


def _earlier(pace: Float[Tensor, "p"], tokens: float) -> Float[Tensor, "w w"]:
    """The matrix that turns the vector of a place into that of the place some tokens earlier."""
    cos, sin = torch.diag((pace * tokens).cos()), torch.diag((pace * tokens).sin())
    return torch.cat([torch.cat([cos, -sin], dim=1), torch.cat([sin, cos], dim=1)])


def fresh_vectors(shape: tuple[int, ...], width: int, generator: torch.Generator) -> Float[Tensor, "..."]:
    """Random vectors for slots."""
    return torch.randn(*shape, width, generator=generator)


class Lesson(NamedTuple):
    """A batch of the pretext: prompts and answers in tokens, and the vectors of the prompts' slots."""

    prompts: list[list[int]]
    answers: list[list[int]]
    soft: Float[Tensor, "s d"]


def lesson(composer: Composer, rows: int, level: Level, generator: torch.Generator) -> Lesson:
    """Random items with random vectors; the user's vector is like that of one candidate, whose title is the answer."""
    count = level.candidates + level.history
    items = 1 + torch.stack(
        [torch.randperm(len(composer.titles) - 1, generator=generator)[:count] for _ in range(rows)]
    )
    history, shown = items[:, level.candidates :], items[:, : level.candidates]
    width = composer.llm.width
    # Projections that learn are as long as they like.
    lengths = 0.4 + 0.8 * torch.rand(rows, 1, 1, generator=generator)
    vectors = lengths * fresh_vectors((rows, count), width, generator)
    target = torch.randint(level.candidates, (rows,), generator=generator)
    row = torch.arange(rows)
    unlike = level.noise * torch.rand(rows, 1, generator=generator)
    noise = unlike * lengths[:, 0] * fresh_vectors((rows,), width, generator)
    users = (vectors[row, target] + noise) / (1 + unlike**2).sqrt()
    prompts = composer(history, shown)
    # A prompt that had to be shortened has fewer slots, of which the oldest history is missing.
    soft = []
    for user, given, slots in zip(users, vectors, prompts.slots, strict=True):
        past = given[level.candidates :][level.candidates + level.history - len(slots) + 1 :]
        soft.append(torch.cat([user[None], past, given[: level.candidates]]))
    answers = [composer.answers[item] for item in shown[row, target].tolist()]
    return Lesson(prompts.ids, answers, torch.cat(soft))


def train(
    llm: FrozenLLM,
    style: PromptStyle,
    titles: Sequence[str],
    texts: Sequence[str],
    settings: StandInSettings,
    folder: Path,
    show: Callable[[str], None],
) -> dict[str, int | float]:
    """Trains the model and saves it into ``folder``; returns the level reached and the last share of right answers."""
    composer = Composer(llm, style, titles, max_title_tokens=settings.title_tokens)
    rows = [row[: settings.text_tokens] for row in llm.answer_ids([text for text in texts if text])]
    parameters = list(llm.module.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.01)
    warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, 10 * (step + 1) / max(1, settings.steps)))
    generator = torch.Generator().manual_seed(settings.seed)
    level, right = 0, deque[float](maxlen=20)
    for step in range(settings.steps):
        batch = lesson(composer, settings.batch_size, settings.levels[level], generator)
        loss, share = copy_loss(llm, batch)
        if rows and settings.text_rows:
            drawn = torch.randint(len(rows), (settings.text_rows,), generator=generator).tolist()
            loss = loss + 0.1 * llm.answer_loss([[llm.end_id]] * len(drawn), [rows[i] for i in drawn], None)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        warm.step()
        right.append(share)
        show(f"Stand-in: step {step + 1} of {settings.steps}, lesson {level + 1}, {sum(right) / len(right):.0%} right")
        if len(right) == 20 and sum(right) / 20 >= settings.passed and level + 1 < len(settings.levels):
            level += 1
            right.clear()
    llm.module.requires_grad_(False)
    llm.module.save_pretrained(folder)
    return {"level": level, "right": sum(right) / max(1, len(right)), "parameters": llm.num_parameters}


def copy_loss(llm: FrozenLLM, batch: Lesson) -> tuple[Tensor, float]:
    """Next-token loss on the answers, and the share of answers whose every token is the likeliest."""
    tokens, labels = labelled(batch.prompts, batch.answers)
    keep = max(map(len, batch.answers)) + 1
    logits = llm.logits(llm.embed(tokens, batch.soft), tokens.real, keep)[:, :-1]
    labels = labels[:, 1 - keep :]
    return answer_loss(logits, labels), float(whole_answers(logits, labels).float().mean())


def whole_answers(logits: Float[Tensor, "b t v"], labels: Int[Tensor, "b t"]) -> Tensor:
    """Which rows have the right token everywhere."""
    return ((logits.argmax(-1) == labels) | (labels == IGNORED)).all(1)


def _part(number: int, size: int) -> slice:
    return slice(number * size, (number + 1) * size)


def _wire(
    attention: OPTAttention,
    head: int,
    query: Float[Tensor, "q w"],
    key: Float[Tensor, "q w"],
    *moves: tuple[Tensor, int, float],
) -> None:
    """Makes one head compare what ``query`` and ``key`` read of tokens, and move what it finds.

    Args:
        attention: The layer's attention.
        head: Number of the head.
        query: What is read of the token that asks.
        key: What is read of the tokens that are asked.
        moves: What is read of the found token, the part that it is added to, and how many times.
    """
    own = _part(head, attention.head_dim)
    start, part = own.start, attention.head_dim // 2
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[own] = 0
    attention.out_proj.weight[:, own] = 0
    attention.q_proj.weight[start : start + len(query)] = query
    attention.k_proj.weight[start : start + len(key)] = key
    for value, out, gain in moves:
        end = start + len(value)
        attention.v_proj.weight[start:end] = value
        attention.out_proj.weight[out * part : out * part + len(value), start:end] = gain * torch.eye(len(value))
        start = end
