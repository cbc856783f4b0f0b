"""The shape of the repository, where no linter looks."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("common", "lrd", "allmrec", "benchmarks")
TOP_LEVEL = {"pyproject.toml", "README.md", "LICENSE", "Makefile", "tests", *PACKAGES}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout: which files belong to the project cannot be told")
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")


def test_top_level_holds_the_agreed_names_only() -> None:
    names = {name.split("/")[0] for name in tracked() if name}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


def test_repository_holds_no_data_weights_or_runs() -> None:
    endings = (".parquet", ".safetensors", ".ckpt", ".pt", ".bin", ".npy", ".gz", ".zip", ".pkl", ".inter", ".dat")
    assert [name for name in tracked() if name.endswith(endings)] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_fits_the_budget(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    longest = max((size(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)), default=0)
    assert longest <= 70


def size(node: ast.FunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "misc", "tools", "manager"}
    assert [path for path in MODULES if empty & set(path.relative_to(ROOT).with_suffix("").parts)] == []


def test_every_module_of_common_has_its_tests() -> None:
    sources = [path.relative_to(ROOT) for path in MODULES if path.is_relative_to(ROOT / "common")]
    mirrored = [ROOT / "tests" / path.parent / f"test_{path.name}" for path in sources if path.stem != "__init__"]
    types_only = {"test_types.py", "test_schema.py"}
    assert [path for path in mirrored if path.name not in types_only and not path.exists()] == []
