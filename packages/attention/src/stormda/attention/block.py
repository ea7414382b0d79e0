"""The block of the network: three residual branches under the noise level.

    x += g_s(noise) * mix(adaLN(x))            the field, near and far
    x += g_t(noise) * cross(adaLN(x), history)  the past of each location
    x += mlp(adaLN(x))

adaLN is a layer norm whose shift and scale depend on the noise level; g_s and g_t are the gates
that weigh space against time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from stormda.attention.gated import zero_linear
from stormda.attention.history import History, TemporalCrossAttention
from stormda.attention.local import DepthwiseLocal, check_poles
from stormda.attention.mixers import (
    FullAttention,
    GatedMixer,
    GlobalLinearAttention,
    LatentAttention,
    LocalMixing,
    Mixer,
)
from stormda.attention.neighbours import Neighbourhood
from stormda.attention.noise import NoiseGate
from stormda.attention.spread import Spread
from stormda.attention.state import LinearState
from stormda.attention.tile_mixers import TileAttention, TileLinearAttention


@dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """The shape of a block."""

    width: int
    """Features of a token."""

    heads: int
    """Number of heads. Divides `width`."""

    mixer: Literal["linear", "tile", "tile+linear", "latent", "full", "none"] = "linear"
    """What is beside the local branch: attention that is global at O(n), in tiles, both of these,
    through learned latents, or global at O(n^2); or nothing."""

    mlp_ratio: float = 4.0
    """Hidden features of the MLP for each feature of a token."""

    temporal: bool = True
    """Whether the block reads the history."""

    periodic: tuple[bool, bool] = (False, True)
    """Whether the rows, and the columns, of the grid close to a ring."""

    poles: bool = False
    """Whether the first and last rows lie around poles, past which the local branch sees the
    other side; else it sees zero past the rows."""

    tile: tuple[int, int] = (8, 8)
    """Rows and columns of a tile of the mixers `tile` and `tile+linear`."""

    halo: tuple[int, int] = (2, 2)
    """Rows and columns around a tile that it sees too."""

    latents: int = 64
    """Latents of each head of the mixer `latent`."""

    noise_gate: bool = True
    """Whether the noise level weighs space against time; else both branches are added as they
    are."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.width < 1:
            raise ValueError(f"width: expected at least 1, got {self.width}")
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(
                f"heads: expected a positive divisor of width={self.width}, got {self.heads}"
            )
        if self.mixer not in MIXERS:
            raise ValueError(f"mixer: expected one of {', '.join(MIXERS)}, got {self.mixer}")
        if self.mlp_ratio * self.width < 1:
            raise ValueError(f"mlp_ratio: expected a positive number, got {self.mlp_ratio}")
        if len(self.tile) != 2 or min(self.tile) < 1:
            raise ValueError(f"tile: expected (rows, columns) of at least 1, got {self.tile}")
        if len(self.halo) != 2 or min(self.halo) < 0:
            raise ValueError(f"halo: expected (rows, columns) of at least 0, got {self.halo}")
        if self.latents < 1:
            raise ValueError(f"latents: expected at least 1, got {self.latents}")
        check_poles(self.poles, self.periodic)


def _linear(config: BlockConfig) -> Mixer:
    return GlobalLinearAttention(
        config.width, config.heads, periodic=config.periodic, poles=config.poles
    )


def _tile(config: BlockConfig) -> Mixer:
    return TileAttention(
        config.width,
        config.heads,
        tile=config.tile,
        halo=config.halo,
        periodic=config.periodic,
        poles=config.poles,
    )


def _tile_linear(config: BlockConfig) -> Mixer:
    return TileLinearAttention(
        config.width,
        config.heads,
        tile=config.tile,
        halo=config.halo,
        periodic=config.periodic,
        poles=config.poles,
    )


def _latent(config: BlockConfig) -> Mixer:
    return LatentAttention(
        config.width,
        config.heads,
        latents=config.latents,
        periodic=config.periodic,
        poles=config.poles,
    )


def _full(config: BlockConfig) -> Mixer:
    return FullAttention(config.width, config.heads, periodic=config.periodic, poles=config.poles)


def _none(config: BlockConfig) -> Mixer:
    return LocalMixing(config.width, periodic=config.periodic, poles=config.poles)


MIXERS: dict[str, Callable[[BlockConfig], Mixer]] = {
    "linear": _linear,
    "tile": _tile,
    "tile+linear": _tile_linear,
    "latent": _latent,
    "full": _full,
    "none": _none,
}
"""The mixer that each name in a config stands for."""


class StormBlock(nn.Module):
    """Mix a field with itself and with its past, at a level of noise.

    All branches end in a projection that starts at zero: a new block is the identity.

    Args:
        config: The shape.
        around: The neighbours of each token, where tokens have no rows and columns; their shape is
            then `(n, 1)`.

    Raises:
        ValueError: A neighbourhood, and a mixer of tiles, which are rows and columns.

    Examples:
        >>> from stormda.attention import HistoryProjection, SharedModulation, noise_embedding
        >>> config = BlockConfig(width=64, heads=2)
        >>> condition = noise_embedding(torch.zeros(1), 64)
        >>> history = HistoryProjection(64, 2)(torch.rand(1, 3, 12, 64))
        >>> x = torch.rand(1, 12, 64)
        >>> modulation = SharedModulation(64)(condition)
        >>> StormBlock(config)(x, condition, modulation, shape=(3, 4), history=history).shape
        torch.Size([1, 12, 64])
    """

    def __init__(self, config: BlockConfig, *, around: Neighbourhood | None = None) -> None:
        super().__init__()
        width, hidden = config.width, round(config.mlp_ratio * config.width)
        self.config = config
        self.table = nn.Parameter(torch.zeros(6, width))
        self.mix = MIXERS[config.mixer](config)
        if around is not None:
            self._look_around(around)
        self.mix_gate = NoiseGate(width, start=0.9) if config.noise_gate else None
        if config.temporal:
            self.cross = TemporalCrossAttention(width, config.heads)
            self.cross_gate = NoiseGate(width, start=0.5) if config.noise_gate else None
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), zero_linear(hidden, width))

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        modulation: Tensor,
        *,
        shape: tuple[int, int],
        history: History | None = None,
        weight: Tensor | None = None,
        state: LinearState | None = None,
    ) -> Tensor:
        """Return the tokens after the block.

        Args:
            x: Tokens `(b, n, D)`, row by row.
            condition: Noise embedding `(b, D)`; or `(1, D)`, where all samples share a level.
            modulation: What `SharedModulation` makes of it, `(b, 6 D)` or `(1, 6 D)`.
            shape: Rows and columns of tokens; their product is `n`.
            history: What `HistoryProjection` makes of the past, or a `StreamedHistory`; a block
                with `temporal=False` does not read it.
            weight: What each token counts, such as the area of its cell, `(b, n)` or `(n,)`.
            state: What `summarize` says of all tokens, where `x` is a part of them.

        Returns:
            Tokens `(b, n, D)`.

        Raises:
            ValueError: No history where the block reads one, or a shape that is not the tokens'.
        """
        x = self.in_space(x, condition, modulation, shape=shape, weight=weight, state=state)
        return self.in_time(x, condition, modulation, history=history)

    def spread(self, over: Spread) -> None:
        """Let the block take, from now on, one process's tokens of a field that many hold.

        Its `shape` is then the rows and columns of that process, and `history` and `weight` are
        those of its tokens.

        Args:
            over: How the processes reach each other.
        """
        for part in self.modules():
            if isinstance(part, GatedMixer | DepthwiseLocal):
                part.spread = over

    def _look_around(self, around: Neighbourhood) -> None:
        """Let the local branch read a table of neighbours."""
        if "tile" in self.config.mixer:
            raise ValueError(
                "mixer: expected one without tiles as the tokens have no rows and columns, "
                f"got {self.config.mixer}"
            )
        for module in list(self.modules()):
            if isinstance(module, DepthwiseLocal):
                module.around = around

    def summarize(
        self, x: Tensor, modulation: Tensor, *, weight: Tensor | None = None
    ) -> LinearState | None:
        """Return what tokens `(b, n, D)` say to all others; None if the mixer sums nothing."""
        to_mix, _, _ = self._shifts(modulation)
        return self.mix.summarize(modulate(x, to_mix), weight=weight)

    def in_space(
        self,
        x: Tensor,
        condition: Tensor,
        modulation: Tensor,
        *,
        shape: tuple[int, int],
        weight: Tensor | None = None,
        state: LinearState | None = None,
    ) -> Tensor:
        """Return the tokens after the first branch; the arguments are those of `forward`."""
        to_mix, _, _ = self._shifts(modulation)
        mixed = self.mix(modulate(x, to_mix), shape=shape, weight=weight, state=state)
        return _added(x, mixed, self.mix_gate, condition)

    def in_time(
        self,
        x: Tensor,
        condition: Tensor,
        modulation: Tensor,
        *,
        history: History | None = None,
    ) -> Tensor:
        """Return the tokens after the other branches, which take each token by itself."""
        _, to_cross, to_mlp = self._shifts(modulation)
        if self.config.temporal:
            if history is None:
                raise ValueError("history: expected a history as temporal=True, got None")
            seen = self.cross(modulate(x, to_cross), history)
            x = _added(x, seen, self.cross_gate, condition)
        out: Tensor = x + self.mlp(modulate(x, to_mlp))
        return out

    def _shifts(self, modulation: Tensor) -> Tensor:
        """Return shift and scale of each branch, `(3, 2, b, 1, D)`."""
        shared = rearrange(modulation, "b (three two d) -> three two b 1 d", three=3, two=2)
        return shared + rearrange(self.table, "(three two) d -> three two 1 1 d", three=3)


def _added(x: Tensor, branch: Tensor, gate: NoiseGate | None, condition: Tensor) -> Tensor:
    """Return the tokens and a branch, weighed by the noise level where there is a gate."""
    return x + branch if gate is None else torch.addcmul(x, gate(condition)[:, None], branch)


def modulate(x: Tensor, by: Tensor) -> Tensor:
    """Return the layer norm of `x (b, n, D)` with the shift and scale `by (2, b, 1, D)`."""
    shift, scale = by
    return torch.addcmul(shift, nn.functional.layer_norm(x, x.shape[-1:]), 1 + scale)
