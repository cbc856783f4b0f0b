"""What is said of a mistake names the option, and what would be right."""

from pathlib import Path

import pytest

from allmrec.choice import ChoiceRanker
from benchmarks.messages import concrete, refused
from common.models.base import Recommender
from tests.benchmarks.conftest import Complaint, options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "synthetic/sasrec", "--data.seed", "5"], "Set --seed_everything"),
        (["--model", "Mine", "--data.dataset", "synthetic"], "named with its module: MODULE.Mine"),
        (["--model", "absent.Mine", "--data.dataset", "synthetic"], "No module named 'absent'"),
        (
            ["--model", "JointDot", "--data.dataset", "synthetic"],
            "--model.collaborative, --model.joint are missing.\nSee `recbench run --model.help JointDot`",
        ),
        (
            ["--config", "synthetic/rcf", "--model.backbone", "RFC"],
            "--model.backbone: there is no class 'RFC'.\nDid you mean 'RCF'?",
        ),
        (["--config", "synthetic/rcf", "--model.backbone", "x"], "KDA, RCF. A class of your own"),
        (
            ["--config", "synthetic/rcf", "--model.discovery.init_args.vectors", "bogus"],
            "--model.discovery.vectors: 'bogus' is not a valid value",
        ),
        (
            ["--config", "synthetic/sasrec", "--trainer.limit_val_batches", "0"],
            "--trainer.limit_val_batches 0 turns validation off.\nGive 1 or more",
        ),
    ],
)
def test_mistakes_are_named_by_their_option(
    arguments: list[str], message: str, complaint: Complaint, root: Path, tmp_path: Path
) -> None:
    assert message in complaint("run", *options(root, tmp_path), *arguments)


@pytest.mark.parametrize(("group", "name"), [("data", "seed"), ("model", "num_items"), ("model", "max_history")])
def test_a_file_may_not_set_what_would_be_ignored(
    group: str, name: str, complaint: Complaint, root: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(f"{group}:\n  init_args: {{{name}: 5}}\n")
    arguments = ["--config", "synthetic/sasrec", str(own), *options(root, tmp_path)]
    assert f"{own}: {group}.{name} is " in complaint("run", *arguments)


def test_an_error_without_a_text_is_told_by_its_kind() -> None:
    assert refused(AssertionError()).what == "AssertionError."


def test_a_base_class_is_not_offered_as_a_model() -> None:
    assert ChoiceRanker not in concrete(Recommender)


def test_a_scenario_that_is_none_is_named_by_the_option_of_the_command(complaint: Complaint, floor: Path) -> None:
    message = complaint("evaluate", str(floor), "--scenario", "cold-user")
    assert "recbench: --scenario 'cold-user' is not a scenario.\nDid you mean 'cold-users'?" in message


def test_a_file_of_a_run_is_answered_by_its_folder(complaint: Complaint, floor: Path) -> None:
    assert f"Name the folder: {floor}." in complaint("leaderboard", str(floor / "result.json"))
