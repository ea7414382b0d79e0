"""A whole stack of blocks tile by tile, merged without a seam: the network of the paper.

    y = sum_i P_i^T (w_i * blocks(P_i x)),    P_i takes tile i and a halo, w_i its Hann weights

Nothing is said between tiles until their answers are merged, so that a tile sees as far as its
halo and no further; memory is that of one tile, or of those that run together. Without blending
w_i is 1 in the tile and 0 in its halo. On a mesh every rank has one tile: its halo comes
from the ranks around it, and the overlapping edges of the answers go back.

Source: TILES of ORBIT-2, Wang et al. (2025), https://arxiv.org/abs/2505.04802, merged and
differentiated as in STORM, https://arxiv.org/abs/2604.16590, "scalable gradient propagation".
"""

from __future__ import annotations

from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from stormda.attention import HistoryKeys, tilewise
from stormda.grid import Border, TileLayout
from stormda.parallel import halo, halo_plan, overlap_add
from stormda.storm.config import StormConfig
from stormda.storm.field_share import FieldShare


class NetworkTiles:
    """How a field of tokens is cut into tiles, on one process or one tile a rank.

    Args:
        config: With `network_tiles` and `network_halo`.
        share: This process's part of the fields.
        poles: Whether halos go on over the poles.

    Raises:
        ValueError: If the grid is a list of cells, there are more tiles than tokens, or other
            numbers of tiles than ranks.

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
        if share.domain.ranks != config.network_tiles:
            raise ValueError(
                f"mesh: expected lat x lon ranks like the tiles {config.network_tiles}, "
                f"got {share.domain.ranks}"
            )
        self._plan = halo_plan(share.domain, share.comm.rank, config.network_halo)

    def __call__(
        self,
        blocks: nn.ModuleList,
        tokens: Tensor,
        condition: Tensor,
        modulation: Tensor,
        *,
        history: HistoryKeys,
        weight: Tensor,
    ) -> Tensor:
        """Return the tokens (b, n, D) after all blocks; the arguments are those of a block."""
        field = self._packed(tokens, history, weight)
        run = partial(self._on_window, blocks, tuple(history.keys.shape))
        if self.share.alone:
            tiled = tilewise(run, self.layout, batch=self.together, parameters=blocks.parameters())
            merged = tiled(field, condition, modulation)
        else:
            merged = self._on_own_tile(run, field, condition, modulation)
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

    def _on_own_tile(
        self, run: partial[Tensor], field: Tensor, condition: Tensor, modulation: Tensor
    ) -> Tensor:
        """Return this rank's cells of the merged field."""
        plan, comm = self._plan, self.share.comm
        inside = self._inside()
        window = halo(field, plan, comm)[..., inside[0], inside[1]]
        weight = torch.as_tensor(self.layout.weight(comm.rank)).to(field)
        answer = run(window, condition, modulation) * weight
        whole = answer.new_zeros(*answer.shape[:-2], *plan.window)
        whole[..., inside[0], inside[1]] = answer
        return overlap_add(whole, plan, comm)

    def _inside(self) -> tuple[slice, slice]:
        """Return the rows and columns of the window that are in the field."""
        north, south, west, east = self._plan.open
        (above, beside), (rows, columns) = self._plan.width, self._plan.window
        return (
            slice(above if north else 0, rows - (above if south else 0)),
            slice(beside if west else 0, columns - (beside if east else 0)),
        )
