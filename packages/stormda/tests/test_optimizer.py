"""Laws of the optimizers: what Muon does to matrices, and AdamW to the rest, as if alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stormda.grid import PlaneGrid
from stormda.parallel import Mesh, Placement, SelfComm, StartedMesh
from stormda.storm import Normalization, StormConfig, StormNetwork, Trainer, TrainingConfig
from stormda.storm.objective import Batch
from stormda.storm.optimizer import optimizer_of

CONFIG = TrainingConfig(
    steps=6, batch=4, warmup=2, checkpoint_every=2, seed=5, optimizer="muon", learning_rate=3e-3
)
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


def trainer(config: TrainingConfig = CONFIG, directory: Path | None = None) -> Trainer:
    torch.manual_seed(config.seed)
    network = StormNetwork(
        StormConfig(variables=("wave",), width=32, heads=2, encoder_depth=1, depth=1),
        PlaneGrid((8, 8), spacing_m=(1.0, 1.0)),
    )
    return Trainer(network, Waves(), config, directory=directory)


def parameters(seed: int = 0) -> list[Tensor]:
    """Return a wide matrix, a narrow one and a vector, with gradients."""
    g = torch.Generator().manual_seed(seed)
    made = [torch.randn(shape, generator=g) for shape in ((40, 64), (3, 64), (64,))]
    for p in made:
        p.requires_grad_().grad = torch.randn(p.shape, generator=g)
    return made


def test_a_step_of_a_matrix_is_near_to_orthogonal_and_as_large_as_adams() -> None:
    config = replace(CONFIG, weight_decay=0.0, learning_rate=0.01)
    wide = parameters()[0]
    before = wide.detach().clone()
    optimizer_of([wide, *parameters()[1:]], config, StartedMesh.alone()).step()
    step = (before - wide.detach()) / 0.01
    singular = torch.linalg.svdvals(step)
    # Newton and Schulz's iteration, in bfloat16, leaves singular values between 0.7 and 1.2.
    assert float(singular.min() / singular.mean()) > 0.6
    assert float(singular.max() / singular.mean()) < 1.4
    assert wide.grad is not None
    assert float((step * wide.grad).sum()) > 0
    # Moonlight's scale: a root mean square of 0.2 per entry, which is AdamW's in practice.
    assert float(step.square().mean().sqrt()) == pytest.approx(0.2, rel=0.2)


def test_the_rest_changes_as_with_adamw_alone() -> None:
    mixed, plain = parameters(), parameters()
    muon = optimizer_of(mixed, CONFIG, StartedMesh.alone())
    adamw = optimizer_of(plain, replace(CONFIG, optimizer="adamw"), StartedMesh.alone())
    for _ in range(3):
        muon.step()
        adamw.step()
    assert not torch.equal(mixed[0], plain[0])
    for a, b in zip(mixed[1:], plain[1:], strict=True):
        assert torch.equal(a, b)


def test_a_rate_set_on_the_groups_is_that_of_both() -> None:
    """The schedule sets rates on groups: at 0 nothing may change, but by the weights' decay."""
    made = parameters()
    before = [p.detach().clone() for p in made]
    optimizer = optimizer_of(made, CONFIG, StartedMesh.alone())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    for a, b in zip(made, before, strict=True):
        assert torch.equal(a.detach(), b)


def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = trainer()
    assert whole.run()
    first = trainer(directory=tmp_path)
    assert not first.run(interrupted=lambda: first.step == 3)
    second = trainer(directory=tmp_path)
    assert second.resume() == 3
    assert second.run()
    for a, b in zip(whole.parameters, second.parameters, strict=True):
        assert torch.equal(a, b)


def test_training_learns() -> None:
    run = trainer(replace(CONFIG, steps=40, batch=16))
    losses: list[float] = []
    run.run(progress=lambda step, loss: losses.append(loss))
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


@pytest.mark.parametrize("axis", ["tensor", "shard"])
def test_ranks_that_share_matrices_are_refused(axis: str) -> None:
    class Half(SelfComm):
        size = 2

    placement = Placement(launcher="a test", rank=0, size=2)
    cpu = torch.device("cpu")
    mesh = StartedMesh(Mesh({axis: 2}), placement, cpu, {(axis,): Half()}, session=None)
    expected = f"^optimizer: expected 'adamw' where ranks share matrices, by {axis}, got 'muon'$"
    with pytest.raises(ValueError, match=expected):
        optimizer_of(parameters(), CONFIG, mesh)


def test_a_closure_is_refused() -> None:
    optimizer = optimizer_of(parameters(), CONFIG, StartedMesh.alone())
    with pytest.raises(ValueError, match=r"^closure: expected None for several optimizers, got"):
        optimizer.step(lambda: 0.0)
