"""As much at a time as fits into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lightning.pytorch.utilities.memory import garbage_collection_cuda, is_oom_error

from common.errors import UserError

Made = TypeVar("Made")


def halving(make: Callable[[int], Made], size: int, refusal: UserError) -> tuple[Made, int]:
    """What ``make`` returns, given a size that is halved until there is memory for it, and the size that fitted.

    Args:
        make: Function of the size, such as rows at a time.
        size: Size to begin with.
        refusal: What to raise if there is none even for 1.

    Raises:
        UserError: ``refusal``.
    """
    while True:
        try:
            return make(size), size
        except RuntimeError as error:
            if not is_oom_error(error):
                raise
            size //= 2
            if not size:
                raise refusal from error
        # Outside the handler, whose traceback still holds the tensors of the failed attempt.
        garbage_collection_cuda()
