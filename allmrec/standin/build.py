"""A stand-in language model for machines that cannot download one: small, built only from a catalogue's texts.

It learns the catalogue's titles and one pretext task on random item sets with fresh random vectors: name the candidate
whose slot holds the vector that represents the user. It never sees a user, a sequence or a collaborative filter's
vector. Its folder has Hugging Face layout and is loaded by the code that loads any other model; its rows are marked as
its own.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from allmrec.composer import Composer, plain
from allmrec.llm import FrozenLLM
from allmrec.prompts import STYLES, Domain, PromptStyle
from allmrec.standin.copier import HEADS, start_as_copier
from allmrec.standin.lessons import copy_loss, lesson
from allmrec.standin.settings import REPORT, StandInSettings, find_built, recipe, standin_name
from common.errors import DataError
from common.files import sha256_of

END = "</s>"


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

    Raises:
        DataError: If no item has a title.
    """
    if not any(titles):
        raise DataError("the data set has no titles for a stand-in to learn", "Choose a recipe with titles.")
    settings = settings or StandInSettings()
    name = standin_name(titles, texts, domain, settings)
    if folder := find_built(root, name):
        return folder
    style = STYLES[domain]
    root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{name}.", dir=root) as place, torch.random.fork_rng(), _without_bars():
        partial = Path(place) / name
        torch.manual_seed(settings.seed)
        tokenizer = train_tokenizer([*titles, *texts], style, settings.vocabulary)
        save_untrained(partial, tokenizer, settings, titles)
        report = train(FrozenLLM(str(partial), "fp32"), style, titles, texts, settings, partial, show)
        (partial / REPORT).write_text(json.dumps(recipe(domain, settings) | report, indent=2))
        # Another process may have built the same meanwhile.
        return find_built(root, name) or partial.replace(root / f"{name}-{weights_hash(partial)}")


def weights_hash(folder: Path) -> str:
    """Eight digits of the SHA-256 of a model's weights."""
    return sha256_of(folder / SAFE_WEIGHTS_NAME)[:8]


@contextmanager
def _without_bars() -> Iterator[None]:
    """Transformers draws bars of its own for files that take milliseconds."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


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
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, unk_token=END, pad_token="<pad>"
    )
    fast.save_pretrained(folder)


def schedule(step: int, steps: int) -> float:
    """Share of the learning rate at a step: up over the first tenth of them, down to 0 over the second half.

    At a constant rate the last lesson stays where it begins, at 43 % of right answers on Beauty; so it ends at 66 %.
    """
    return min(1.0, 10 * (step + 1) / max(1, steps), 2 * (1 - step / max(1, steps)))


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
    rows = [row[: settings.text_tokens] for row in llm.answer_ids([plain(llm, text) for text in texts if text])]
    parameters = list(llm.module.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, settings.steps))
    generator = torch.Generator().manual_seed(settings.seed)
    level, right = 0, deque[float](maxlen=20)
    for step in range(settings.steps):
        batch = lesson(composer, settings.batch_size, settings.levels[level], generator)
        loss, share = copy_loss(llm, batch)
        if rows and settings.text_rows:
            drawn = torch.randint(len(rows), (settings.text_rows,), generator=generator).tolist()
            loss = loss + 0.1 * llm.answer_loss([[llm.end_id]] * len(drawn), [rows[i] for i in drawn], None)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        rate.step()
        right.append(share)
        show(f"Stand-in: step {step + 1} of {settings.steps}, lesson {level + 1}, {sum(right) / len(right):.0%} right")
        if len(right) == 20 and sum(right) / 20 >= settings.passed and level + 1 < len(settings.levels):
            level += 1
            right.clear()
    llm.module.requires_grad_(False)
    llm.module.save_pretrained(folder)
    return {"level": level, "right": sum(right) / max(1, len(right)), "parameters": llm.num_parameters}
