"""Keys and passwords, which no configuration file keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SECRET = re.compile(
    r"(^|[_-]|(?<=[a-z])(?=[A-Z]))"
    r"(?i:(api|access|secret|private|auth)[_-]?key([_-]?id)?|token|passw(or)?d|passphrase|secret|credentials?)$"
)


def without_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which every value whose name looks like a key or a password is empty, at any depth.

    >>> without_secrets({"api_key": "abc", "model": {"token": "x", "tokens": 3}, "callbacks": [{"secret": "y"}]})
    {'api_key': None, 'model': {'token': None, 'tokens': 3}, 'callbacks': [{'secret': None}]}
    """
    return {key: None if SECRET.search(key) else _cleared(value) for key, value in values.items()}


def _cleared(value: Any) -> Any:  # noqa: ANN401 (any part of a configuration)
    if isinstance(value, Mapping):
        return without_secrets(value)
    return [_cleared(part) for part in value] if isinstance(value, list) else value
