"""Vectors of texts from an OpenAI-compatible endpoint, whose key is kept out of every message and file."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from urllib.parse import urlsplit

import requests
import torch
from jaxtyping import Float
from requests.adapters import HTTPAdapter
from requests.utils import get_auth_from_url, urldefragauth
from rich.progress import track
from torch import Tensor
from urllib3 import BaseHTTPResponse
from urllib3.util import Retry

from common.errors import UserError

OPENAI = "https://api.openai.com/v1"
LONGEST_PAUSE = 60.0
"""Seconds that a server may make us wait, whatever it asks for."""
_WORDS = 400
"""Characters of what an endpoint says that a message passes on."""

_SHOWN = 5
"""Indices that a message lists."""


class Patience(Retry):
    """Asks again after the pause that a server wishes, up to :data:`LONGEST_PAUSE`."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """Seconds to wait, if the server says how many."""
        wished = super().get_retry_after(response)
        return None if wished is None else min(float(wished), LONGEST_PAUSE)


class EndpointEncoder:
    """An OpenAI-compatible embeddings endpoint; the key comes from the environment and is never stored.

    Args:
        model: Model to ask for.
        url: Base URL; by default ``OPENAI_BASE_URL``. A user and a password in it are sent instead of the key.
        batch_size: Texts per request.
        backoff: Seconds of the first pause; where the server is busy, unreachable or cut off it is asked five more
            times, after growing pauses.

    Raises:
        UserError: If the URL is not valid.
    """

    def __init__(self, model: str, url: str | None = None, batch_size: int = 128, backoff: float = 1.0) -> None:
        self.model = model
        self.url, self.login = divided(url or os.environ.get("OPENAI_BASE_URL") or OPENAI)
        self.batch_size = batch_size
        self.retry = Patience(
            total=5,
            backoff_factor=backoff,
            status_forcelist=(408, 429, 500, 502, 503, 504),
            allowed_methods=None,
            raise_on_status=False,
        )

    @property
    def identity(self) -> dict[str, str]:
        """Model and endpoint."""
        return {"kind": "endpoint", "model": self.model, "url": self.url}

    def encode(self, texts: Sequence[str]) -> Float[Tensor, "n w"]:
        """Vectors of ``texts``, one batch per request.

        Raises:
            UserError: If there is no usable key, or the endpoint fails for good or answers with half a batch.
        """
        batches = [list(texts[i : i + self.batch_size]) for i in range(0, len(texts), self.batch_size)]
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=self.retry))
            key = self._key()
            # As a header alone it would give way to a login for this host in ~/.netrc.
            session.auth = self.login or partial(_signed, key)
            shown = track(batches, description=f"asking {self.model}", disable=len(batches) < 8)
            parts = [self._ask(session, batch) for batch in shown]
        widths = sorted({part.size(1) for part in parts})
        if len(widths) > 1:
            raise UserError(
                f"embeddings endpoint {self.url} answered vectors of {widths[0]} and of {widths[-1]} numbers.",
                "Choose a model with vectors of one width; nothing was cached.",
            )
        return torch.cat(parts)

    def _ask(self, session: requests.Session, batch: list[str]) -> Tensor:
        answer = None
        try:
            answer = self._answer(session, batch)
            answer.raise_for_status()
            rows = sorted(answer.json()["data"], key=lambda row: row["index"])
        except (requests.RequestException, KeyError, TypeError) as error:
            said = "" if answer is None else f" It said: {answer.text}"
            # The cause may hold the key, too, and is told here instead of in a traceback.
            raise UserError(
                f"embeddings endpoint {self.url} failed for model {self.model!r}: {self._without_secrets(error, said)}",
                "Check OPENAI_BASE_URL, OPENAI_API_KEY and the model name; nothing was cached.",
            ) from None
        indices, expected = [row["index"] for row in rows], list(range(len(batch)))
        if indices != expected:
            twice = [one for one, following in pairwise(indices) if one == following]
            never = [index for index in expected if index not in indices]
            unasked = [index for index in indices if index not in expected]
            found = {"more than one of": twice, "none of": never, "unasked ones of": unasked}
            wrong = [f"{what} index {_first(which)}" for what, which in found.items() if which]
            raise UserError(
                f"embeddings endpoint {self.url} answered {len(rows)} vectors for {len(batch)} texts: "
                f"{', '.join(wrong)}.",
                "Try a smaller batch, or another endpoint; nothing was cached.",
            )
        try:
            vectors = torch.tensor([row["embedding"] for row in rows], dtype=torch.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise self._no_vectors() from error
        if vectors.ndim != 2:
            raise self._no_vectors()
        return vectors

    def _answer(self, session: requests.Session, batch: list[str]) -> requests.Response:
        """Asks again where a connection breaks within an answer, too, of which the session's retries do not know."""
        retry = self.retry
        while True:
            try:
                return session.post(f"{self.url}/embeddings", json={"model": self.model, "input": batch}, timeout=120)
            except requests.exceptions.ChunkedEncodingError as error:
                if not retry.total:
                    raise
                retry = retry.increment(error=error)
                retry.sleep()

    def _no_vectors(self) -> UserError:
        return UserError(
            f"embeddings endpoint {self.url} answered something other than vectors of one width for {self.model!r}.",
            "Ask a model that makes embeddings, as lists of numbers (not base64); nothing was cached.",
        )

    def _key(self) -> str:
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not key:
            raise UserError("OPENAI_API_KEY is unset.", "Export the endpoint's key in the environment.")
        if not (key.isascii() and key.isprintable()):
            raise UserError(
                "OPENAI_API_KEY holds a character that no key has.", "Export it again: printable ASCII on one line."
            )
        return key

    def _without_secrets(self, error: Exception, said: str) -> str:
        """Words of a failure; a server may repeat what it was sent, escaped as JSON allows."""
        words, secrets = f"{error}.{said}", [self._key()]
        if self.login:
            secrets += [self.login[1], b64encode(":".join(self.login).encode()).decode()]
        for secret in filter(None, secrets):
            words = re.sub(r"\\?".join(map(re.escape, secret)), "***", words)
        # Cut last, so that no secret is cut in two and missed.
        return words[:_WORDS]


def _signed(key: str, request: requests.PreparedRequest) -> requests.PreparedRequest:
    request.headers["Authorization"] = f"Bearer {key}"
    return request


def divided(url: str) -> tuple[str, tuple[str, str] | None]:
    """A base URL without user and password, and these two, if it holds them.

    >>> divided("http://me:pw@host/v1/"), divided("http://host/v1")
    (('http://host/v1', ('me', 'pw')), ('http://host/v1', None))

    Raises:
        UserError: If it is not a valid URL; the message does not repeat what may hold a password.
    """
    try:
        parts = urlsplit(url.strip())
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        valid = False
    if not valid:
        raise UserError("OPENAI_BASE_URL is not a valid URL.", f"Write it like {OPENAI}.")
    login = get_auth_from_url(parts.geturl())
    return urldefragauth(parts.geturl()).rstrip("/"), login if any(login) else None


def _first(indices: Sequence[int]) -> str:
    more = len(indices) - _SHOWN
    return ", ".join(map(str, indices[:_SHOWN])) + (f" and {more} more" if more > 0 else "")
