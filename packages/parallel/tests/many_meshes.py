"""Training on many meshes, checked against one rank, in one job of processes.

python many_meshes.py SIZE DIRECTORY, of 6 or 8 ranks; laws_of_exchange.py runs it over MPI
"""

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from pathlib import Path

import pytest
import torch
import torch._dynamo  # what the first step of every forked rank would import
import torch.distributed as dist
import torch.multiprocessing as mp
from field_model import BATCH, SAMPLES, FieldNet, adam, alone, batch_loss, built, over, step
from torch import nn
from torch.testing import assert_close

from stormda.parallel import (
    Communicator,
    DamagedCheckpoint,
    MemberStreams,
    Mesh,
    Part,
    RowLinear,
    SampleCursor,
    SampleStore,
    SourceHeads,
    StartedMesh,
    fill_from_file,
    launch,
    members,
    module_parts,
    open_parts,
    optimizer_options,
    reduce_gradients,
    restore_training,
    save_parts,
    start_saving,
    training_parts,
    whole_gradient_norm,
)
from stormda.parallel.layout import local_of, whole

START = SampleCursor(samples=SAMPLES, seed=1)

MESHES = {
    8: (
        {"replica": 2, "shard": 2, "lat": 2},
        {"replica": 2, "lon": 2, "tensor": 2},
        {"shard": 2, "lon": 2, "tensor": 2},
        {"lat": 2, "lon": 2, "tensor": 2},
    ),
    6: (
        {"shard": 2, "tensor": 3},
        {"replica": 2, "shard": 3},
        {"lat": 3, "lon": 2},
    ),
}
"""On 8 ranks every two axes are larger than 1 together; with 3, all lengths are uneven."""

MPI_MESHES = [
    dict.fromkeys(pair, 2) for pair in combinations(("replica", "lat", "lon", "tensor"), 2)
]
"""Every two axes but shard, which is FSDP2 and needs torch.distributed."""

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # float64; only the order of the sums differs


@dataclass(frozen=True, kw_only=True)
class Serial:
    """What one rank gets, with no mesh: computed once and held against every mesh."""

    loss: torch.Tensor
    gradients: dict[str, torch.Tensor]
    answers: list[tuple[torch.Tensor, torch.Tensor]]
    """Loss and norm of the gradient of every step."""

    weights: dict[str, torch.Tensor]
    """After the last step, the fifth."""


def serial() -> Serial:
    net, cursor = built(alone()), START
    loss = batch_loss(net, alone(), START.take(BATCH)[0])
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in net.named_parameters()}
    answers, optimizer = [], adam(net)
    for _ in range(5):
        *answer, cursor = step(net, optimizer, alone(), cursor)
        answers.append(tuple(answer))
    weights = {name: p.detach() for name, p in net.named_parameters()}
    return Serial(loss=loss.detach(), gradients=gradients, answers=answers, weights=weights)


def check_gradients(parallel: FieldNet, mesh: StartedMesh, one: Serial) -> None:
    """The loss and every gradient are one rank's."""
    mine = batch_loss(parallel, mesh, START.take(BATCH)[0])
    mine.backward()
    reduce_gradients(parallel, mesh)
    losses = mesh.comm("replica", "shard", "lat", "lon")
    assert_close(losses.all_reduce(mine.detach()), one.loss, **EXACT)
    parts = module_parts(parallel)
    for name, p in parallel.named_parameters():
        assert_close(local_of(p.grad), one.gradients[name][parts[name].box], **EXACT)


def check_training(mesh: StartedMesh, one: Serial, saved: Path | None, saving: Path) -> None:
    """Five steps, saved after four; and the fifth again from what another mesh has saved."""
    parallel, cursor = built(mesh), START
    check_gradients(parallel, mesh, one)
    optimizer = adam(parallel)
    for i in range(4):
        *mine, cursor = step(parallel, optimizer, mesh, cursor)
        assert_close(tuple(mine), one.answers[i], **EXACT)
    pending = start_saving(saving, 4, training_parts(parallel, optimizer), mesh=mesh)
    while not pending.written():  # the run goes on while the checkpoint is written
        time.sleep(0.01)
    check_fifth_step(parallel, optimizer, mesh, cursor, one)
    assert pending.finish() == saving / "step-00000004"
    if saved is not None:
        parallel = built(mesh)
        optimizer = adam(parallel)
        before = open_parts(saved, comm=mesh.world)
        restore_training(before, parallel, optimizer, optimizer_options(optimizer))
        check_fifth_step(parallel, optimizer, mesh, cursor, one)


def check_fifth_step(
    parallel: FieldNet,
    optimizer: torch.optim.Optimizer,
    mesh: StartedMesh,
    cursor: SampleCursor,
    one: Serial,
) -> None:
    *mine, _ = step(parallel, optimizer, mesh, cursor)
    assert_close(tuple(mine), one.answers[4], **EXACT)
    for name, part in module_parts(parallel).items():
        assert_close(part.data, one.weights[name][part.box], **EXACT)


def check_what_is_not_whole_is_refused(mesh: StartedMesh, directory: Path) -> None:
    """A shard that poses as a whole, a gap, and a part of another shape: on every rank."""
    posing = {"kept": whole(torch.ones(2)), "w": whole(torch.full((3,), float(mesh.rank)))}
    with pytest.raises(ValueError, match=r"^parts: expected the same numbers .* ones of 'w' "):
        save_parts(directory, 1, posing, mesh=mesh)
    ranks = mesh.world.size
    gap = Part(data=torch.ones(1), shape=(ranks + 1,), start=(mesh.rank,))
    with pytest.raises(ValueError, match=r"^w: expected parts that tile a tensor of shape \("):
        save_parts(directory, 1, {"w": gap}, mesh=mesh)
    other = whole(torch.ones(2 if mesh.rank else 3))
    with pytest.raises(ValueError, match=r"^parts: expected one dtype and shape of 'w' on all "):
        save_parts(directory, 1, {"w": other}, mesh=mesh)
    assert not directory.exists()


def check_uneven_parts_are_found_again(mesh: StartedMesh, directory: Path) -> None:
    """Parts of lengths 1, 2, 1, 2, ... and none; read whole by every rank, and from one file."""
    lengths = [[1, 2, 0][rank % 3] for rank in range(mesh.world.size)]
    x = torch.arange(2.0 * sum(lengths)).reshape(2, -1)
    first, last = sum(lengths[: mesh.rank]), sum(lengths[: mesh.rank + 1])
    part = Part(data=x[:, first:last], shape=tuple(x.shape), start=(0, first))
    save_parts(directory, 1, {"net/x": part, "net/n": whole(torch.tensor(3))}, mesh=mesh)
    checkpoint = open_parts(directory, comm=mesh.world)
    assert torch.equal(checkpoint.tensor("net/x"), x)
    if mesh.rank == 0:
        checkpoint.export(directory / "x.safetensors")
    mesh.world.barrier()
    found = part.like(torch.zeros_like(part.data))
    number = whole(torch.tensor(0))
    fill_from_file(directory / "x.safetensors", {"x": found, "n": number})
    assert torch.equal(found.data, part.data)
    assert number.data == 3
    damaged = directory / "step-00000001" / "tensors-00000.safetensors"
    mesh.world.barrier()
    if mesh.rank == 0:
        damaged.write_bytes(damaged.read_bytes()[:-1])
    mesh.world.barrier()
    with pytest.raises(DamagedCheckpoint):
        open_parts(directory, comm=mesh.world)


class Sourced(nn.Module):
    """A trunk and a head for each source; its loss is shared over samples and output columns."""

    SAMPLES = {"era5": 9, "hrrr": 7, "buoys": 5}  # noqa: RUF012

    def __init__(self, mesh: StartedMesh) -> None:
        super().__init__()
        self.mesh = mesh
        self.trunk = self.layer(4, 6, 0)
        seeds = {source: len(source) for source in self.SAMPLES}
        self.top = SourceHeads(self.SAMPLES, lambda source: self.layer(6, 3, seeds[source]), mesh)

    def layer(self, inputs: int, outputs: int, seed: int) -> RowLinear:
        g = torch.Generator().manual_seed(seed)
        return RowLinear(inputs, outputs, alone().world, generator=g, dtype=torch.float64)

    def forward(self) -> torch.Tensor:
        lat = self.mesh.comm(*self.mesh.mesh.names[1:])
        columns = slice(lat.rank, None, lat.size)
        total = torch.zeros((), dtype=torch.float64)
        for source in self.top.sources:
            g = torch.Generator().manual_seed(len(source))
            x = torch.randn(self.SAMPLES[source], 4, dtype=torch.float64, generator=g)
            mine = members(len(x), self.top.holders[source].comm)
            y = self.top(self.trunk(x[mine.start : mine.stop]).tanh(), source)
            total = total + y[:, columns].sin().square().sum() / sum(self.SAMPLES.values())
        return total


def check_heads(mesh: StartedMesh, directory: Path) -> None:
    """Gradients of trunk and heads, their norm, and a checkpoint, are those of one rank."""
    serial, parallel = Sourced(alone()), Sourced(mesh)
    for net, ranks in ((serial, alone()), (parallel, mesh)):
        net().backward()
        reduce_gradients(net, ranks)
    wanted = dict(serial.named_parameters())
    for name, p in parallel.named_parameters():
        assert_close(p.grad, wanted[name].grad, **EXACT)
    norms = [whole_gradient_norm(parallel, mesh), whole_gradient_norm(serial, alone())]
    assert_close(*norms, **EXACT)
    optimizer = adam(parallel)
    optimizer.step()
    adam(serial).step()
    save_parts(directory, 1, training_parts(parallel, optimizer), mesh=mesh)
    other = Sourced(alone())
    restore_training(
        open_parts(directory, comm=mesh.world), other, adam(other), optimizer_options(optimizer)
    )
    for name, p in other.named_parameters():
        assert_close(p, wanted[name], **EXACT)


def check_half_precision(mesh: StartedMesh) -> None:
    """bfloat16 is computed in; parameters, gradients and their sums stay in float32."""
    narrow, exact = built(mesh, torch.bfloat16), built(mesh, torch.float32)
    indices, _ = START.take(BATCH)
    losses = []
    for net in (narrow, exact):
        loss = batch_loss(net, mesh, indices)
        loss.backward()
        reduce_gradients(net, mesh)
        losses.append(mesh.comm("replica", "shard", "lat", "lon").all_reduce(loss.detach()))
    assert_close(*[loss.double() for loss in losses], rtol=0.01, atol=0)  # 8 bits: 0.4 % a step
    assert {p.dtype for p in narrow.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in narrow.parameters()} == {torch.float32}
    norms = [whole_gradient_norm(net, mesh).double() for net in (narrow, exact)]
    assert_close(*norms, rtol=0.1, atol=0)


def check_store(comm: Communicator) -> None:
    """Uneven runs of samples, one rank without any; each rank asks for others, some twice."""
    counts = [(2 * rank) % 5 for rank in range(comm.size)]
    everything = torch.arange(6.0 * sum(counts)).reshape(-1, 2, 3)
    first = sum(counts[: comm.rank])
    store = SampleStore(everything[first : first + counts[comm.rank]], comm)
    assert len(store) == len(everything)
    wanted = [(5 * i + comm.rank) % len(store) for i in range(comm.rank)] * 2
    assert torch.equal(store.fetch(wanted), everything[wanted])
    with pytest.raises(ValueError, match=r"^own: expected samples of one shape and dtype on all"):
        SampleStore(torch.ones(1, 2 if comm.rank else 3), comm)


def check_streams(comm: Communicator) -> None:
    """Members, and cells of a field, are the same numbers on any number of ranks."""
    streams, cells = MemberStreams(7), torch.arange(10)
    everyone = streams.normal(range(11), step=3, cells=cells)
    mine = members(11, comm)
    assert torch.equal(streams.normal(mine, step=3, cells=cells), everyone[mine.start : mine.stop])


def check_meshes(meshes: Iterable[StartedMesh], directory: Path) -> None:
    """Each goes on from what the one before has saved."""
    one, saved = serial(), None
    for i, mesh in enumerate(meshes):
        check_training(mesh, one, saved, directory / str(i))
        saved = directory / str(i)


def check_parts_and_heads(backend: str, directory: Path) -> None:
    """Checkpoints that are refused or uneven, heads of some ranks, samples, members."""
    heads = launch(Mesh({"replica": -1}), backend=backend)
    check_what_is_not_whole_is_refused(heads, directory / "refused")
    check_uneven_parts_are_found_again(heads, directory / "uneven")
    check_heads(heads, directory / "heads")
    check_heads(launch(Mesh({"replica": 2, "lat": -1}), backend=backend), directory / "fewer")
    check_store(heads.world)
    check_streams(heads.world)
    heads.world.barrier()


def run(rank: int, size: int, directory: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{directory}/rendezvous",
        rank=rank,
        world_size=size,
        timeout=timedelta(minutes=5),
    )
    check_meshes([over(**sizes) for sizes in MESHES[size]], directory)
    if size == 6:
        check_half_precision(over(shard=3, tensor=2))
        check_parts_and_heads("torch", directory)
    dist.barrier()
    dist.destroy_process_group()


def run_over_mpi(directory: Path) -> None:
    """Of four ranks."""
    check_meshes([over(backend="mpi", **sizes) for sizes in MPI_MESHES], directory)
    check_parts_and_heads("mpi", directory)


if __name__ == "__main__":
    ranks, folder = int(sys.argv[1]), Path(sys.argv[2])
    mp.start_processes(run, (ranks, folder), nprocs=ranks, start_method="fork")  # imports once
