"""Attention and tiles on ranks that share a globe are those of one process; run by torchrun."""

import torch
from torch.testing import assert_close

from stormda.attention import linear_attention, softmax_attention
from stormda.grid import TileLayout, grid
from stormda.parallel import (
    Communicator,
    Domain,
    Mesh,
    balanced_sizes,
    by_heads,
    halo,
    halo_plan,
    launch,
    merge_weights,
    overlap_add,
)

TIGHT = {"rtol": 1e-12, "atol": 1e-12}  # float64; only the order of sums differs


def check_attention(comm: Communicator) -> None:
    """Linear attention by one sum of its state, softmax attention by heads; uneven tokens."""
    g = torch.Generator().manual_seed(0)
    sizes = balanced_sizes(7 * comm.size + 1, comm.size)
    whole = [
        torch.randn(2, 4, sum(sizes), 3, generator=g, dtype=torch.float64).requires_grad_()
        for _ in range(4)
    ]
    parts = [x.detach().split(sizes, -2)[comm.rank].clone().requires_grad_() for x in whole[:3]]
    upstream = whole[3].detach()
    for serial, parallel in (
        (linear_attention(*whole[:3]), linear_attention(*parts, reduce=comm.psum)),
        (softmax_attention(*whole[:3]), by_heads(softmax_attention, *parts, comm, sizes=sizes)),
    ):
        assert_close(parallel, serial.split(sizes, -2)[comm.rank], **TIGHT)
        expected = torch.autograd.grad(serial, whole[:3], upstream)
        mine = torch.autograd.grad(parallel, parts, upstream.split(sizes, -2)[comm.rank])
        for part, gradient in zip(mine, expected, strict=True):
            assert_close(part, gradient.split(sizes, -2)[comm.rank], **TIGHT)


def check_tiles(comm: Communicator) -> None:
    """A halo is the window of the grid's tile layout, over poles too, and so is the merge."""
    for name in ("10deg", "10deg-poles"):
        globe = grid(name)
        layout = TileLayout.on(globe, tiles=(1, comm.size), halo=(2, 3))
        domain = Domain.globe(globe.shape, (1, comm.size))
        plan = halo_plan(domain, comm.rank, (2, 3))
        g = torch.Generator().manual_seed(1)
        x = torch.randn(2, *globe.shape, generator=g, dtype=torch.float64)
        signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
        rows, columns = domain.box(comm.rank)
        window = halo(x[:, rows, columns], plan, comm, signs=signs)
        assert torch.equal(window, layout.take(x, comm.rank, vectors=[1]))
        weights = merge_weights(plan, comm, dtype=torch.float64)
        assert_close(weights, torch.from_numpy(layout.weight(comm.rank)), **TIGHT)
        merged = overlap_add(weights * window.tanh(), plan, comm, signs=signs)
        tiles = [tile.tanh() for tile in layout.split(x, vectors=[1])]
        expected = layout.merge(tiles, vectors=[1])
        assert_close(merged, expected[:, rows, columns], **TIGHT)


if __name__ == "__main__":
    with launch(Mesh({"lat": 1, "lon": -1}), device=torch.device("cpu")) as mesh:
        check_attention(mesh.world)
        check_tiles(mesh.world)
