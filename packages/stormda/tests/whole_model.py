"""The whole model on four ranks, for `test_mesh.py`: loss, gradients, steps, checkpoints.

torchrun --nproc-per-node 4 whole_model.py hybrid|storm DIRECTORY
"""

import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor
from torch.testing import assert_close

from stormda.assimilation import DiagonalError, Observation
from stormda.grid import Grid, PlaneGrid, grid
from stormda.parallel import (
    Mesh,
    Part,
    StartedMesh,
    gather_invariant,
    launch,
    local_of,
    module_parts,
    part_of,
    reduce_gradients,
    splits,
    whole_gradient_norm,
)
from stormda.storm import (
    Normalization,
    Storm,
    StormConfig,
    StormNetwork,
    Trainer,
    TrainingConfig,
)
from stormda.storm.ensemble_share import EnsembleShare
from stormda.storm.filtering import FilterSettings, given_pasts, sample_present
from stormda.storm.modes import ModeCovariance
from stormda.storm.objective import Batch
from stormda.storm.plane_waves import WaveCovariance
from stormda.storm.shared_trunk import SharedTrunk
from stormda.storm.training import AVERAGE
from stormda.storm.training_mesh import fill_whole, take_up

AXES = ("replica", "shard", "lat", "lon", "tensor")
MESHES = [
    {"lat": 2, "lon": 2},
    {"tensor": 2, "lon": 2},
    {"lat": 2, "tensor": 2},
    {"replica": 2, "lat": 2},
    {"shard": 2, "tensor": 2},
    {"shard": 2, "lon": 2},
    {"tensor": 4},
    {"lat": 4},
]
PATIENCE = {"device": torch.device("cpu"), "timeout": timedelta(minutes=5)}
ONE = torch.ones(1, 1, 1, dtype=torch.float64)
TRAINING = TrainingConfig(
    steps=3,
    batch=5,
    warmup=1,
    checkpoint_every=2,
    seed=5,
    passes=2,
    area_weights=True,
    variable_weights=(1.0, 2.0),
)


@dataclass(frozen=True)
class Case:
    """A network on a grid."""

    name: str
    config: StormConfig
    grid: Grid
    land: bool = False


CONFIG = StormConfig(
    variables=("u", "h"),
    patch=(2, 2),
    width=16,
    heads=4,
    encoder_depth=1,
    depth=2,
    tile=(2, 3),
    halo=(1, 1),
)
PLANE = PlaneGrid((10, 12), spacing_m=(1.0, 1.0), periodic=(True, True))
GLOBE = grid("15deg")  # 12 x 24 cells around both poles
CASES = [
    Case("linear", CONFIG, GLOBE),
    Case("linear on a plane with land", CONFIG, PLANE, land=True),
    Case("tile and linear", replace(CONFIG, mixer="tile+linear"), GLOBE),
    Case("full", replace(CONFIG, mixer="full"), GLOBE),
    Case("modes", replace(CONFIG, modes=3), PLANE),
    Case("windows", replace(CONFIG, targets=2, modes=3), PLANE, land=True),
    Case("waves", replace(CONFIG, waves=True, targets=2), PLANE),
    Case("a law of motion", replace(CONFIG, waves=True, transport=3, targets=2), PLANE),
]
STREAMED = Case("a history in chunks", replace(CONFIG, history_chunk=1), GLOBE)
STREAMED_MESHES = [{"lat": 2, "lon": 2}, {"tensor": 2, "lon": 2}, {"replica": 2, "lat": 2}]
STORM = replace(CONFIG, mixer="full", network_tiles=(2, 4), network_halo=(1, 2))
STORM_CASES = [
    Case("2 x 4 tiles", STORM, GLOBE),
    Case("2 x 2 tiles", replace(STORM, network_tiles=(2, 2), network_halo=(2, 1)), GLOBE),
    Case("tiles cut, with land", replace(STORM, network_blend=False), PLANE, land=True),
    Case("tiles of windows", replace(STORM, modes=3, network_batch=2, targets=3), PLANE),
]
STORM_MESHES = [
    [{"lat": 2, "lon": 2}, {"lon": 4}, {"tensor": 2, "lon": 2}, {"replica": 2, "lat": 2}],
    [{"lat": 2, "tensor": 2}, {"tensor": 4}],
    [{"lat": 2, "lon": 2}],
    [{"lon": 2, "tensor": 2}],
]
"""What every case of `STORM_CASES` is laid out on; a run changes from the first to the last."""
SHARDED = Case("a tile a rank", replace(STORM, network_tiles=(1, 2)), GLOBE)


class Noise:
    """Fields of noise; a batch is a function of its step."""

    normalization = Normalization(mean=0 * ONE, std=ONE, increment=0.5 * ONE)

    def __init__(self, case: Case) -> None:
        self.case = case

    def batch(self, step: int, size: int) -> Batch:
        g = torch.Generator().manual_seed(step)
        shape = (size, 2 + self.case.config.targets, 2, *self.case.grid.shape)
        fields = torch.randn(shape, generator=g, dtype=torch.float64)
        valid = None
        if self.case.land:
            fields = fields * land(self.case.grid)
            known = torch.rand(fields[:, 2:].shape, generator=g) < 0.7
            valid = (known & land(self.case.grid)).flatten(1, 2)
        level = torch.rand(size, 2, generator=g).double()
        return Batch(fields[:, :2], fields[:, 2:].flatten(1, 2), level, None, valid)

    def state_dict(self) -> dict[str, object]:
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        assert state == {}


def land(on: Grid) -> Tensor:
    """Return where fields exist."""
    g = torch.Generator().manual_seed(7)
    return torch.rand((2, *on.shape), generator=g) < 0.8


def network(case: Case, mesh: StartedMesh | None = None) -> StormNetwork:
    """Return a network none of whose weights is where it starts."""
    torch.manual_seed(1)
    valid = land(case.grid) if case.land else None
    made = StormNetwork(case.config, case.grid, valid=valid, mesh=mesh).double()
    g = torch.Generator().manual_seed(3)
    if isinstance(made.modes, WaveCovariance):
        made.modes.climate.copy_(torch.rand(made.modes.climate.shape, generator=g) + 0.5)
    elif isinstance(made.modes, ModeCovariance):
        basis = torch.randn(3, made.modes.basis[0].numel(), generator=g, dtype=torch.float64)
        basis = torch.linalg.qr(basis.T).Q.T.reshape(made.modes.basis.shape)
        made.modes.basis.copy_(basis)
    if made.transport is not None:
        for numbers in made.transport.buffers():
            numbers.copy_(0.1 * torch.randn(numbers.shape, generator=g))
    return made


def trained(case: Case) -> StormNetwork:
    made, g = network(case), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=g, dtype=p.dtype))
    return made


def on_mesh(case: Case, plain: StormNetwork, mesh: StartedMesh, **how: object) -> Trainer:
    """Return a trainer on a mesh whose network has the weights of a plain one."""
    made = network(case, mesh)
    trainer = Trainer(made, Noise(case), TRAINING, mesh=mesh, **how)
    whole, parts = module_parts(plain), module_parts(made)
    for name, _ in made.named_parameters():
        parts[name].data.copy_(whole[name].data[parts[name].box])
    trainer.average = [local_of(p).detach().clone() for p in trainer.parameters]
    return trainer


def gradients(trainer: Trainer) -> Tensor:
    """Leave the gradients of the first step in the parameters, and return the loss."""
    loss = trainer._backward(*trainer._part())
    reduce_gradients(trainer.network, trainer.mesh)
    axes = [name for name in trainer.mesh.mesh.names if name != "tensor"]
    return trainer.mesh.comm(*axes).all_reduce(loss)


def gradient_parts(net: StormNetwork) -> dict[str, Part]:
    declared = splits(net)
    return {
        name: part_of(p.grad, declared.get(name))
        for name, p in net.named_parameters()
        if p.grad is not None
    }


def check_gradients(case: Case, mesh: StartedMesh) -> None:
    """Loss, every gradient and their norm are those of one process."""
    plain = trained(case)
    one, many = Trainer(plain, Noise(case), TRAINING), on_mesh(case, plain, mesh)
    assert_close(gradients(many), gradients(one), rtol=1e-12, atol=0)
    expected, found = gradient_parts(plain), gradient_parts(many.network)
    assert list(found) == list(expected)
    for name, part in found.items():
        whole = expected[name].data
        assert whole.abs().max() > 0, name
        error = (part.data - whole[part.box]).abs().max() / whole.abs().max()
        assert error < 1e-10, f"{case.name} on {mesh.mesh}: {name} is {error:.1e} off"
    norm = whole_gradient_norm(many.network, mesh)
    assert_close(norm, whole_gradient_norm(plain, one.mesh), rtol=1e-10, atol=0)


def check_steps(case: Case, mesh: StartedMesh, other: StartedMesh, folder: Path) -> None:
    """A run that changes its mesh after two of three steps ends like one on one process."""
    plain, losses, expected = trained(case), [], []
    first = on_mesh(case, plain, mesh, directory=folder)
    one = Trainer(plain, Noise(case), TRAINING)
    assert one.run(progress=lambda _, loss: expected.append(loss))
    note = lambda _, loss: losses.append(loss)  # noqa: E731
    assert not first.run(progress=note, interrupted=lambda: first.step == 2)
    second = on_mesh(case, trained(case), other, directory=folder)
    assert second.resume() == 2
    assert second.run(progress=note)
    assert_close(losses, expected, rtol=1e-9, atol=0)
    whole = fill_whole(network(case), second.checkpoint(), AVERAGE)
    for p, mean in zip(whole.parameters(), one.average, strict=True):
        assert_close(p, mean, rtol=1e-8, atol=1e-9)


def check_sampling(case: Case, mesh: StartedMesh, folder: Path) -> None:
    """Guided samples of a network that ranks share are those of one process, on all of them."""
    one = Storm(trained(case).eval().requires_grad_(False), Noise.normalization, 6.0)
    path = folder / "prior.safetensors"
    if mesh.rank == 0:
        one.save(path, dtype=torch.float64)
    mesh.world.barrier()
    many = Storm.load(path, mesh=mesh)
    many.network.double()
    take_up(many.network, one.network.state_dict())
    past = Noise(case).batch(0, 2).history
    seen = torch.arange(0, past[0, 0].numel(), 5)
    y = torch.ones(len(seen), dtype=torch.float64)
    observation = Observation(y, lambda x: x.flatten(1)[:, seen], DiagonalError(0.5))

    def sampled(prior: Storm) -> Tensor:
        now = prior.given(past, error=torch.tensor([0.1, 0.2], dtype=torch.float64))
        return sample_present(
            now,
            observation,
            members=2,
            settings=FilterSettings(steps=3),
            generator=torch.Generator().manual_seed(6),
        )

    assert_close(sampled(many), sampled(one), rtol=1e-8, atol=1e-8)


def check_members(case: Case, mesh: StartedMesh) -> None:
    """What processes learn from the spread of an ensemble is what one learns that carries all."""
    prior = Storm(trained(case).eval().requires_grad_(False), Noise.normalization, 6.0)
    pasts, settings = Noise(case).batch(0, 6).history, FilterSettings(cohesion=0.3)
    share = EnsembleShare(len(pasts), mesh.world)
    mine = given_pasts(prior, pasts, settings, share=share).past
    all_of_them = given_pasts(prior, pasts, settings).past
    assert 0 < len(share.own) < len(pasts)
    assert_close(mine.forecast, all_of_them.forecast[share.own], rtol=1e-10, atol=1e-12)
    assert_close(mine.variance, all_of_them.variance[share.own], rtol=1e-10, atol=1e-12)


def check_sources(mesh: StartedMesh) -> None:
    """Two steps of two sources with one trunk, tokens of one shape and patches of two."""
    fine = PlaneGrid((20, 24), spacing_m=(0.5, 0.5), periodic=(True, True))
    finer = replace(CONFIG, patch=(4, 4))
    cases = {"coarse": Case("", CONFIG, PLANE), "fine": Case("", finer, fine)}
    training = replace(TRAINING, steps=2, batch=6, passes=1)
    samples = {name: (Noise(case), 3) for name, case in cases.items()}
    plain = SharedTrunk({name: trained(case) for name, case in cases.items()})
    cut = SharedTrunk({name: network(case, mesh) for name, case in cases.items()})
    start, found = module_parts(plain), []
    for name, part in module_parts(cut).items():
        part.data.copy_(start[name].data[part.box])
    for net, on in ((plain, None), (cut, mesh)):
        losses: list[float] = []
        trainer = Trainer(net, samples, training, mesh=on)
        assert trainer.run(progress=lambda _, loss, losses=losses: losses.append(loss))
        found.append((losses, trainer.averaged_parts()))
    (expected, whole), (losses, parts) = found
    assert_close(losses, expected, rtol=1e-9, atol=0)
    for name, part in parts.items():
        assert_close(part.data, whole[name].data[part.box], rtol=1e-8, atol=1e-9)


def check_fields(case: Case, mesh: StartedMesh) -> None:
    """What is cut and joined again is what it was, and so are its gradients."""
    share = network(case, mesh).share
    x = torch.randn((2, *case.grid.shape), generator=torch.Generator().manual_seed(4))
    assert torch.equal(share.joined(share.cut(x)), x)
    assert torch.equal(share.joined(share.cut(x), invariant=True), x)
    tokens = torch.arange(share.whole.tokens())
    places = gather_invariant(share.cut_tokens(tokens), share.comm, sizes=share._tokens or None)
    assert torch.equal(places.sort().values, tokens)


def check_hybrid(folder: Path) -> None:
    """Everything, where all tokens of a field meet."""
    meshes = [on_ranks(m) for m in MESHES]
    for i, case in enumerate(CASES):
        for mesh in meshes if i == 0 else meshes[i - 1 : i + 2]:
            check_fields(case, mesh)
            check_gradients(case, mesh)
        (folder / str(i)).mkdir(parents=True, exist_ok=True)
        check_sampling(case, meshes[i % 3], folder / str(i))
        here, there = meshes[i], meshes[(i + 3) % len(meshes)]
        check_steps(case, here, there, folder / str(i))
    for mesh in (meshes[2], meshes[3]):
        check_sources(mesh)
    check_streamed(folder / "streamed")
    (with_law,) = (case for case in CASES if case.config.transport)
    check_members(with_law, meshes[0])


def check_streamed(folder: Path) -> None:
    """Everything, where the keys of the past are made when they are asked for."""
    meshes = [on_ranks(m) for m in STREAMED_MESHES]
    for mesh in meshes:
        check_gradients(STREAMED, mesh)
    folder.mkdir(parents=True, exist_ok=True)
    check_sampling(STREAMED, meshes[0], folder)
    check_steps(STREAMED, meshes[1], meshes[2], folder)


def check_storm(folder: Path) -> None:
    """Everything, where the network takes tile by tile."""
    for i, (case, sizes) in enumerate(zip(STORM_CASES, STORM_MESHES, strict=True)):
        meshes = [on_ranks(m) for m in sizes]
        for mesh in meshes:
            check_gradients(case, mesh)
        (folder / str(i)).mkdir(parents=True, exist_ok=True)
        check_sampling(case, meshes[0], folder / str(i))
        if len(meshes) > 1:
            check_steps(case, meshes[0], meshes[-1], folder / str(i))
    check_gradients(SHARDED, on_ranks({"shard": 2, "lon": 2}))


def on_ranks(sizes: dict[str, int]) -> StartedMesh:
    return launch(Mesh(dict.fromkeys(AXES, 1) | sizes), **PATIENCE)


def main(mode: str, folder: Path) -> None:
    with launch(Mesh({"replica": -1}), **PATIENCE) as world:
        {"hybrid": check_hybrid, "storm": check_storm}[mode](folder)
        world.world.barrier()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
