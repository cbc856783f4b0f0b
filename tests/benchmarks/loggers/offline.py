"""Reads the file of an offline W&B run: a log of protocol buffers in LevelDB's framing."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as messages

BLOCK, HEADER, FILE_HEADER = 32768, 7, 7


def records(folder: Path) -> Iterator[Any]:
    """All records of the one offline run below ``folder``."""
    (path,) = folder.rglob("run-*.wandb")
    content, position, parts = path.read_bytes(), FILE_HEADER, b""
    while position + HEADER <= len(content):
        if BLOCK - position % BLOCK < HEADER:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + HEADER])
        position += HEADER
        parts += content[position : position + length]
        position += length
        # 1 is a whole record, 4 the last part of one.
        if kind in (1, 4):
            record = messages.Record()  # type: ignore[attr-defined]
            record.ParseFromString(parts)
            yield record
            parts = b""


class Offline:
    """What an offline run holds: its card, configuration, history, summary, artifacts and names of system figures."""

    def __init__(self, folder: Path) -> None:
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.artifacts: list[Any] = []
        self.kinds: set[str] = set()
        self.system: set[str] = set()
        for record in records(folder):
            kind = record.WhichOneof("record_type")
            self.kinds.add(kind)
            if kind == "run":
                self.run = record.run
                self.config |= values(record.run.config.update)
            elif kind == "config":
                self.config |= values(record.config.update)
            elif kind == "history":
                self.history.append(values(record.history.item))
            elif kind == "summary":
                self.summary |= values(record.summary.update)
            elif kind == "stats":
                self.system |= {item.key for item in record.stats.item}
            elif kind == "artifact":
                self.artifacts.append(record.artifact)
            elif kind == "request" and record.request.HasField("log_artifact"):
                self.artifacts.append(record.request.log_artifact.artifact)


def values(items: Any) -> dict[str, Any]:  # noqa: ANN401
    """Key and value of protocol buffers that hold JSON."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
