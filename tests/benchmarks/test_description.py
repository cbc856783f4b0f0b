"""A result names what made the vectors of texts that its method reads."""

from typing import Any

import pytest

from benchmarks.description import encoder_of
from common.models.sasrec import SASRec


class Reader(SASRec):
    """A model that reads texts."""

    information_set = frozenset({"text"})


@pytest.mark.parametrize(
    ("kind", "settings", "encoder"),
    [
        (Reader, {"text_encoder": "minilm"}, "minilm"),
        (Reader, {"text_encoder": "minilm", "vectors": "text"}, "minilm"),
        (Reader, {"text_encoder": "minilm", "vectors": "tfidf"}, "tfidf in place of minilm"),
        (Reader, {}, None),
        (SASRec, {"text_encoder": "minilm"}, None),
    ],
)
def test_the_encoder_is_that_of_the_data_where_the_method_reads_texts(
    kind: type[SASRec], settings: dict[str, Any], encoder: str | None
) -> None:
    assert encoder_of(kind(num_items=4, max_history=2, width=4), settings) == encoder
