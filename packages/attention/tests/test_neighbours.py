import math

import pytest
import torch

from stormda.attention import (
    BlockConfig,
    Neighbourhood,
    StormBlock,
    StreamedBlock,
    compass_shares,
    depthwise_local,
    neighbour_local,
)
from stormda.attention.neighbours import COMPASS


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def irregular(n=9, k=5, seed=3):
    """A table with gaps, and bearings of all directions, also past a whole turn."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randint(-1, n, (n, k), generator=generator)
    bearing = 4 * math.pi * torch.rand(n, k, generator=generator, dtype=torch.float64)
    return table, bearing - 2 * math.pi


def loop(x, kernel, table, bearing):
    """The same, one direction of one token after the other."""
    y = torch.zeros_like(x)
    for i in range(x.shape[1]):
        y[:, i] = kernel[:, 0, 1, 1] * x[:, i]
        for m in range(8):
            total, mean = 0.0, torch.zeros_like(x[:, i])
            for j, b in zip(table[i].tolist(), bearing[i].tolist(), strict=True):
                gap = abs(math.degrees(b) % 360 - 45 * m)
                share = max(0.0, 1 - min(gap, 360 - gap) / 45)
                if j >= 0:
                    total, mean = total + share, mean + share * x[:, j]
            if total > 0:
                y[:, i] += kernel[:, 0, COMPASS[m] // 3, COMPASS[m] % 3] * mean / total
    return y


def lattice(rows, cols):
    """Rows and columns, columns closed to a ring, as a table."""
    table, bearing = [], []
    for y in range(rows):
        for x in range(cols):
            around = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
            table.append(
                [(y + a) * cols + (x + b) % cols if 0 <= y + a < rows else -1 for a, b in around]
            )
            bearing.append([math.atan2(b, -a) for a, b in around])
    return torch.tensor(table), torch.tensor(bearing, dtype=torch.float64)


def test_equals_a_loop_over_directions():
    table, bearing = irregular()
    x, kernel = tokens(2, 9, 3), tokens(3, 1, 3, 3, seed=1)
    got = neighbour_local(x, kernel, table, compass_shares(table, bearing))
    torch.testing.assert_close(got, loop(x, kernel, table, bearing), rtol=1e-12, atol=1e-12)


def test_on_rows_and_columns_it_is_the_convolution():
    table, bearing = lattice(4, 5)
    x, kernel = tokens(2, 20, 3), tokens(3, 1, 3, 3, seed=1)
    got = neighbour_local(x, kernel, table, compass_shares(table, bearing))
    expected = depthwise_local(x, kernel, shape=(4, 5), periodic=(False, True))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_padding_contributes_nothing():
    table, bearing = irregular()
    x, kernel = tokens(2, 9, 3), tokens(3, 1, 3, 3, seed=1)
    wider = torch.cat([table, torch.full((9, 2), -1)], 1)
    further = torch.cat([bearing, tokens(9, 2)], 1)
    got = neighbour_local(x, kernel, wider, compass_shares(wider, further))
    expected = neighbour_local(x, kernel, table, compass_shares(table, bearing))
    torch.testing.assert_close(got, expected)
    alone = torch.full((9, 1), -1)
    got = neighbour_local(x, kernel, alone, compass_shares(alone, torch.zeros(9, 1)))
    torch.testing.assert_close(got, kernel[:, 0, 1, 1] * x)


def test_the_order_of_the_neighbours_does_not_matter():
    table, bearing = irregular()
    x, kernel, order = tokens(1, 9, 2), tokens(2, 1, 3, 3, seed=1), torch.tensor([3, 0, 4, 2, 1])
    got = neighbour_local(
        x, kernel, table[:, order], compass_shares(table[:, order], bearing[:, order])
    )
    torch.testing.assert_close(
        got, neighbour_local(x, kernel, table, compass_shares(table, bearing))
    )


def test_gradients():
    table, bearing = irregular(n=5, k=3)
    shares = compass_shares(table, bearing)
    x, kernel = tokens(2, 5, 2).requires_grad_(), tokens(2, 1, 3, 3, seed=1).requires_grad_()

    def mix(x, kernel):
        return neighbour_local(x, kernel, table, shares)

    assert torch.autograd.gradcheck(mix, (x, kernel))
    assert torch.autograd.gradgradcheck(mix, (x, kernel))


@pytest.mark.parametrize("mixer", ["linear", "latent", "full", "none"])
def test_a_block_of_neighbours_has_the_weights_of_a_block_of_rows(mixer):
    """And on the table of rows and columns it gives the same tokens."""
    torch.manual_seed(0)
    config = BlockConfig(width=8, heads=2, mixer=mixer, temporal=False)
    block = StormBlock(config).double()
    with torch.no_grad():
        for parameter in block.parameters():
            if not parameter.any():
                parameter.normal_()
    listed = StormBlock(config, around=Neighbourhood(*lattice(4, 5))).double()
    listed.load_state_dict(block.state_dict())
    x, condition, modulation = tokens(2, 20, 8), tokens(2, 8, seed=1), tokens(2, 48, seed=2)
    got = listed(x, condition, modulation, shape=(20, 1))
    expected = block(x, condition, modulation, shape=(4, 5))
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)  # shares are kept in float32


def test_half_types_stay_half():
    table, bearing = irregular()
    x, kernel = tokens(2, 9, 3), tokens(3, 1, 3, 3, seed=1)
    shares = compass_shares(table, bearing)
    got = neighbour_local(x.bfloat16(), kernel.float(), table, shares)
    assert got.dtype == torch.bfloat16
    expected = neighbour_local(x, kernel, table, shares)
    torch.testing.assert_close(got.double(), expected, rtol=0.05, atol=0.05)  # 8 bits


def test_errors():
    table, bearing = irregular()
    message = r"^bearing: expected \(n, k\) like the neighbours \(9, 5\), got \(9,\)$"
    with pytest.raises(ValueError, match=message):
        compass_shares(table, bearing[:, 0])
    message = r"^x: expected the 9 tokens of the table of neighbours, got 8$"
    with pytest.raises(ValueError, match=message):
        Neighbourhood(table, bearing)(torch.zeros(1, 8, 2), torch.zeros(2, 1, 3, 3))
    around = Neighbourhood(table, bearing)
    message = (
        r"^mixer: expected one without tiles as the tokens have no rows .*, got tile\+linear$"
    )
    with pytest.raises(ValueError, match=message):
        StormBlock(BlockConfig(width=8, heads=2, mixer="tile+linear"), around=around)
    message = r"^block: expected one of rows and columns, got one of neighbours$"
    with pytest.raises(ValueError, match=message):
        StreamedBlock(StormBlock(BlockConfig(width=8, heads=2), around=around), rows=3)
