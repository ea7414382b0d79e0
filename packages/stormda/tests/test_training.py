"""Laws of the training: exact resumption, sharing a batch, the schedule, what stops a run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stormda.grid import PlaneGrid, grid
from stormda.storm import Normalization, StormConfig, StormNetwork, Trainer, TrainingConfig
from stormda.storm.objective import Batch, denoising_loss, loss_weight
from stormda.storm.shared_trunk import task_of
from stormda.storm.training import Divergence

CONFIG = TrainingConfig(steps=6, batch=4, warmup=2, checkpoint_every=2, seed=5)
ONE = torch.ones(1, 1, 1)


class Waves:
    """Travelling waves; a batch is a function of its step."""

    normalization = Normalization(mean=0 * ONE, std=ONE, increment=0.5 * ONE)

    def batch(self, step: int, size: int) -> Batch:
        phase = torch.rand(size, generator=torch.Generator().manual_seed(step))
        x = 2 * torch.pi * (torch.arange(8) / 8 + phase[:, None])
        frames = torch.stack([torch.sin(x + 0.3 * t).expand(8, -1, -1) for t in range(3)], 2)
        fields = frames.permute(1, 2, 0, 3)[:, :, None]
        return Batch(fields[:, :2], fields[:, 2], torch.zeros(size, 1))

    def state_dict(self) -> dict[str, object]:
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        assert state == {}


def trainer(config: TrainingConfig = CONFIG, directory: Path | None = None, **kwargs) -> Trainer:
    torch.manual_seed(config.seed)
    network = StormNetwork(
        StormConfig(variables=("wave",), width=32, heads=2, encoder_depth=1, depth=1),
        PlaneGrid((8, 8), spacing_m=(1.0, 1.0)),
    )
    return Trainer(network, Waves(), config, directory=directory, **kwargs)


def weights(run: Trainer) -> list[Tensor]:
    return [p.detach().clone() for p in run.network.parameters()]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(optimizer: str, tmp_path: Path) -> None:
    config = replace(CONFIG, optimizer=optimizer)
    whole = trainer(config)
    assert whole.run()
    first = trainer(config, directory=tmp_path)
    assert not first.run(interrupted=lambda: first.step == 3)
    second = trainer(config, directory=tmp_path)
    assert second.resume() == 3
    assert second.run()
    for a, b in zip(weights(whole), weights(second), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole.average, second.average, strict=True):
        assert torch.equal(a, b)


def test_the_log_holds_every_step_once_after_a_kill(tmp_path: Path) -> None:
    """A killed run has logged steps beyond its last checkpoint; they are made again."""
    killed = trainer(directory=tmp_path)
    killed.run(interrupted=lambda: killed.step == 4)
    with (tmp_path / "training.csv").open("a") as file:
        file.write("5,0.1,0.1\n")
    again = trainer(directory=tmp_path)
    again.resume()
    again.run()
    rows = (tmp_path / "training.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_training_learns(optimizer: str) -> None:
    config = replace(CONFIG, steps=60, batch=16, learning_rate=3e-3, optimizer=optimizer)
    run = trainer(config)
    losses: list[float] = []
    run.run(progress=lambda step, loss: losses.append(loss))
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_parts_of_a_batch_have_the_gradient_of_the_whole() -> None:
    """What two ranks do: every other sample each, gradients summed."""
    run = trainer()
    batch = run.source.batch(0, 4)
    sigma, noise = run._noise()

    def gradient(part: slice) -> list[Tensor]:
        run.network.zero_grad()
        share = Batch(batch.history[part], batch.target[part], batch.level[part])
        losses = denoising_loss(run.network, Waves.normalization, share, sigma[part], noise[part])
        (losses.sum() / 4).backward()
        return [torch.zeros(1) if p.grad is None else p.grad.clone() for p in run.parameters]

    whole = gradient(slice(None))
    halves = zip(gradient(slice(0, None, 2)), gradient(slice(1, None, 2)), strict=True)
    for a, (b, c) in zip(whole, halves, strict=True):
        # Sums in another order, in float32.
        torch.testing.assert_close(a, b + c, atol=1e-5, rtol=1e-4)


def test_the_schedule() -> None:
    config = TrainingConfig(steps=100, warmup=10, cooldown=0.5, learning_rate=1.0)
    assert config.rate(0) == 0.1
    assert config.rate(9) == config.rate(30) == config.rate(50) == 1.0
    assert config.rate(75) == pytest.approx(0.5)
    assert config.rate(100) == 0.0
    longer = replace(config, steps=200)
    assert [longer.rate(s) for s in range(50)] == [config.rate(s) for s in range(50)]


def test_divergence_is_reported_and_the_last_checkpoint_kept(tmp_path: Path) -> None:
    run = trainer(directory=tmp_path)
    run.run(interrupted=lambda: run.step == 2)
    with torch.no_grad():
        run.parameters[0].fill_(torch.nan)
    with pytest.raises(Divergence, match=r"^step 2: expected a finite loss and gradient, got"):
        run.run()
    assert trainer(directory=tmp_path).resume() == 2


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"^steps: expected at least 1, got 0$"):
        TrainingConfig(steps=0)
    with pytest.raises(ValueError, match=r"^ema: expected a number in \[0, 1\), got 1$"):
        TrainingConfig(ema=1)
    with pytest.raises(ValueError, match=r"^std: expected positive values, got tensor"):
        Normalization(mean=ONE, std=0 * ONE, increment=ONE)


def test_cells_near_the_poles_may_count_for_more() -> None:
    """The loss is the mean of squared errors with weights that do not change their sum."""
    globe = grid("30deg")
    config = StormConfig(variables=("a",), patch=(2, 2), width=16, heads=2, depth=1)
    task = task_of(StormNetwork(config, globe), None, TrainingConfig(polar_weight=0.4), 1)
    cosine = torch.tensor(globe.points[0]).deg2rad().cos()
    expected = (cosine**-0.4 / (cosine**-0.4).mean()).float()[None]
    torch.testing.assert_close(task.weight, expected)
    both = loss_weight(globe, 1, area=True, polar=1.0)
    as_wide = torch.tensor(globe.area) / cosine
    torch.testing.assert_close(both[0], (as_wide / as_wide.mean()).float())
    cells = loss_weight(grid("healpix4"), 1, area=False, polar=0.5)
    assert cells.shape == (1, 192)
    assert torch.isfinite(cells).all()
    plane = StormNetwork(config, PlaneGrid((8, 8), spacing_m=(1.0, 1.0)))
    with pytest.raises(ValueError, match=r"^polar_weight: expected 0 on a plane, got 0\.4$"):
        task_of(plane, None, TrainingConfig(polar_weight=0.4), 1)
