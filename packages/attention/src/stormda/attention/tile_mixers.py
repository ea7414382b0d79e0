"""Mixers with exact attention in tiles: alone, and beside linear attention of all tokens."""

from functools import partial

from torch import Tensor, nn

from stormda.attention.features import relu
from stormda.attention.gated import Attend, Band, GatedHeads
from stormda.attention.mixers import attend_linearly
from stormda.attention.state import LinearState
from stormda.attention.tile import tile_attention


class TileAttention(nn.Module):
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
        super().__init__()
        self.gated = GatedHeads(width, heads, periodic=periodic, poles=poles)
        self.tile, self.halo, self.periodic = tile, halo, periodic
        self.band: Band | None = _band(tile, halo)

    def forward(
        self,
        x: Tensor,
        *,
        shape: tuple[int, int],
        weight: Tensor | None = None,
        state: LinearState | None = None,
    ) -> Tensor:
        """Return the tokens `(b, n, D)` mixed."""
        mixed: Tensor = self.gated(x, _in_tiles(self, shape, weight), shape=shape)
        return mixed

    def summarize(self, x: Tensor, *, weight: Tensor | None = None) -> LinearState | None:
        """Return None: a token sees its tile alone."""
        return None


class TileLinearAttention(nn.Module):
    """Linear attention of all tokens, beside softmax attention in tiles and the local branch.

    All three read the same values, and both attentions the same queries and keys:
    y = W_o (gate * linear(q, k, v) + tile(q, k, v) + local(v)).

    Examples:
        >>> import torch
        >>> mix = TileLinearAttention(64, 2, tile=(2, 2), halo=(1, 1))
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
        super().__init__()
        self.gated = GatedHeads(width, heads, periodic=periodic, poles=poles)
        self.tile, self.halo, self.periodic = tile, halo, periodic
        self.band: Band | None = _band(tile, halo)

    def forward(
        self,
        x: Tensor,
        *,
        shape: tuple[int, int],
        weight: Tensor | None = None,
        state: LinearState | None = None,
    ) -> Tensor:
        """Return the tokens `(b, n, D)` mixed."""
        far = partial(attend_linearly, weight=weight, state=state)
        beside = _in_tiles(self, shape, weight)
        mixed: Tensor = self.gated(x, far, shape=shape, beside=beside)
        return mixed

    def summarize(self, x: Tensor, *, weight: Tensor | None = None) -> LinearState | None:
        """Return what the tokens `(b, n, D)` say to all others."""
        k, v = self.gated.keys(x)
        return LinearState.from_tokens(relu(k), v, weight=weight)


def _in_tiles(
    mixer: TileAttention | TileLinearAttention, shape: tuple[int, int], weight: Tensor | None
) -> Attend:
    """Return the attention of the mixer's tiles."""
    return partial(
        tile_attention,
        shape=shape,
        tile=mixer.tile,
        halo=mixer.halo,
        periodic=mixer.periodic,
        weight=weight,
    )


def _band(tile: tuple[int, int], halo: tuple[int, int]) -> Band:
    """Return bands that end where tiles do, with whole tiles on either side."""
    return Band(step=tile[0], halo=-(-max(halo[0], 1) // tile[0]) * tile[0])
