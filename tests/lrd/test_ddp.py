"""Two processes train a discovery of which a control leaves a part out: DDP wants a gradient for whatever there is."""

from pathlib import Path

import torch

from benchmarks.runs import find_runs, read_result
from tests.benchmarks.conftest import options
from tests.benchmarks.outside import process


def test_uniform_relations_have_no_layers_without_gradients(root: Path, tmp_path: Path) -> None:
    two = ["trainer/ddp", "--trainer.devices=2", "--trainer.max_epochs=1", "--data.batch_size=64"]
    small = ["--data.test_protocols=[sampled-99]", "--model.backbone.width=8"]
    running = process("run", "--config", "synthetic/kda_lrd_uniform", *two, *options(root, tmp_path, *small))
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 0, errors
    (folder,) = find_runs([tmp_path])
    assert read_result(folder).training["epochs"] == 1
    weights = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    assert not any(name.startswith("discovery.") for name in weights)
