"""Two processes, of which each holds some rows, mix as one that holds all of them."""

import threading
from dataclasses import replace

import pytest
import torch

from stormda.attention import (
    MIXERS,
    BlockConfig,
    HistoryProjection,
    SharedModulation,
    StormBlock,
    noise_embedding,
)

ROWS, COLUMNS, WIDTH = 5, 6, 16
HALVES = (slice(0, 3), slice(3, 5))  # rows
CONFIG = BlockConfig(width=WIDTH, heads=2, tile=(2, 3), halo=(1, 1), latents=5)


class Meeting:
    """Where two threads show each other what they have."""

    def __init__(self):
        self.barrier, self.shown = threading.Barrier(2), [None, None]

    def show(self, rank, x):
        self.shown[rank] = x
        self.barrier.wait(timeout=300)
        both = list(self.shown)
        self.barrier.wait(timeout=300)
        return both


class Half:
    """A `Spread` over two threads, on a globe with poles or without, that shows everything."""

    shape = (ROWS, COLUMNS)

    def __init__(self, meeting, rank, poles):
        self.meeting, self.rank, self.poles = meeting, rank, poles

    def sum(self, packed):
        return torch.stack(self.meeting.show(self.rank, packed)).sum(0)

    def around(self, field):
        whole = torch.cat(self.meeting.show(self.rank, field), 1)
        ends = [whole[:, i : i + 1].roll(COLUMNS // 2, 2) for i in (0, ROWS - 1)]
        first, last = ends if self.poles else (torch.zeros_like(x) for x in ends)
        framed = torch.cat([first, whole, last], 1)
        framed = torch.cat([framed[:, :, -1:], framed, framed[:, :, :1]], 2)
        rows = HALVES[self.rank]
        return framed[:, rows.start : rows.stop + 2]

    def together(self, attention, q, k, v, *, weight=None):
        q, k, v = (torch.cat(self.meeting.show(self.rank, x), -2) for x in (q, k, v))
        if weight is not None:
            weight = torch.cat(self.meeting.show(self.rank, weight), -1)
        return attention(q, k, v, weight=weight)[..., tokens(HALVES[self.rank]), :]


def tokens(rows):
    return slice(rows.start * COLUMNS, rows.stop * COLUMNS)


def trained(config):
    generator = torch.Generator().manual_seed(0)
    block = StormBlock(config).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return block


@pytest.mark.parametrize("poles", [True, False])
@pytest.mark.parametrize("mixer", MIXERS)
def test_two_halves_are_the_whole(mixer, poles):
    config = replace(CONFIG, mixer=mixer, poles=poles)
    g = torch.Generator().manual_seed(1)
    n = ROWS * COLUMNS
    x = torch.randn(2, n, WIDTH, generator=g, dtype=torch.float64)
    weight = torch.rand(n, generator=g, dtype=torch.float64)
    condition = noise_embedding(torch.tensor([-1.0, 2.0], dtype=torch.float64), WIDTH)
    modulation = SharedModulation(WIDTH).double()(condition).detach()
    frames = torch.randn(2, 3, n, WIDTH, generator=g, dtype=torch.float64)
    past = HistoryProjection(WIDTH, 2).double()(frames)
    with torch.no_grad():
        expected = trained(config)(
            x, condition, modulation, shape=(ROWS, COLUMNS), history=past, weight=weight
        )
    meeting, found = Meeting(), [None, None]

    def run(rank):
        block, own = trained(config), tokens(HALVES[rank])
        block.spread(Half(meeting, rank, poles))
        history = replace(past, keys=past.keys[..., own, :], values=past.values[..., own, :])
        rows = HALVES[rank].stop - HALVES[rank].start
        with torch.no_grad():
            found[rank] = block(
                x[:, own],
                condition,
                modulation,
                shape=(rows, COLUMNS),
                history=history,
                weight=weight[own],
            )

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=1e-12, atol=1e-12)
