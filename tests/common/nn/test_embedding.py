import pytest
import torch

from common.nn.embedding import ItemEmbedding, UserEmbedding


def _marked(embedding: ItemEmbedding | UserEmbedding) -> torch.Tensor:
    embedding.mark_trained(torch.tensor([True, True, False, True]))
    return embedding.weight.detach()


def test_untrained_items_have_the_mean_vector_outside_training() -> None:
    embedding = ItemEmbedding(3, 4)
    weight = _marked(embedding)
    mean = (weight[1] + weight[3]) / 2
    torch.testing.assert_close(embedding.eval().table(), torch.stack([weight[0], weight[1], mean, weight[3]]))
    torch.testing.assert_close(embedding(torch.tensor([[2, 1]])), torch.stack([mean, weight[1]])[None])


@pytest.mark.parametrize("kind", [ItemEmbedding, UserEmbedding])
def test_a_lookup_picks_from_the_table_without_making_it(
    kind: type[ItemEmbedding | UserEmbedding], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding = kind(30, 4).eval()
    embedding.mark_trained(torch.arange(31) % 3 > 0)
    ids = torch.randint(0, 31, (5, 7))
    expected = embedding.table()[ids]
    monkeypatch.setattr(embedding, "table", None)
    assert torch.equal(embedding(ids), expected)


def test_more_rows_than_half_precision_counts_have_a_mean() -> None:
    embedding = ItemEmbedding(70_000, 1).half()
    torch.nn.init.constant_(embedding.weight, 0.25)
    assert embedding.mean(torch.arange(70_001) > 0).item() == 0.25


class Doubled(ItemEmbedding):
    """A table of twice the weights."""

    def table(self) -> torch.Tensor:
        return 2 * super().table()


@pytest.mark.parametrize("training", [True, False])
def test_a_lookup_picks_from_the_table_of_a_subclass(training: bool) -> None:
    embedding, ids = Doubled(3, 4).train(training), torch.tensor([3, 2, 0])
    _marked(embedding)
    assert torch.equal(embedding(ids), embedding.table()[ids])


def test_training_sees_the_plain_table() -> None:
    embedding = ItemEmbedding(3, 4)
    _marked(embedding)
    assert embedding.train().table() is embedding.weight


def test_padding_of_items_stays_and_unknown_user_is_the_mean() -> None:
    items, users = ItemEmbedding(3, 4, padding_idx=None), UserEmbedding(3, 4)
    row = _marked(items)[0]
    assert torch.equal(items.eval()(torch.tensor([0]))[0], row)
    weight = _marked(users)
    torch.testing.assert_close(users.eval()(torch.tensor([0]))[0], (weight[1] + weight[3]) / 2)


def test_mark_is_no_part_of_a_checkpoint_and_leaves_its_argument_alone() -> None:
    embedding, trained = ItemEmbedding(2, 3), torch.tensor([True, True, False])
    embedding.mark_trained(trained)
    assert list(embedding.state_dict()) == ["weight"]
    assert trained.tolist() == [True, True, False]


def test_nothing_trained_gives_zeros_rather_than_nan() -> None:
    embedding = UserEmbedding(2, 3).eval()
    embedding.mark_trained(torch.zeros(3, dtype=torch.bool))
    assert embedding.table().abs().sum() == 0


def test_marks_go_where_the_table_is() -> None:
    embedding = ItemEmbedding(2, 3).to("meta")
    embedding.mark_trained(torch.tensor([True, True, False]))
    assert embedding.trained is not None
    assert embedding.trained.device == embedding.weight.device
