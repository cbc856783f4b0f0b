"""As many texts at a time as fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lightning.pytorch.utilities.memory import garbage_collection_cuda, is_oom_error

from common.errors import UserError

Made = TypeVar("Made")


def within_memory(make: Callable[[int], Made], name: str, texts: int = 1) -> Made:
    """What ``make`` returns, given as many texts per pass as fit into memory: they are halved until they do.

    Args:
        make: Function of the texts per pass.
        name: Language model that it runs.
        texts: Texts per pass to begin with.

    Raises:
        UserError: If a single one does not fit.
    """
    while True:
        try:
            return make(texts)
        except RuntimeError as error:
            if not is_oom_error(error):
                raise
            texts //= 2
            if not texts:
                raise UserError(
                    f"Out of memory: language model {name!r} does not fit with a single text.",
                    "Free memory, or choose with --data.text_encoder a smaller model or, as lm:NAME:POOLING:bfloat16, "
                    "half the precision.",
                ) from error
        # Outside the handler, whose traceback still holds the tensors of the failed attempt.
        garbage_collection_cuda()
