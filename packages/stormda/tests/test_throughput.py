"""The clock of a run: what is counted, what is noted."""

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from stormda.grid import PlaneGrid
from stormda.storm import (
    Normalization,
    StormConfig,
    StormNetwork,
    Trainer,
    TrainingConfig,
)
from stormda.storm.objective import Batch
from stormda.storm.throughput import HEADER, Throughput, work_of_sample

ONE = torch.ones(1, 1, 1)


class Noise:
    """Samples of nothing."""

    normalization = Normalization(mean=0 * ONE, std=ONE, increment=ONE)

    def batch(self, step: int, size: int) -> Batch:
        fields = torch.randn(size, 3, 1, 16, 16, generator=torch.Generator().manual_seed(step))
        return Batch(fields[:, :2], fields[:, 2], torch.zeros(size, 1))

    def state_dict(self) -> dict[str, object]:
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        assert state == {}


def trainer(**config: int) -> Trainer:
    torch.manual_seed(0)
    network = StormNetwork(
        StormConfig(variables=("a",), width=32, heads=2, encoder_depth=1, depth=2, patch=(2, 2)),
        PlaneGrid((16, 16), spacing_m=(1.0, 1.0)),
    )
    return Trainer(network, Noise(), TrainingConfig(batch=3, **config))


def linear_work(run: Trainer) -> float:
    """Count two operations for every weight of a linear layer and row that it meets."""
    total = 0.0

    def count(layer: nn.Linear, inputs: tuple[torch.Tensor], _: torch.Tensor) -> None:
        nonlocal total
        total += 2 * layer.weight.numel() * inputs[0].numel() / layer.in_features

    layers = [m for m in run.network.modules() if isinstance(m, nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    work_of_sample(run, run.tasks[0])
    for hook in hooks:
        hook.remove()
    return 3 * total


def test_the_work_is_that_of_the_layers_and_a_little_more() -> None:
    """Attention and convolution come on top; of 64 tokens they are no more than the layers."""
    run = trainer()
    work = work_of_sample(run, run.tasks[0])
    assert linear_work(run) < work < 2 * linear_work(run)
    assert all(p.grad is None for p in run.parameters)


def test_every_row_is_noted_once(tmp_path: Path) -> None:
    record = tmp_path / "throughput.csv"
    run = trainer(steps=5)
    clock = Throughput(run, record, every=2)
    run.run(progress=lambda step, _: clock.follow(step))
    header, *rows = csv.reader(record.read_text().splitlines())
    assert tuple(header) == HEADER
    assert [row[0] for row in rows] == ["2", "4", "5"]
    for row in rows:
        seconds, samples, tokens, rate, share = (float(x) for x in row[1:])
        assert samples * seconds == pytest.approx(3, rel=1e-3)
        assert tokens == pytest.approx(64 * samples, rel=1e-3)
        assert rate * 1e12 * seconds == pytest.approx(clock.work, rel=1e-3)
        assert share == pytest.approx(rate * 1e12 / clock.peak, rel=1e-3)

    again = trainer(steps=5)
    again.step = 3
    clock = Throughput(again, record, every=2)
    again.run(progress=lambda step, _: clock.follow(step))
    assert [line.split(",")[0] for line in record.read_text().splitlines()] == ["step", "2", "5"]
