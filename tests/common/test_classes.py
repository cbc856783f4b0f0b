"""A name may stand for any class that is derived from another, however indirectly."""

from common.classes import descendants


class Root:
    pass


class Child(Root):
    pass


class Grandchild(Child):
    pass


def test_descendants_are_of_all_generations_and_not_the_class_itself() -> None:
    assert list(descendants(Root)) == [Child, Grandchild]
    assert list(descendants(Grandchild)) == []
