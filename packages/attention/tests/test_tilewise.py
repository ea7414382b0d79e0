from dataclasses import dataclass

import pytest
import torch

from stormda.attention import tilewise

EXACT = {"rtol": 1e-12, "atol": 1e-12}
SHAPE = (7, 10)


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@dataclass(frozen=True)
class Layout:
    """Windows of rows that end at the border and of columns that close to a ring."""

    starts: tuple[tuple[int, int], ...] = ((0, -2), (0, 3), (3, -2), (3, 3), (5, 0))
    sizes: tuple[tuple[int, int], ...] = ((5, 7), (5, 7), (4, 7), (4, 7), (2, 10))

    def windows(self):
        return list(self.starts)

    def cells(self, i):
        (y, x), (rows, columns) = self.starts[i], self.sizes[i]
        return torch.arange(y, y + rows)[:, None], (torch.arange(x, x + columns) % SHAPE[1])

    def raw(self, i):
        rows, columns = (torch.hann_window(n + 2, periodic=False)[1:-1] for n in self.sizes[i])
        return (rows[:, None] * columns).double() * (0 if i == 4 else 1)  # the last adds nothing

    def total(self):
        total = torch.zeros(SHAPE, dtype=torch.float64)
        for i in range(5):
            total[self.cells(i)] += self.raw(i)
        return total

    def take(self, x, i):
        return x[(..., *self.cells(i))]

    def weight(self, i):
        return self.raw(i) / self.take(self.total(), i)

    def add(self, out, i, y):
        out[(..., *self.cells(i))] += self.weight(i) * y


class Network(torch.nn.Module):
    """Two convolutions with the mean of the window between them, and a scale from outside."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(2, 4, 3, padding=1)
        self.second = torch.nn.Conv2d(4, 3, 3, padding=1)
        self.double()
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, std=0.5, generator=generator)

    def forward(self, x, scale):
        hidden = torch.tanh(self.first(x))
        return self.second(hidden + hidden.mean((-2, -1), keepdim=True)) * scale


def merged(network, layout, x, scale):
    """The same, through one graph of all tiles."""
    answers = (
        network(layout.take(x, i), scale) * layout.weight(i) for i in range(len(layout.windows()))
    )
    return sum(place(layout, i, y) for i, y in enumerate(answers))


def place(layout, i, y):
    rows, columns = layout.cells(i)
    spread = torch.zeros(y.shape[-2], SHAPE[0]).double()
    spread[torch.arange(y.shape[-2]), rows.squeeze(1)] = 1
    along = torch.zeros(y.shape[-1], SHAPE[1]).double()
    along[torch.arange(y.shape[-1]), columns] = 1
    return spread.T @ y @ along


def inputs():
    return tokens(2, 2, *SHAPE).requires_grad_(), tokens(3, 1, 1, seed=1).requires_grad_()


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_equals_the_graph_of_all_tiles_in_values_and_all_gradients(batch):
    network, layout, (x, scale) = Network(), Layout(), inputs()
    wanted, ybar = (x, scale, *network.parameters()), tokens(2, 3, *SHAPE, seed=2)
    expected = merged(network, layout, x, scale)
    y = tilewise(network, layout, batch=batch)(x, scale)
    torch.testing.assert_close(y, expected, **EXACT)
    torch.testing.assert_close(
        torch.autograd.grad(y, wanted, ybar),
        torch.autograd.grad(expected, wanted, ybar),
        **EXACT,
    )


class Whole:
    """One tile that is the field."""

    def windows(self):
        return [None]

    def take(self, x, i):
        return x

    def weight(self, i):
        return torch.ones(SHAPE, dtype=torch.float64)

    def add(self, out, i, y):
        out += y


def test_one_tile_is_the_plain_network():
    network, (x, scale) = Network(), inputs()
    wanted, ybar = (x, scale, *network.parameters()), tokens(2, 3, *SHAPE, seed=2)
    y, expected = tilewise(network, Whole())(x, scale), network(x, scale)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(y, wanted, ybar),
        torch.autograd.grad(expected, wanted, ybar),
        **EXACT,
    )


def test_the_layout_of_the_grid_package_is_a_tiling():
    grid = pytest.importorskip("stormda.grid")
    layout = grid.TileLayout(SHAPE, tiles=(2, 3), halo=(1, 2), periodic=True)
    network, (x, scale) = Network(), inputs()
    wanted, ybar = (x, scale, *network.parameters()), tokens(2, 3, *SHAPE, seed=2)
    expected = layout.merge([network(window, scale) for window in layout.split(x)])
    y = tilewise(network, layout, batch=2)(x, scale)
    torch.testing.assert_close(y, expected, **EXACT)
    torch.testing.assert_close(
        torch.autograd.grad(y, wanted, ybar),
        torch.autograd.grad(expected, wanted, ybar),
        **EXACT,
    )


def test_gradcheck():
    network, (x, scale) = Network(), inputs()
    run = tilewise(network, Layout(), batch=2)
    assert torch.autograd.gradcheck(run, (x, scale), fast_mode=True)


def test_the_pull_of_a_function_transform():
    network, (x, scale) = Network().requires_grad_(False), inputs()
    ybar = tokens(2, 3, *SHAPE, seed=2)
    y, pull = torch.func.vjp(lambda x: tilewise(network, Layout())(x, scale.detach()), x.detach())
    torch.testing.assert_close(y, merged(network, Layout(), x, scale), **EXACT)
    expected = torch.autograd.grad(merged(network, Layout(), x, scale), x, ybar)
    torch.testing.assert_close(pull(ybar), expected, **EXACT)


def test_shares_of_the_tiles_add_to_the_whole():
    network, layout, (x, scale) = Network(), Layout(), inputs()
    wanted, ybar = (x, scale, *network.parameters()), tokens(2, 3, *SHAPE, seed=2)
    y = tilewise(network, layout)(x, scale)
    shares = [tilewise(network, layout, tiles=tiles)(x, scale) for tiles in ((0, 3), (1, 2, 4))]
    torch.testing.assert_close(sum(shares), y, **EXACT)
    parts = [torch.autograd.grad(share, wanted, ybar) for share in shares]
    whole = torch.autograd.grad(y, wanted, ybar)
    summed = tuple(a + b for a, b in zip(*parts, strict=True))
    torch.testing.assert_close(summed, whole, **EXACT)


def test_ranks_exchange_halos_of_fields_and_edges_of_answers():
    """Each rank holds some rows; a halo comes in and what lies outside its rows goes out."""
    grid = pytest.importorskip("stormda.grid")
    layout = grid.TileLayout(SHAPE, tiles=(2, 3), halo=(1, 2), periodic=True)
    network, (x, scale) = Network(), inputs()
    wanted, ybar = (x, scale, *network.parameters()), tokens(2, 3, *SHAPE, seed=2)
    whole = tilewise(network, layout)(x, scale)
    held = [x[..., :3, :], x[..., 3:, :]]  # the rows of each rank
    answers = torch.zeros_like(whole)
    for first, last, tiles in ((0, 4, range(3)), (2, 7, range(3, 6))):
        extended = torch.cat(held, -2)[..., first:last, :]  # rows that came in included
        mine = _Shifted(layout, first)
        y = tilewise(network, mine, tiles=tiles)(extended, scale)
        answers = answers + torch.nn.functional.pad(y, (0, 0, first, 7 - last))  # edges go out
    torch.testing.assert_close(answers, whole, **EXACT)
    torch.testing.assert_close(
        torch.autograd.grad(answers, wanted, ybar),
        torch.autograd.grad(whole, wanted, ybar),
        **EXACT,
    )


class _Shifted:
    """A layout seen from the rows that a rank holds, with their halo."""

    def __init__(self, layout, first):
        self.layout, self.first = layout, first

    def windows(self):
        return self.layout.windows()

    def weight(self, i):
        return self.layout.weight(i)

    def cells(self, i):
        rows, columns = self.layout.window(i).extended
        local = torch.arange(rows.start - self.first, rows.stop - self.first)[:, None]
        return local, torch.arange(columns.start, columns.stop) % SHAPE[1]

    def take(self, x, i):
        return x[(..., *self.cells(i))]

    def add(self, out, i, y):
        out[(..., *self.cells(i))] += torch.as_tensor(self.weight(i)) * y


def test_what_is_frozen_gets_no_gradient():
    network, (x, scale) = Network(), inputs()
    network.first.requires_grad_(False)
    tilewise(network, Layout())(x.detach(), scale).sum().backward()
    assert network.first.weight.grad is None
    assert network.second.weight.grad.abs().max() > 0
    assert scale.grad.abs().max() > 0


def test_autograd_keeps_the_field_and_the_weights_alone():
    network, (x, scale) = Network(), inputs()
    kept = []

    def pack(t):
        kept.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        tilewise(network, Layout())(x, scale)
    assert sum(kept) == sum(z.numel() for z in (x, scale, *network.parameters()))


def test_errors():
    network, (x, scale) = Network(), inputs()
    with pytest.raises(ValueError, match=r"^batch: expected at least 1, got 0$"):
        tilewise(network, Layout(), batch=0)
    with pytest.raises(ValueError, match=r"^tiles: expected at least 1, got 0$"):
        tilewise(network, Layout(), tiles=[])(x, scale)
    with pytest.raises(
        ValueError, match=r"^x: expected \(b, \.\.\., rows, columns\), got \(7, 10\)$"
    ):
        tilewise(network, Layout(), batch=2)(x[0, 0])
