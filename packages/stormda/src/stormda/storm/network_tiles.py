"""A whole stack of blocks tile by tile, merged without a seam: the network of the paper.

    y = sum_i P_i^T (w_i * blocks(P_i x)),    P_i takes tile i and a halo, w_i its Hann weights

Nothing is said between tiles until their answers are merged, so that a tile sees as far as its
halo and no further; memory is that of one tile, or of those that run together. Without blending
w_i is 1 in the tile and 0 in its halo. On a mesh every rank has as many tiles as any other: the
halo of its rectangle comes from the ranks around it, and the overlapping edges of the answers go
back.

Source: TILES of ORBIT-2, Wang et al. (2025), https://arxiv.org/abs/2505.04802, merged and
differentiated as in STORM, https://arxiv.org/abs/2604.16590, "scalable gradient propagation".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn

from stormda.attention import HistoryKeys, tilewise
from stormda.grid import Border, TileLayout, Window
from stormda.parallel import Domain, halo, halo_plan, overlap_add
from stormda.storm.config import StormConfig
from stormda.storm.field_share import FieldShare
from stormda.storm.past_frames import Past


class NetworkTiles:
    """How a field of tokens is cut into tiles, on one process or on ranks that share the tiles.

    Args:
        config: With `network_tiles` and `network_halo`.
        share: This process's part of the fields.
        poles: Whether halos go on over the poles.

    Raises:
        ValueError: If the grid is a list of cells, there are more tiles than tokens, or tiles that
            the ranks do not share alike.

    Examples:
        >>> from stormda.grid import Patching, grid
        >>> config = StormConfig(variables=("z",), network_tiles=(2, 2), network_halo=(1, 1))
        >>> tiles = NetworkTiles(config, FieldShare(Patching(grid("5deg"), (4, 4))), poles=True)
        >>> [window.extended for window in tiles.layout.windows()][0]
        (Span(start=-1, stop=5), Span(start=-1, stop=10))
    """

    def __init__(self, config: StormConfig, share: FieldShare, *, poles: bool) -> None:
        if len(share.whole.token_shape) != 2:
            raise ValueError(
                "network_tiles: expected (1, 1) as the tokens have no rows and columns, "
                f"got {config.network_tiles}"
            )
        self.share, self.width, self.together = share, config.width, config.network_batch
        ends = Border.POLE_EDGE if poles else Border.WALL
        self.layout = TileLayout(
            share.shape,
            config.network_tiles,
            config.network_halo,
            share.whole.grid.periodic,
            (ends, ends),
            blend=config.network_blend,
        )
        if share.alone:
            return
        if any(n % r for n, r in zip(config.network_tiles, share.domain.ranks, strict=True)):
            raise ValueError(
                f"mesh: expected lat x lon ranks that divide the tiles {config.network_tiles}, "
                f"got {share.domain.ranks}"
            )
        self._plan = halo_plan(share.domain, share.comm.rank, config.network_halo)
        self._own = OwnTiles(self.layout, share.domain, share.comm.rank)

    def __len__(self) -> int:
        """Return how many tiles this process has."""
        return len(self.layout) if self.share.alone else len(self._own)

    def __call__(
        self,
        blocks: nn.ModuleList,
        tokens: Tensor,
        condition: Tensor,
        modulation: Tensor,
        *,
        history: Past,
        weight: Tensor,
    ) -> Tensor:
        """Return the tokens (b, n, D) after all blocks; the arguments are those of a block."""
        assert isinstance(history, HistoryKeys)  # the configuration sees to it
        field = self._packed(tokens, history, weight)
        run = partial(self._on_window, blocks, tuple(history.keys.shape))
        if self.share.alone:
            tiled = tilewise(run, self.layout, batch=self.together, parameters=blocks.parameters())
            merged = tiled(field, condition, modulation)
        else:
            merged = self._on_own_tiles(run, blocks, field, condition, modulation)
        passed: Tensor = rearrange(merged, "b d y x -> b (y x) d")
        return passed

    def _packed(self, tokens: Tensor, history: HistoryKeys, weight: Tensor) -> Tensor:
        """Return all that a window needs as channels of one field (b, channels, rows, columns)."""
        rows, _ = self.share.patching.token_shape
        past = [
            rearrange(x, "b h k (y x) d -> b (h k d) y x", y=rows)
            for x in (history.keys, history.values)
        ]
        field = rearrange(tokens, "b (y x) d -> b d y x", y=rows)
        counts = rearrange(weight, "(y x) -> 1 1 y x", y=rows).expand(len(tokens), -1, -1, -1)
        return torch.cat([field, counts.to(field), *(x.to(field) for x in past)], 1)

    def _on_window(
        self,
        blocks: nn.ModuleList,
        past: tuple[int, ...],
        window: Tensor,
        condition: Tensor,
        modulation: Tensor,
    ) -> Tensor:
        """Return what the blocks make of windows, (b, D, window rows, window columns).

        Windows of several tiles are stacked along b, the levels of the samples are not.
        """
        stacked = len(window) // len(condition)
        condition, modulation = condition.repeat(stacked, 1), modulation.repeat(stacked, 1)
        channels = past[1] * past[2] * past[4]
        field, weight, *keys_and_values = window.split_with_sizes(
            [self.width, 1, channels, channels], 1
        )
        keys, values = (
            rearrange(x, "b (h k d) y x -> b h k (y x) d", h=past[1], k=past[2])
            for x in keys_and_values
        )
        shape = (window.shape[-2], window.shape[-1])
        tokens = rearrange(field, "b d y x -> b (y x) d")
        for block in blocks:
            tokens = block(
                tokens,
                condition,
                modulation,
                shape=shape,
                history=HistoryKeys(keys, values),
                weight=rearrange(weight, "b 1 y x -> b (y x)"),
            )
        answer: Tensor = rearrange(tokens, "b (y x) d -> b d y x", y=shape[0])
        return answer

    def _on_own_tiles(
        self,
        run: partial[Tensor],
        blocks: nn.ModuleList,
        field: Tensor,
        condition: Tensor,
        modulation: Tensor,
    ) -> Tensor:
        """Return this rank's cells of the merged field; of several tiles one is in memory."""
        plan, comm, own = self._plan, self.share.comm, self._own
        field = halo(field, plan, comm)
        if len(own) > 1:
            tiled = tilewise(run, own, batch=self.together, parameters=blocks.parameters())
            return overlap_add(tiled(field, condition, modulation), plan, comm)
        answer = run(own.take(field, 0), condition, modulation)
        whole = answer.new_zeros(*answer.shape[:-2], *plan.window)
        own.add(whole, 0, answer)
        return overlap_add(whole, plan, comm)


class OwnTiles:
    """The tiles of a rank, as windows of its rectangle of the field with a halo around.

    The halo goes round the seam and over the poles, so that no window needs to: it satisfies
    `stormda.attention.Tiling`.

    Args:
        layout: The tiles of the whole field.
        domain: The rectangles of the ranks, each of whole tiles.
        rank: Whose tiles they are.

    Examples:
        >>> from stormda.parallel import Domain
        >>> layout = TileLayout((4, 8), (2, 4), (1, 1), periodic=True)
        >>> own = OwnTiles(layout, Domain.region((4, 8), ranks=(1, 2)), 1)
        >>> own.numbers, own.take(torch.zeros(6, 6), 0).shape
        ([2, 3, 6, 7], torch.Size([3, 4]))
    """

    def __init__(self, layout: TileLayout, domain: Domain, rank: int) -> None:
        box = domain.box(rank)
        self.layout = layout
        self.origin = [s.start - h for s, h in zip(box, layout.halo, strict=True)]
        self.numbers = [
            i
            for i, window in enumerate(layout.windows())
            if all(
                s.start <= core.start < s.stop for core, s in zip(window.core, box, strict=True)
            )
        ]

    def __len__(self) -> int:
        """Return how many tiles the rank has."""
        return len(self.numbers)

    def windows(self) -> Sequence[Window]:
        """Return where the rank's tiles lie in the whole field."""
        return [self.layout.window(i) for i in self.numbers]

    def weight(self, i: int) -> NDArray[np.float64]:
        """Return the weights of the window of the rank's tile `i`, (window rows, columns)."""
        return self.layout.weight(self.numbers[i])

    def take(self, x: Tensor, i: int) -> Tensor:
        """Return the window of the rank's tile `i` of its rectangle with a halo."""
        rows, columns = self._place(i)
        return x[..., rows, columns]

    def add(self, out: Tensor, i: int, y: Tensor) -> None:
        """Add the window `y` of the rank's tile `i`, weighted, to `out` in place."""
        rows, columns = self._place(i)
        out[..., rows, columns] += y * torch.as_tensor(self.weight(i)).to(y)

    def _place(self, i: int) -> tuple[slice, slice]:
        window = self.layout.window(self.numbers[i])
        rows, columns = (
            slice(start - origin, stop - origin)
            for (start, stop), origin in zip(window.extended, self.origin, strict=True)
        )
        return rows, columns
