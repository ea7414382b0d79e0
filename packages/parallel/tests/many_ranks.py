"""Every law that needs several ranks, checked by as many processes over gloo.

    python many_ranks.py SIZE DIRECTORY

All ranks draw every rank's data from one seed, so that each can compute what a serial program
would have got.
"""

import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.testing import assert_close

from stormda.parallel import (
    Communicator,
    Interruption,
    Mesh,
    SelfComm,
    TorchComm,
    balanced_sizes,
    broadcast_parameters,
    copy_in,
    gather,
    gather_invariant,
    gradient_norm,
    gradients,
    launch,
    load_checkpoint,
    members,
    parameter_checksum,
    psum,
    reduce_out,
    save_checkpoint,
    scatter_sum,
    split,
    sum_gradients,
)

EXACT = {"rtol": 1e-13, "atol": 1e-13}  # float64; only the order of the sums differs


def draw(seed: int, *shape: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


def check_all_reduce(comm: Communicator, directory: Path) -> None:
    everyone = [draw(rank, 2, 3) for rank in range(comm.size)]
    mine = everyone[comm.rank].clone()
    assert_close(comm.all_reduce(mine), sum(everyone), **EXACT)
    assert torch.equal(mine, everyone[comm.rank])
    assert_close(comm.all_reduce(mine.T), sum(everyone).T, **EXACT)
    assert comm.all_reduce(torch.tensor(comm.rank + 1)) == sum(range(1, comm.size + 1))
    assert_close(comm.all_reduce(mine * 1j), sum(everyone) * 1j, **EXACT)


def check_sixteen_bits_are_summed_in_thirty_two(comm: Communicator, directory: Path) -> None:
    """256 + 1 + 1 stays 256 where every addition rounds to the 8 bits of bfloat16."""
    x = torch.tensor([256.0 if comm.rank == 0 else 1.0], dtype=torch.bfloat16)
    expected = torch.tensor([256.0 + comm.size - 1]).to(torch.bfloat16)
    assert torch.equal(comm.all_reduce(x), expected)
    assert torch.equal(comm.reduce_scatter(x.expand(comm.size)), expected)


def check_gather_and_scatter(comm: Communicator, directory: Path) -> None:
    for dim, sizes in [
        (0, None),
        (1, None),
        (-1, balanced_sizes(7, comm.size)),
        (0, [0, 5, 2, 4]),
    ]:
        known = [3] * comm.size if sizes is None else sizes[: comm.size]
        given = None if sizes is None else known
        whole = draw(0, sum(known), sum(known))
        parts = whole.split(known, dim)
        joined = comm.all_gather(parts[comm.rank], dim=dim, sizes=given)
        assert torch.equal(joined, whole)
        assert joined.is_contiguous()
        everyone = [draw(rank, sum(known), sum(known)) for rank in range(comm.size)]
        part = comm.reduce_scatter(everyone[comm.rank], dim=dim, sizes=given)
        assert_close(part, sum(everyone).split(known, dim)[comm.rank], **EXACT)
        assert part.is_contiguous()
    flags = torch.tensor([comm.rank == 1])
    assert comm.all_gather(flags).tolist() == [rank == 1 for rank in range(comm.size)]


def check_all_to_all(comm: Communicator, directory: Path) -> None:
    """Rank r sends r + s numbers to rank s, each of which says from where to where."""
    n = comm.size
    sent = [comm.rank + s for s in range(n)]
    x = torch.cat([torch.full((2, k), 10 * comm.rank + s) for s, k in enumerate(sent)], 1)
    y = comm.all_to_all(x, sent=sent, received=sent, dim=1)
    expected = [torch.full((2, comm.rank + r), 10 * r + comm.rank) for r in range(n)]
    assert torch.equal(y, torch.cat(expected, 1))


def check_broadcast(comm: Communicator, directory: Path) -> None:
    for root in range(comm.size):
        mine = torch.full((3,), comm.rank)
        assert torch.equal(comm.broadcast(mine, root=root), torch.full((3,), root))
        assert torch.equal(mine, torch.full((3,), comm.rank))


def check_plain_collectives_refuse_grad(comm: Communicator, directory: Path) -> None:
    x = torch.ones(comm.size, requires_grad=True)
    ones = [1] * comm.size
    for call in (
        lambda: comm.all_reduce(x),
        lambda: comm.all_gather(x),
        lambda: comm.reduce_scatter(x),
        lambda: comm.all_to_all(x, sent=ones, received=ones),
        lambda: comm.broadcast(x),
    ):
        with pytest.raises(ValueError, match=r"^x: expected a tensor that does not require grad"):
            call()


def check_adjoints(comm: Communicator, directory: Path) -> None:
    """<A x, g> = <x, A^T g>; what all ranks share counts once, what they hold apart is summed."""
    sizes = balanced_sizes(2 * comm.size + 1, comm.size)
    total, own = sum(sizes), sizes[comm.rank]
    cut = {"dim": 1, "sizes": sizes}
    for function, options, x_shared, g_shared, columns, results in (
        (psum, {}, False, False, total, total),
        (copy_in, {}, True, False, total, total),
        (reduce_out, {}, False, True, total, total),
        (gather, cut, False, False, own, total),
        (gather_invariant, cut, False, True, own, total),
        (scatter_sum, cut, False, False, total, own),
        (split, cut, True, False, total, own),
    ):
        x = draw(1 if x_shared else 10 + comm.rank, 2, columns).requires_grad_()
        g = draw(2 if g_shared else 20 + comm.rank, 2, results)
        y = function(x, comm, **options)
        (adjoint,) = torch.autograd.grad(y, x, g)
        left, right = (y.detach() * g).sum(), (x.detach() * adjoint).sum()
        left = left if g_shared else comm.all_reduce(left)
        right = right if x_shared else comm.all_reduce(right)
        assert_close(left, right, rtol=1e-12, atol=1e-12)


def attention(x: Tensor, weight: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
    """A linear attention with one shared weight: y_i = phi_i^T sum_j phi_j x_j^T."""
    phi = torch.tanh(x @ weight)
    return phi @ total(phi.mT @ x)


def check_ranks_agree_with_one_process(comm: Communicator, directory: Path) -> None:
    """Loss, gradients, and gradients of a gradient's norm, of a sharded non-linear model."""
    sizes = balanced_sizes(3 * comm.size + 1, comm.size)
    x, weight = draw(3, sum(sizes), 4), draw(4, 4, 4).requires_grad_()
    x.requires_grad_()

    def parallel(x: Tensor, weight: Tensor) -> Tensor:
        part = split(x, comm, sizes=sizes)
        y = attention(part, copy_in(weight, comm), comm.psum)
        return reduce_out((y**2).sum(), comm) + gather_invariant(y, comm, sizes=sizes).sin().sum()

    def serial(x: Tensor, weight: Tensor) -> Tensor:
        y = attention(x, weight, lambda s: s)
        return (y**2).sum() + y.sin().sum()

    def derivatives(model: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
        loss = model(x, weight)
        first = torch.autograd.grad(loss, (x, weight), create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), (x, weight))
        return [loss, *first, *second]

    for mine, expected in zip(derivatives(parallel), derivatives(serial), strict=True):
        assert_close(mine, expected, rtol=1e-12, atol=1e-12)


def check_data_parallel_gradients(comm: Communicator, directory: Path) -> None:
    """Uneven batches, a parameter that only one rank uses, and one that nobody uses."""
    samples = draw(5, 2 * comm.size + 1, 3)
    mine = members(len(samples), comm)

    def differentiated(batch: Tensor, first: bool) -> list[nn.Parameter]:
        weight, rare, unused = (nn.Parameter(draw(i, 3)) for i in (6, 7, 8))
        loss = (batch @ weight).tanh().sum() / len(samples)
        (loss + (rare.sum() if first else 0)).backward()
        return [weight, rare, unused]

    parallel = differentiated(samples[mine.start : mine.stop], comm.rank == 0)
    serial = differentiated(samples, first=True)
    sum_gradients(parallel, comm)
    assert_close([p.grad for p in parallel[:2]], [p.grad for p in serial[:2]], **EXACT)
    assert parallel[2].grad is None
    norms = comm.all_gather(gradient_norm(parallel)[None])
    assert torch.equal(norms, norms[:1].expand(comm.size))


def check_buckets(comm: Communicator, directory: Path) -> None:
    """Dtypes and sizes beyond one bucket; small integers, so that every sum is exact."""
    shapes = [((3,), torch.float32), ((2, 2), torch.bfloat16), ((50,), torch.float32)]
    shapes += [((40,), torch.float32), ((1,), torch.float32), ((), torch.float64)]
    parameters = [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape, dtype in shapes]
    for i, p in enumerate(parameters):
        p.grad = torch.full_like(p, i + comm.rank)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients, "_BUCKET_BYTES", 256)
        sum_gradients(parameters, comm)
    for i, p in enumerate(parameters):
        expected = i * comm.size + sum(range(comm.size))
        assert torch.equal(p.grad, torch.full_like(p, expected))


def check_broadcast_parameters(comm: Communicator, directory: Path) -> None:
    def net(seed: int) -> nn.Module:
        made = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        nn.init.normal_(made[0].weight, generator=torch.Generator().manual_seed(seed))
        nn.init.constant_(made[0].bias, seed)
        made[1].num_batches_tracked.fill_(seed)
        return made

    root = comm.size - 1
    mine = net(comm.rank)
    checksum = broadcast_parameters(mine, comm, root=root)
    assert checksum == parameter_checksum(net(root))
    other = nn.Linear(3, 2, bias=comm.rank != 1)
    with pytest.raises(
        ValueError,
        match=r"^module: expected the same names, shapes and dtypes on every rank, got others "
        r"than those of rank 0 on rank 1$",
    ):
        broadcast_parameters(other, comm)


def check_checkpoints(comm: Communicator, directory: Path) -> None:
    state = {"x": draw(9, 4), "step": 12}
    path = save_checkpoint(directory / "run", 12, state, {"ranks": comm.size}, comm=comm)
    assert path.is_dir()
    loaded = load_checkpoint(directory / "run")
    assert torch.equal(loaded.state["x"], state["x"])
    assert loaded.metadata == {"ranks": comm.size}


def check_interruption(comm: Communicator, directory: Path) -> None:
    """A signal to one rank stops all of them at the same boundary."""
    with Interruption(comm) as interrupted:
        steps = 0
        while not interrupted():
            steps += 1
            if steps == 3 and comm.rank == comm.size - 1:
                os.kill(os.getpid(), signal.SIGTERM)
    assert comm.all_gather(torch.tensor([steps])).tolist() == [3] * comm.size


def check_meshes_over_a_running_group(comm: Communicator, directory: Path) -> None:
    with launch(Mesh({"replica": 1, "lon": -1}), device=comm.device) as mesh:
        assert (mesh.rank, mesh.size("lon")) == (comm.rank, comm.size)
        assert mesh.coordinate("lon") == comm.rank
        assert isinstance(mesh.comm("replica"), SelfComm)
        assert mesh.comm("replica", "lon") is mesh.comm("lon") is mesh.world
        assert mesh.world.all_reduce(torch.tensor(1)) == comm.size
    assert dist.is_initialized()
    assert dist.get_world_size() == comm.size


def check_part_of_the_ranks(comm: Communicator, directory: Path) -> None:
    """A group that this process is not in is refused; ranks inside a group start from 0."""
    group = dist.new_group([comm.size - 1])
    if comm.rank < comm.size - 1:
        with pytest.raises(ValueError, match=r"^group: expected a process group that this proc"):
            TorchComm(group)
    else:
        alone = TorchComm(group)
        assert (alone.rank, alone.size) == (0, 1)
        assert torch.equal(alone.broadcast(torch.ones(2)), torch.ones(2))


CHECKS = (
    check_all_reduce,
    check_sixteen_bits_are_summed_in_thirty_two,
    check_gather_and_scatter,
    check_all_to_all,
    check_broadcast,
    check_plain_collectives_refuse_grad,
    check_adjoints,
    check_ranks_agree_with_one_process,
    check_data_parallel_gradients,
    check_buckets,
    check_broadcast_parameters,
    check_checkpoints,
    check_interruption,
    check_meshes_over_a_running_group,
    check_part_of_the_ranks,
)


def run(rank: int, size: int, directory: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{directory}/rendezvous",
        rank=rank,
        world_size=size,
        timeout=timedelta(minutes=5),
    )
    comm = TorchComm()
    for check in CHECKS:
        check(comm, directory)
    if size > 2:
        from laws_of_exchange import LAWS  # which takes some of the checks here

        for law in LAWS:
            law(comm)
    comm.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    ranks, folder = int(sys.argv[1]), Path(sys.argv[2])
    mp.start_processes(run, (ranks, folder), nprocs=ranks, start_method="fork")  # imports once
