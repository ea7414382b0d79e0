"""A history whose keys are made chunk by chunk is the history that is held."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stormda.assimilation import DiagonalError, Observation, select
from stormda.grid import LatLonGrid, PlaneGrid, grid
from stormda.parallel import Mesh, SelfComm, StartedMesh
from stormda.parallel.placement import Placement
from stormda.storm import Normalization, Storm, StormConfig, StormNetwork
from stormda.storm.filtering import FilterSettings, OneStageFilter
from stormda.storm.objective import Batch, denoising_loss

CONFIG = StormConfig(
    variables=("a", "b"),
    patch=(2, 2),
    width=16,
    heads=2,
    encoder_depth=2,
    depth=2,
    history=5,
    mixer="tile+linear",
)
PLANE = PlaneGrid((8, 8), spacing_m=(1.0, 1.0), periodic=(True, True))
ONE = torch.ones(2, 1, 1, dtype=torch.float64)
AS_IT_IS = Normalization(0 * ONE, ONE, 0.5 * ONE)
WAVES = replace(CONFIG, mixer="linear", waves=True, transport=3, targets=2)


def network(config: StormConfig, on: LatLonGrid | PlaneGrid = PLANE) -> StormNetwork:
    """Return a network that does something with its past."""
    torch.manual_seed(0)
    made = StormNetwork(config, on).double()
    with torch.no_grad():
        for parameter in made.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return made


def batch(config: StormConfig, shape: tuple[int, ...]) -> Batch:
    g = torch.Generator().manual_seed(1)
    fields = torch.randn(2, 7, 2, *shape, generator=g, dtype=torch.float64)
    target = fields[:, 5 : 5 + config.targets].flatten(1, 2)
    return Batch(fields[:, :5], target, torch.full((2, 2), 0.1).double())


def loss_and_gradients(made: StormNetwork, samples: Batch) -> list[Tensor]:
    g = torch.Generator().manual_seed(2)
    noise = torch.randn(samples.target.shape, generator=g, dtype=torch.float64)
    sigma = torch.tensor([0.3, 2.0]).double()
    loss = denoising_loss(made, AS_IT_IS, samples, sigma, noise)
    made.zero_grad()
    loss.sum().backward()
    gradients = [p.grad for p in made.parameters() if p.grad is not None]
    return [loss.detach(), *gradients]


@pytest.mark.parametrize("chunk", [1, 2, 5])
@pytest.mark.parametrize("config", [CONFIG, WAVES], ids=["plane", "law of motion"])
def test_streamed_is_held(chunk: int, config: StormConfig) -> None:
    found = [
        loss_and_gradients(network(c), batch(c, (8, 8)))
        for c in (config, replace(config, history_chunk=chunk))
    ]
    assert len(found[0]) == len(found[1])
    for held, streamed in zip(*found, strict=True):
        torch.testing.assert_close(streamed, held, rtol=1e-11, atol=1e-12)


def test_on_the_globe() -> None:
    config, globe = replace(CONFIG, mixer="linear"), grid("30deg")
    held, streamed = (
        loss_and_gradients(network(c, globe), batch(c, globe.shape))
        for c in (config, replace(config, history_chunk=2))
    )
    torch.testing.assert_close(streamed, held, rtol=1e-11, atol=1e-12)


def test_guided_samples_are_the_same() -> None:
    x = batch(CONFIG, (8, 8)).history[:, -1]
    found = []
    for config in (CONFIG, replace(CONFIG, history_chunk=2)):
        prior = Storm(network(config).requires_grad_(False), AS_IT_IS, 1.0)
        g = torch.Generator().manual_seed(3)
        state = OneStageFilter(prior, x, FilterSettings(steps=3), g)
        found.append(state.step(observation()))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-10)


def observation() -> Observation:
    """Return some points of both fields, seen with an error of 0.5."""
    seen = torch.linspace(-1, 1, 9, dtype=torch.float64)
    return Observation(seen, select(torch.arange(0, 128, 15)), DiagonalError(0 * seen + 0.5))


def test_autograd_keeps_nothing_of_the_size_of_the_history() -> None:
    """Beside the fields of the past a step holds the same for 5 frames as for 40."""

    def held(frames: int) -> int:
        config = replace(CONFIG, mixer="linear", history=frames, history_chunk=1)
        made, total = network(config), 0
        history = torch.randn(1, frames, 2, 8, 8, dtype=torch.float64)
        own = {made.frame.untyped_storage().data_ptr(), history.untyped_storage().data_ptr()}

        def note(x: Tensor) -> Tensor:
            nonlocal total
            total += 0 if x.untyped_storage().data_ptr() in own else x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            made.encode(history, torch.ones(1, 2).double())
        return total

    assert held(5) == held(40)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"^history_chunk: expected 0, or a number of frames"):
        replace(CONFIG, history_chunk=-1)
    with pytest.raises(ValueError, match=r"and no network_tiles, got 2 and \(2, 2\)$"):
        replace(CONFIG, mixer="full", history_chunk=2, network_tiles=(2, 2))
    made = network(replace(CONFIG, history_chunk=2))
    past = batch(CONFIG, (8, 8)).history.requires_grad_()
    with pytest.raises(ValueError, match=r"^history: expected no gradient with history_chunk"):
        made.encode(past, torch.ones(2, 2).double())


def test_sharded_parameters_are_refused() -> None:
    cpu = torch.device("cpu")
    placement = Placement(launcher="a test", rank=0, size=2)
    comm = SelfComm()
    comm.size = 2
    mesh = StartedMesh(Mesh({"shard": 2}), placement, cpu, {("shard",): comm}, session=None)
    with pytest.raises(
        ValueError, match=r"^history_chunk: expected 0 with sharded parameters, got 2$"
    ):
        StormNetwork(replace(CONFIG, mixer="linear", history_chunk=2), PLANE, mesh=mesh)
