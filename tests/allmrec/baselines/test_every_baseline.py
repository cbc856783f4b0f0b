"""No baseline goes without the properties that all must have."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import allmrec.baselines
import tests.allmrec.baselines
from common.models.base import Recommender
from tests.allmrec.baselines.prompt_cases import PromptCases
from tests.common.models import cases


def modules(package: ModuleType) -> list[ModuleType]:
    found = pkgutil.iter_modules(package.__path__, prefix=f"{package.__name__}.")
    return [importlib.import_module(one.name) for one in found]


def test_every_baseline_has_a_registered_case() -> None:
    modules(tests.allmrec.baselines)
    models = {
        member
        for module in modules(allmrec.baselines)
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Recommender) and member.__module__ == module.__name__
    }
    prompted = {case.model for case in PromptCases.__subclasses__()}
    assert {model for model in models if model.ranks_catalogue} <= cases.registered()
    assert {model for model in models if not model.ranks_catalogue} == prompted
