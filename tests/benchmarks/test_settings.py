"""What is read of an experiment is what the command line would resolve."""

import pytest

from benchmarks.configuration import RunCLI
from benchmarks.experiments import parse_yaml
from benchmarks.runs import flat
from benchmarks.settings import setting_of

OPTIONS = ["trainer.max_epochs", "trainer.max_steps", "data.scenario", "data.init_args.text_encoder", "model.lr"]
OPTIONS += ["model.llm", "model.dropout", "model.weight_lrd", "model.discovery.init_args.weight_entropy"]


@pytest.mark.parametrize("method", ["popularity", "sasrec", "sasrec_text", "kda", "kda_lrd_rewarded", "allmrec"])
def test_settings_are_those_of_a_run(method: str) -> None:
    cli = RunCLI([f"--config=synthetic/{method}"])
    resolved = flat(parse_yaml(cli.parser.dump(cli.config, skip_unset=False, skip_link_targets=True)))
    found = {option: setting_of(f"synthetic/{method}", option) for option in OPTIONS}
    assert found == {option: resolved.get(option.replace(".init_args", "")) for option in OPTIONS}
