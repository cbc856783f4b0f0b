import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import common.models
import tests.common.models
from common.models.base import Recommender
from tests.common.models import cases


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(package.__path__, prefix=f"{package.__name__}."):
        yield importlib.import_module(found.name)


def test_every_model_has_a_registered_case() -> None:
    list(_modules(tests.common.models))
    models = {
        member
        for module in _modules(common.models)
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Recommender) and member.__module__ == module.__name__ and not inspect.isabstract(member)
    }
    missing = sorted(model.__name__ for model in models - cases.registered())
    assert not missing, f"no test class names {missing} as its `model` (tests/common/models/cases.py)"
