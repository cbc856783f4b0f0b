"""`recbench …` and `python -m benchmarks …`."""

from __future__ import annotations

import sys

from benchmarks.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
