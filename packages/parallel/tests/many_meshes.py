"""Training on many meshes, checked against one rank, in one job of processes over gloo.

python many_meshes.py SIZE DIRECTORY
"""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from field_model import BATCH, SAMPLES, adam, alone, batch_loss, built, over, step
from torch.testing import assert_close

from stormda.parallel import SampleCursor, StartedMesh, module_parts, reduce_gradients

MESHES = {
    8: (
        {"replica": 2, "shard": 2, "lat": 2},
        {"replica": 2, "lon": 2, "tensor": 2},
        {"shard": 2, "lon": 2, "tensor": 2},
        {"lat": 2, "lon": 2, "tensor": 2},
        {"shard": 4, "lat": 2},
        {"shard": 2, "lat": 2, "tensor": 2},
    ),
    6: (
        {"lat": 3, "lon": 2},
        {"shard": 3, "tensor": 2},
        {"replica": 2, "tensor": 3},
        {"replica": 3, "shard": 2},
        {"replica": 2, "lat": 3},
    ),
}
"""Every two axes are larger than 1 together at least once; with 3, lengths are uneven."""

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # float64; only the order of the sums differs


def check_training(mesh: StartedMesh, directory: Path) -> None:
    """The loss, every gradient, and the loss, norm and weights of five steps are one rank's."""
    serial, parallel, one = built(alone()), built(mesh), alone()
    indices, _ = SampleCursor(samples=SAMPLES, seed=1).take(BATCH)
    expected, mine = batch_loss(serial, one, indices), batch_loss(parallel, mesh, indices)
    expected.backward()
    mine.backward()
    reduce_gradients(parallel, mesh)
    losses = mesh.comm("replica", "shard", "lat", "lon")
    assert_close(losses.all_reduce(mine.detach()), expected.detach(), **EXACT)
    parts, wanted = module_parts(parallel), dict(serial.named_parameters())
    for name, p in parallel.named_parameters():
        local = p.grad.to_local() if hasattr(p.grad, "to_local") else p.grad
        assert_close(local, wanted[name].grad[parts[name].box], **EXACT)
    cursors = [SampleCursor(samples=SAMPLES, seed=1)] * 2
    optimizers = adam(serial), adam(parallel)
    for _ in range(5):
        *expected, cursors[0] = step(serial, optimizers[0], one, cursors[0])
        *mine, cursors[1] = step(parallel, optimizers[1], mesh, cursors[1])
        assert_close(mine, expected, **EXACT)
    for name, part in module_parts(parallel).items():
        assert_close(part.data, wanted[name].detach()[part.box], **EXACT)


CHECKS = (check_training,)


def run(rank: int, size: int, directory: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{directory}/rendezvous",
        rank=rank,
        world_size=size,
        timeout=timedelta(minutes=5),
    )
    for i, sizes in enumerate(MESHES[size]):
        mesh = over(**sizes)
        for check in CHECKS:
            check(mesh, directory / f"{i}-{check.__name__}")
    mesh.world.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    ranks, folder = int(sys.argv[1]), Path(sys.argv[2])
    mp.start_processes(run, (ranks, folder), nprocs=ranks, start_method="fork")  # imports once
