from typing import Any

import pytest

from common.models.base import Recommender
from common.models.caser import Caser
from common.models.gru4rec import GRU4Rec
from common.models.sasrec import SASRec
from common.models.tisasrec import TiSASRec
from tests.common.models import toy


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        (SASRec, {"variant": "lrd"}),
        (TiSASRec, {"variant": "lrd"}),
        (GRU4Rec, {"variant": "prefix"}),
        (Caser, {"variant": "prefix", "num_users": 3}),
    ],
)
def test_of_variants_after_lrds_code_all_but_biases_decay(model: type[Recommender], arguments: dict[str, Any]) -> None:
    made = model(toy.NUM_ITEMS, **arguments)
    left_out = {id(value) for group in made.parameter_groups() if "weight_decay" in group for value in group["params"]}
    assert sum(len(group["params"]) for group in made.parameter_groups()) == len(list(made.parameters()))
    assert left_out == {
        id(value) for name, value in made.named_parameters() if name.rpartition(".")[2].startswith("bias")
    }
