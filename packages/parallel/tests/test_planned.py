"""A planned mesh has every rank's groups, answers of the right shape, and the bytes on paper."""

import re

import pytest
import torch

from stormda.parallel import (
    Mesh,
    PlannedComm,
    by_heads,
    gather,
    halo_messages,
    planned,
    prefix_sum,
    psum,
    scatter_sum,
)
from stormda.parallel.domain import Domain

MESH = Mesh({"replica": 5, "shard": 3, "lat": 2, "lon": 4, "tensor": 2})


@pytest.mark.parametrize("rank", [0, 17, 239])
def test_every_group_is_that_of_the_mesh(rank: int) -> None:
    mesh = planned(MESH, rank)
    for axes in MESH.subsets():
        comm, group = mesh.comm(*axes), MESH.group(rank, *axes)
        assert comm.size == len(group)
        assert group[comm.rank] == rank
    assert MESH.coordinates(rank) == {axis: mesh.coordinate(axis) for axis in MESH.names}


def test_answers_have_the_shapes_of_real_ones() -> None:
    comm = PlannedComm(2, 4)
    x = torch.ones(8, 3)
    assert psum(x, comm).shape == (8, 3)
    assert gather(x, comm).shape == (32, 3)
    assert gather(x, comm, sizes=[1, 2, 8, 0]).shape == (11, 3)
    assert scatter_sum(x, comm, sizes=[1, 2, 5, 0]).shape == (5, 3)
    assert prefix_sum(x, comm).shape == (8, 3)
    assert comm.broadcast(x).shape == (8, 3)
    assert torch.equal(comm.all_gather(x)[16:24], x)
    q = torch.ones(6, 5, 2, requires_grad=True)
    y = by_heads(lambda q, k, v: q + k + v, q, q, q, comm)
    y.sum().backward()
    assert y.shape == q.grad.shape == q.shape


def test_bytes_are_those_of_the_algorithms_that_move_least() -> None:
    comm = PlannedComm(2, 4)
    x = torch.ones(8, 3)
    comm.all_reduce(x)
    comm.all_gather(x)
    comm.reduce_scatter(x)
    comm.all_to_all(x, sent=[1, 2, 5, 0], received=[0, 0, 5, 0])
    comm.broadcast(x.bfloat16())
    assert comm.sent == {
        "all_reduce": 2 * 96 * 3 // 4,
        "all_gather": 96 * 3,
        "reduce_scatter": 96 * 3 // 4,
        "all_to_all": 3 * 12,
        "broadcast": 48,
    }
    assert set(comm.calls.values()) == {1}


def test_a_whole_machine_is_laid_out() -> None:
    """Each rank of a globe on 74,400 hears from its 8 neighbours, 7 over the poles by symmetry."""
    sender, receiver, cells = halo_messages(Domain.globe((8640, 17280), (240, 310)), (2, 2))
    heard = torch.bincount(receiver, minlength=74_400)
    assert set(heard.tolist()) <= {7, 8, 9}
    assert torch.equal(heard, torch.bincount(sender, minlength=74_400))
    inner = receiver == 100 * 310 + 100
    assert cells[inner].sum() == (36 + 4) * (56 + 4) - 36 * 56


def test_ranks_exist() -> None:
    with pytest.raises(ValueError, match=re.escape("rank: expected 0 to 3, got 4")):
        PlannedComm(4, 4)
    with pytest.raises(ValueError, match=r"^rank: expected 0 to 239, got 240$"):
        planned(MESH, 240)
