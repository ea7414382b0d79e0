"""A field model in which every axis of a mesh has work: tokens on lat x lon, heads on tensor."""

from datetime import timedelta

import torch
from torch import Tensor, nn

from stormda.parallel import (
    ColumnLinear,
    Mesh,
    Placement,
    RowLinear,
    SampleCursor,
    StartedMesh,
    balanced_sizes,
    clip_gradients,
    launch,
    members,
    recompute,
    reduce_gradients,
    shard_parameters,
    whole_gradient_norm,
)

ROWS, COLUMNS, CHANNELS, WIDTH, HEADS, BATCH, SAMPLES = 5, 7, 2, 12, 4, 7, 23
AXES = ("replica", "shard", "lat", "lon", "tensor")


def alone() -> StartedMesh:
    """Return the mesh of a serial run, inside or outside a job of many ranks."""
    plan = Mesh(dict.fromkeys(AXES, 1))
    return StartedMesh(plan, Placement(launcher="python"), torch.device("cpu"), {}, session=None)


def over(backend: str = "auto", **sizes: int) -> StartedMesh:
    """Return a mesh of all five axes over the running processes."""
    plan = Mesh(dict.fromkeys(AXES, 1) | sizes)
    cpu, patience = torch.device("cpu"), timedelta(minutes=5)
    return launch(plan, backend=backend, device=cpu, timeout=patience)


def own_box(mesh: StartedMesh) -> tuple[slice, slice]:
    """Return the rows and columns of the field that are this rank's, unevenly shared."""
    box = []
    for axis, length in (("lat", ROWS), ("lon", COLUMNS)):
        sizes = balanced_sizes(length, mesh.size(axis))
        first = sum(sizes[: mesh.coordinate(axis)])
        box.append(slice(first, first + sizes[mesh.coordinate(axis)]))
    return box[0], box[1]


class Block(nn.Module):
    """Global linear attention over all tokens and an MLP, both with heads or features shared."""

    def __init__(self, mesh: StartedMesh, g: torch.Generator, dtype: torch.dtype) -> None:
        super().__init__()
        comm = mesh.comm("tensor")
        wide, d = {"generator": g, "dtype": dtype}, WIDTH // HEADS
        self.field, self.width = mesh.comm("lat", "lon"), d
        self.norm = nn.LayerNorm(WIDTH, dtype=dtype)
        self.qkv = ColumnLinear(WIDTH, 3 * WIDTH, comm, unit=3 * d, bias=False, **wide)
        self.out = RowLinear(WIDTH, WIDTH, comm, unit=d, **wide)
        self.up = ColumnLinear(WIDTH, 10, comm, **wide)
        self.down = RowLinear(10, WIDTH, comm, **wide)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(self.norm(x)).unflatten(-1, (-1, 3, self.width))
        q, k, v = (t.transpose(1, 2) for t in heads.unbind(-2))  # (b, heads, tokens, d)
        q, k = nn.functional.elu(q) + 1, nn.functional.elu(k) + 1
        state = self.field.psum(k.mT @ torch.cat([v, torch.ones_like(v[..., :1])], -1))
        y = q @ state
        y = (y[..., :-1] / y[..., -1:]).transpose(1, 2).flatten(2)
        x = x + self.out(y)
        return x + self.down(self.up(x).tanh())


class FieldNet(nn.Module):
    """`(b, rows, columns, channels)` of this rank's box to the same of another field."""

    def __init__(self, mesh: StartedMesh, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(2)
        self.box = own_box(mesh)
        self.position = nn.Parameter(torch.randn(ROWS, COLUMNS, WIDTH, dtype=dtype, generator=g))
        whole = {"comm": alone().world, "generator": g, "dtype": dtype}
        self.embed = RowLinear(CHANNELS, WIDTH, **whole)
        self.blocks = nn.ModuleList(Block(mesh, g, dtype) for _ in range(2))
        self.head = RowLinear(WIDTH, CHANNELS, **whole)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.position[self.box]
        tokens = x.flatten(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens.view_as(x))


def built(mesh: StartedMesh, compute: torch.dtype | None = None) -> FieldNet:
    dtype = torch.float64 if compute is None else torch.float32
    net = FieldNet(mesh, dtype)
    recompute([net.blocks[0]])
    shard_parameters(net, mesh, blocks=net.blocks, compute=compute)
    return net


def adam(net: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(net.parameters(), lr=0.02, weight_decay=0.1)


def sample(index: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1000 + index)
    x = torch.randn(ROWS, COLUMNS, CHANNELS, dtype=torch.float64, generator=g)
    return x, x.roll((1, 2), (0, 1)).sin()


def batch_loss(net: FieldNet, mesh: StartedMesh, indices: list[int]) -> Tensor:
    """Return this rank's addend to the mean over the whole batch of the weighted square error."""
    mine = [indices[i] for i in members(len(indices), mesh.comm("replica", "shard"))]
    x, y = (torch.stack(t)[:, *net.box] for t in zip(*map(sample, mine), strict=True))
    area = torch.linspace(0.5, 1.5, ROWS, dtype=torch.float64)[net.box[0], None, None]
    return (area * (net(x.to(net.position.dtype)) - y) ** 2).sum() / (
        len(indices) * ROWS * COLUMNS
    )


def step(
    net: FieldNet, optimizer: torch.optim.Optimizer, mesh: StartedMesh, cursor: SampleCursor
) -> tuple[Tensor, Tensor, SampleCursor]:
    """Take one optimiser step; return the loss, the norm of the gradient, and the next cursor."""
    indices, cursor = cursor.take(BATCH)
    optimizer.zero_grad()
    loss = batch_loss(net, mesh, indices)
    loss.backward()
    reduce_gradients(net, mesh)
    norm = clip_gradients(net.parameters(), 0.5, norm=whole_gradient_norm(net, mesh))
    optimizer.step()
    losses = mesh.comm("replica", "shard", "lat", "lon")
    return losses.all_reduce(loss.detach()), norm, cursor
