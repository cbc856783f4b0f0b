"""Evaluation in pieces, each on one thread of the processor from its first operation to its last."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

PieceT = TypeVar("PieceT")


def in_threads(step: Callable[[PieceT], None], pieces: Sequence[PieceT], device: torch.device) -> None:
    """Calls ``step`` on every piece.

    On a CPU, without gradients, PyTorch's threads share the pieces: operations so small that they stay in a thread's
    cache gain nothing from a second thread. On another device, with gradients or autocast, pieces run one by one.

    Args:
        step: What to do with a piece; no two pieces may write to the same place.
        pieces: The pieces.
        device: Where its tensors lie.
    """
    one_by_one = torch.is_grad_enabled() or torch.is_autocast_enabled(device.type)
    if one_by_one or device.type != "cpu" or torch.get_num_threads() == 1:
        for piece in pieces:
            step(piece)
        return
    inference = torch.is_inference_mode_enabled()

    def alone(piece: PieceT) -> None:
        # Modes belong to a thread, and leaving inference mode would turn gradients on.
        with torch.inference_mode(inference), torch.no_grad():
            step(piece)

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            # Read to the end, so that an error is raised here.
            deque(pool.map(alone, pieces), maxlen=0)
    finally:
        # Threads that are made later start with the number that any thread set last.
        torch.set_num_threads(threads)
