"""A model built on another remembers its own arguments alone."""

from common.models.hyperparameters import keep_own
from common.models.sasrec import SASRec


class Narrow(SASRec):
    def __init__(self, num_items: int, width: int = 8) -> None:
        super().__init__(num_items, width=width, num_heads=1)
        self.save_hyperparameters()
        keep_own(self)


def test_a_model_is_made_again_from_what_it_remembers() -> None:
    model = Narrow(5, width=4)
    assert dict(model.hparams) == {"num_items": 5, "width": 4}
    Narrow(**model.hparams).load_state_dict(model.state_dict())
