"""`recbench generate`: what the language model of a finished stage 2 says of a user."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path

from allmrec.stage2 import ALLMRecStage2
from benchmarks.cli import write
from benchmarks.evaluate import load_run
from benchmarks.recommend import numbers_of
from common.errors import UserError

QUESTION = "In a few words, the kind of thing this person likes best is"


def generate(
    run: Path,
    *,
    user: list[str],
    prompt: str = QUESTION,
    max_tokens: int = 40,
    root: Path | None = None,
    json: bool = False,
) -> None:
    """Prints free text about users of a finished run, from their vectors and histories.

    A stand-in language model knows little beyond titles, and says little else.

    Args:
        run: Run folder of a stage 2 of A-LLMRec.
        user: Users, by their token in the source; their whole history counts.
        prompt: What the language model shall go on from, behind what it is told of the user.
        max_tokens: Longest text, in tokens.
        root: Folder of the stores, where it is not the run's.
        json: Print JSON instead of lines.
    """
    if max_tokens < 1:
        raise UserError(f"--max-tokens is {max_tokens}", "Give 1 or more.")
    _, module, model = load_run(run, [f"--data.root={root}"] if root else [])
    if not isinstance(model, ALLMRecStage2):
        raise UserError(
            f"{run} is a run of {type(model).__name__}, which writes no text.", "Name a run of stage 2 of A-LLMRec."
        )
    module.predict_users = numbers_of(user, module.store.user_tokens(), "user")
    texts = [text for batch in module.predict_dataloader() for text in model.write(batch, prompt, max_tokens)]
    answers = dict(zip(user, texts, strict=True))
    lines = [f"{name}: {text}" for name, text in answers.items()]
    write(jsonlib.dumps(answers, indent=2, ensure_ascii=False) if json else "\n".join(lines))
