"""Whether runs can be sent to Weights & Biases from here, found out without importing it."""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

from common.errors import UserError

KEYLESS = ("offline", "disabled", "dryrun")
"""Values of ``WANDB_MODE`` that need no key."""


def wandb_state() -> str:
    """Whether a W&B key is available, without showing it."""
    if os.environ.get("WANDB_MODE") in KEYLESS:
        return f"WANDB_MODE={os.environ['WANDB_MODE']}"
    if os.environ.get("WANDB_API_KEY"):
        return "logged in by WANDB_API_KEY"
    if os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return "logged in by WANDB_IDENTITY_TOKEN_FILE"
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").netloc
    path = os.environ.get("NETRC") or "~/.netrc"
    try:
        known = netrc.netrc(Path(path).expanduser()).authenticators(host)
    except (OSError, RuntimeError, netrc.NetrcParseError):
        # In a container, a user may have no home at all.
        known = None
    return f"logged in by {path}" if known else "not logged in: `wandb login`, or WANDB_MODE=offline"


def wandb_mode() -> str:
    """``online`` with a key, ``offline`` without one, unless ``WANDB_MODE`` decides.

    Raises:
        UserError: If ``WANDB_MODE`` is ``online`` and there is no key.
    """
    asked, state = os.environ.get("WANDB_MODE"), wandb_state()
    if asked in KEYLESS:
        return "disabled" if asked == "disabled" else "offline"
    if state.startswith("logged in"):
        return "online"
    if asked == "online":
        raise UserError(
            "WANDB_MODE=online, but W&B has no key.", "Run `wandb login`, or unset WANDB_MODE to log offline."
        )
    return "offline"
