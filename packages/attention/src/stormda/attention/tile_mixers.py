"""Mixers with exact attention in tiles: alone, and beside linear attention of all tokens."""

from functools import partial

from torch import Tensor

from stormda.attention.features import relu
from stormda.attention.gated import Attend, Band
from stormda.attention.mixers import GatedMixer
from stormda.attention.state import LinearState
from stormda.attention.tile import tile_attention


class TileAttention(GatedMixer):
    """Softmax attention inside tiles and their halo, beside the local branch.

    Examples:
        >>> import torch
        >>> mix = TileAttention(64, 2, tile=(2, 2), halo=(1, 1))
        >>> mix(torch.rand(1, 12, 64), shape=(3, 4)).shape
        torch.Size([1, 12, 64])
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        tile: tuple[int, int],
        halo: tuple[int, int],
        periodic: tuple[bool, bool] = (False, True),
        poles: bool = False,
    ) -> None:
        super().__init__(width, heads, periodic=periodic, poles=poles)
        self.tile, self.halo, self.periodic = tile, halo, periodic
        self.band = _band(tile, halo)

    def attend(
        self, shape: tuple[int, int], weight: Tensor | None, state: LinearState | None
    ) -> Attend:
        """Return softmax attention in tiles."""
        return self.in_tiles(shape, weight)

    def in_tiles(self, shape: tuple[int, int], weight: Tensor | None) -> Attend:
        """Return the attention of the tiles."""
        attention = partial(
            tile_attention,
            shape=shape if self.spread is None else self.spread.shape,
            tile=self.tile,
            halo=self.halo,
            periodic=self.periodic,
        )
        return self.exactly(attention, weight)


class TileLinearAttention(TileAttention):
    """Linear attention of all tokens, beside softmax attention in tiles and the local branch.

    All three read the same values, and both attentions the same queries and keys:
    y = W_o (gate * linear(q, k, v) + tile(q, k, v) + local(v)).

    Examples:
        >>> import torch
        >>> mix = TileLinearAttention(64, 2, tile=(2, 2), halo=(1, 1))
        >>> mix(torch.rand(1, 12, 64), shape=(3, 4)).shape
        torch.Size([1, 12, 64])
    """

    def attend(
        self, shape: tuple[int, int], weight: Tensor | None, state: LinearState | None
    ) -> Attend:
        """Return linear attention to the tokens, or to those of a state."""
        return self.linearly(weight, state)

    def beside(self, shape: tuple[int, int], weight: Tensor | None) -> Attend | None:
        """Return the attention of the tiles."""
        return self.in_tiles(shape, weight)

    def summarize(self, x: Tensor, *, weight: Tensor | None = None) -> LinearState | None:
        """Return what the tokens `(b, n, D)` say to all others."""
        k, v = self.gated.keys(x)
        return LinearState.from_tokens(relu(k), v, weight=weight)


def _band(tile: tuple[int, int], halo: tuple[int, int]) -> Band:
    """Return bands that end where tiles do, with whole tiles on either side."""
    return Band(step=tile[0], halo=-(-max(halo[0], 1) // tile[0]) * tile[0])
