"""Laws of the optimizers: what Muon does to matrices, and AdamW to the rest, as if alone."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stormda.parallel import Mesh, Placement, SelfComm, StartedMesh
from stormda.storm import TrainingConfig
from stormda.storm.optimizer import optimizer_of

CONFIG = TrainingConfig(
    steps=6, batch=4, warmup=2, checkpoint_every=2, seed=5, optimizer="muon", learning_rate=3e-3
)


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


def test_a_network_without_matrices_is_refused() -> None:
    expected = r"^optimizer: expected a matrix of 32 x 32 or more for 'muon', got none$"
    with pytest.raises(ValueError, match=expected):
        optimizer_of(parameters()[1:], CONFIG, StartedMesh.alone())


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
