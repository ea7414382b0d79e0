"""Variables on a grid into tokens and back: the weights, for any subset of variables in any order.

The patch of each variable holds its values, a 1, which embeds the variable itself (and, where
there are levels, its pressure), and its gaps. `aggregate` gathers the variables of a patch to one
vector, a linear map and the static features of the place follow. Nothing depends on the grid: the
same weights serve any resolution and any kind of grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from stormda.grid.aggregation import aggregate
from stormda.grid.encoding import SCALES, level_features
from stormda.grid.patching import Patching

__all__ = ["Detokenizer", "Tokenizer", "TokenizerConfig", "aggregate"]

Levels = Sequence[float | None]
"""The pressure of each channel [Pa]; None for what lies on no level."""


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """The shape of a tokenizer and its detokenizer.

    Examples:
        >>> TokenizerConfig(variables=("t2m", "u10", "v10"), vectors=("u10", "v10")).width
        128
    """

    variables: tuple[str, ...]
    """The names of all variables that there are weights for."""

    patch: tuple[int, ...] = (4, 4)
    """The rows and columns of a token [cells]; where a grid is a list, their product counts."""

    width: int = 128
    """The features of a token."""

    heads: int = 4
    """The queries that gather the variables. Divides `width`."""

    static: int = 0
    """The features of each token that do not change, such as its position; may be 0."""

    vectors: tuple[str, ...] = ()
    """The variables that are components of horizontal vectors: over a pole they change sign."""

    frames: int = 1
    """The consecutive frames of a token."""

    levels: bool = False
    """Whether variables come on pressure levels, which then share the variable's weights."""

    chunk: int | None = None
    """The patches whose variables are gathered at a time, to save memory; None for all."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not self.variables or len(set(self.variables)) < len(self.variables):
            raise ValueError(f"variables: expected names, each once, got {self.variables}")
        if not self.patch or min(self.patch) < 1:
            raise ValueError(f"patch: expected positive numbers of cells, got {self.patch}")
        if self.heads < 1 or self.width < 1 or self.width % self.heads:
            raise ValueError(
                f"heads: expected a positive divisor of width={self.width}, got {self.heads}"
            )
        if self.static < 0:
            raise ValueError(f"static: expected a number of features, got {self.static}")
        if unknown := set(self.vectors) - set(self.variables):
            raise ValueError(f"vectors: expected names of variables, got {sorted(unknown)}")
        for name in ("frames", "chunk"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}: expected a positive number, got {value}")

    @property
    def cells(self) -> int:
        """The numbers of one variable in a patch."""
        return self.frames * math.prod(self.patch)

    def indices(self, names: Sequence[str], levels: Levels | None = None) -> list[int]:
        """Return the numbers of variables by name.

        Args:
            names: The variables; one may come on several levels.
            levels: The pressure of each [Pa], None for none; needs `levels` in the configuration.

        Raises:
            ValueError: No name is given, or one twice on a level, or one that there are no weights
                for; or levels are given where there are none, or not one for each name.

        Examples:
            >>> TokenizerConfig(variables=("t2m", "u10")).indices(["u10"])
            [1]
        """
        if levels is not None and (not self.levels or len(levels) != len(names)):
            wanted = f"{len(names)} pressures" if self.levels else "none, by the configuration"
            raise ValueError(f"levels: expected {wanted}, got {levels}")
        channels = list(zip(names, levels or [None] * len(names), strict=True))
        if not names or len(set(channels)) < len(names) or not set(names) <= set(self.variables):
            raise ValueError(f"names: expected some of {self.variables}, each once, got {names}")
        return [self.variables.index(name) for name in names]


class Tokenizer(nn.Module):
    """The weights that turn variables into tokens; they do not depend on the grid.

    Examples:
        >>> from stormda.grid import Patching, grid
        >>> tokenizer = Tokenizer(TokenizerConfig(variables=("t2m", "u10", "v10")))
        >>> patching = Patching(grid("5deg-poles"), patch=(4, 4))
        >>> tokenizer(torch.zeros(2, 2, 37, 72), ["v10", "t2m"], patching=patching).shape
        torch.Size([2, 180, 128])
        >>> patching = Patching(grid("healpix16"), patch=(4, 4))
        >>> tokenizer(torch.zeros(2, 1, 3072), ["u10"], patching=patching).shape
        torch.Size([2, 192, 128])
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        variables, cells, width = len(config.variables), config.cells, config.width
        values, gaps = (nn.init.normal_(torch.empty(variables, cells, width)) for _ in range(2))
        constant = nn.init.normal_(torch.empty(variables, 1, width), std=0.02)
        scale = cells**-0.5
        self.weight = nn.Parameter(torch.cat([scale * values, constant, scale * gaps], 1))
        """What values, a constant 1 and gaps are embedded by (v, cells + 1 + cells, d)."""
        self.query = nn.Parameter(torch.zeros(config.heads, width))
        """The query of each head (h, d)."""
        self.project = nn.Linear(width, width)
        self.static = nn.Linear(config.static, width, bias=False) if config.static else None
        self.level = nn.Linear(2 * len(SCALES), width, bias=False) if config.levels else None

    def forward(
        self,
        x: Tensor,
        names: Sequence[str],
        *,
        patching: Patching,
        levels: Levels | None = None,
        mask: Tensor | None = None,
        static: Tensor | None = None,
    ) -> Tensor:
        """Turn fields into tokens.

        Args:
            x: Normalised fields (*batch, v, *grid.shape); where tokens have several frames
                (*batch, time, v, *grid.shape).
            names: Which variables they are (v), in any order; the others count as missing. Fields
                that do not change, such as orography, may be among them.
            patching: How the cells of the grid are gathered into n tokens.
            levels: The pressure of each [Pa], None for none (v).
            mask: Where `x` is valid, bool, broadcast against it; None for everywhere. Invalid
                cells enter as zeros whatever `x` holds there, and the network sees the gaps; a
                variable with no valid cell in a patch counts as missing there.
            static: Features of the tokens (n, s), or (*batch, n, s), with the configured s.

        Returns:
            Tokens (*batch, n, d).

        Raises:
            ValueError: Names, shapes or patch are not those of the configuration.
        """
        index = self.config.indices(names, levels)
        _check_patch(self.config, patching)
        self._check(x, index, mask, patching)
        vectors = [i for i, name in enumerate(names) if name in self.config.vectors]
        times = x.shape[-len(patching.grid.shape) - 2] if self.config.frames > 1 else 1
        self._check_static(patching, static)
        cells, present = _inputs(x, mask, patching, vectors)
        tokens = self._gather(cells, index, levels, present)
        batch = x.shape[: x.ndim - len(patching.grid.shape) - (2 if self.config.frames > 1 else 1)]
        tokens = tokens.reshape(*batch, patching.tokens() * (times // self.config.frames or 1), -1)
        return (
            tokens if self.static is None else tokens + self.static(self._repeat(static, tokens))
        )

    def embed(
        self, patches: Tensor, names: Sequence[str], *, levels: Levels | None = None
    ) -> Tensor:
        """Turn patches that are already cut into tokens, without static features.

        Args:
            patches: Patches (n, frames * v * cells) from `Patching.patchify` or `Patching.read`,
                without gaps.
            names: Which variables they are (v), in any order.
            levels: The pressure of each [Pa], None for none (v).

        Returns:
            Tokens (n, d).

        Raises:
            ValueError: Names or shape are not those of the configuration.
        """
        index = self.config.indices(names, levels)
        wanted = len(names) * self.config.cells
        if patches.ndim != 2 or patches.shape[-1] != wanted:
            raise ValueError(f"patches: expected shape (n, {wanted}), got {tuple(patches.shape)}")
        pattern = "n (f v k) -> v n (f k)"
        cells = rearrange(patches, pattern, f=self.config.frames, v=len(names))
        return self._gather(_with_one(cells), index, levels, None)

    def _gather(
        self, cells: Tensor, index: list[int], levels: Levels | None, present: Tensor | None
    ) -> Tensor:
        """Return tokens (m, d) of the patches of variables (v, m, k)."""
        weight = _select(self.weight, index)[:, : cells.shape[-1]]
        if self.level is not None and levels is not None:
            constant = weight.new_zeros(weight.shape[1])
            constant[self.config.cells] = 1
            weight = weight + constant[:, None] * self.level(_levels(levels, weight))[:, None]
        chunk = self.config.chunk
        tokens: Tensor = self.project(aggregate(cells, weight, self.query, present, chunk=chunk))
        return tokens

    def _repeat(self, static: Tensor | None, tokens: Tensor) -> Tensor | None:
        """Return the features of one frame's tokens for every frame."""
        if static is None or static.shape[-2] == tokens.shape[-2]:
            return static
        return torch.cat([static] * (tokens.shape[-2] // static.shape[-2]), -2)

    def _check(self, x: Tensor, index: list[int], mask: Tensor | None, patching: Patching) -> None:
        space, time = len(patching.grid.shape), self.config.frames > 1
        if x.ndim < space + 1 + time or x.shape[-space - 1] != len(index):
            names = "rows, cols" if space == 2 else "cells"
            lead = "*batch, time" if time else "*batch"
            raise ValueError(
                f"x: expected dimensions ({lead}, {len(index)} variables, {names}), "
                f"got shape {tuple(x.shape)}"
            )
        if time:
            patching.tokens(x.shape[-space - 2])
        if mask is not None and not (mask.dtype == torch.bool and _broadcasts(mask, x)):
            raise ValueError(
                f"mask: expected bool that broadcasts to {tuple(x.shape)}, "
                f"got {mask.dtype} of shape {tuple(mask.shape)}"
            )

    def _check_static(self, patching: Patching, static: Tensor | None) -> None:
        wanted = (patching.tokens(), self.config.static) if self.config.static else None
        given = None if static is None else tuple(static.shape[-2:])
        if wanted != given:
            raise ValueError(f"static: expected last dimensions {wanted}, got {given}")


class Detokenizer(nn.Module):
    """The weights that turn tokens into variables; at first every field is zero.

    Examples:
        >>> from stormda.grid import Patching, grid
        >>> detokenizer = Detokenizer(TokenizerConfig(variables=("t2m", "u10", "v10")))
        >>> patching = Patching(grid("5deg-poles"), patch=(4, 4))
        >>> detokenizer(torch.randn(2, 180, 128), ["u10", "v10"], patching=patching).shape
        torch.Size([2, 2, 37, 72])
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        variables, cells = len(config.variables), config.cells
        self.weight = nn.Parameter(torch.zeros(variables, cells, config.width))
        """A head for each variable (v, cells, d)."""
        self.bias = nn.Parameter(torch.zeros(variables, cells))
        """Its bias (v, cells)."""
        features = 2 * len(SCALES)
        self.level = nn.Linear(features, 2 * config.width, bias=False) if config.levels else None
        """What scales and shifts the features of a token for a level."""

    def forward(
        self,
        tokens: Tensor,
        names: Sequence[str],
        *,
        patching: Patching,
        levels: Levels | None = None,
    ) -> Tensor:
        """Turn tokens into fields.

        Args:
            tokens: Tokens (*batch, n, d).
            names: The variables wanted (v), in any order.
            patching: How the cells of the grid are gathered into n tokens.
            levels: The pressure of each [Pa], None for none (v).

        Returns:
            Fields (*batch, v, *grid.shape), without padding; where tokens have several frames
            (*batch, time, v, *grid.shape).

        Raises:
            ValueError: Names, shapes or patch are not those of the configuration.
        """
        index = self.config.indices(names, levels)
        _check_patch(self.config, patching)
        wanted = patching.tokens(), self.config.width
        several = self.config.frames > 1 and tokens.shape[-2] and not tokens.shape[-2] % wanted[0]
        if (tokens.shape[-2] != wanted[0] and not several) or tokens.shape[-1] != wanted[1]:
            raise ValueError(
                f"tokens: expected last dimensions {wanted}, got shape {tuple(tokens.shape)}"
            )
        weight, bias = _select(self.weight, index), _select(self.bias, index)
        if self.level is not None and levels is not None:
            scale, shift = self.level(_levels(levels, weight)).chunk(2, -1)
            bias = bias + (weight * shift[:, None]).sum(-1)
            weight = weight * (1 + scale[:, None])
        weight = rearrange(weight, "v (f k) d -> (f v k) d", f=self.config.frames)
        bias = rearrange(bias, "v (f k) -> (f v k)", f=self.config.frames)
        fields = patching.unpatchify(nn.functional.linear(tokens, weight, bias))
        return fields if self.config.frames > 1 else fields.squeeze(-len(patching.grid.shape) - 2)


def _inputs(
    x: Tensor, mask: Tensor | None, patching: Patching, vectors: list[int]
) -> tuple[Tensor, Tensor | None]:
    """Return values, a constant 1 and gaps of each patch (v, m, k); and where there are values."""
    if mask is None:
        return _with_one(_cells(patching.pad(x, vectors), patching)), None
    mask = mask.expand(x.shape)
    values = _cells(patching.pad(torch.where(mask, x, 0), vectors), patching)
    valid = _cells(patching.pad(mask), patching)
    return torch.cat([_with_one(values), (~valid).to(x.dtype)], -1), valid.any(-1)


def _with_one(cells: Tensor) -> Tensor:
    return nn.functional.pad(cells, (0, 1), value=1.0)


def _cells(x: Tensor, patching: Patching) -> Tensor:
    """Cut padded fields (*batch, v, *padded) into the patches of each variable (v, m, cells)."""
    a, f = patching.arrangement, patching.frames
    if f == 1:
        return rearrange(x, f"... v {a.field} -> v (... {a.token}) ({a.cell})", **a.sizes)
    pattern = f"... (t f) v {a.field} -> v (... t {a.token}) (f {a.cell})"
    return rearrange(x, pattern, f=f, **a.sizes)


def _levels(levels: Levels, like: Tensor) -> Tensor:
    """Return the features of the level of each channel (v, k)."""
    pressure = np.array([np.nan if level is None else level for level in levels])
    return torch.as_tensor(level_features(pressure), dtype=like.dtype, device=like.device)


def _select(weights: Tensor, index: list[int]) -> Tensor:
    """Return the weights of some variables, without a copy where they are all."""
    return weights if index == list(range(len(weights))) else weights[index]


def _broadcasts(mask: Tensor, x: Tensor) -> bool:
    sizes = zip(reversed(mask.shape), reversed(x.shape), strict=False)
    return mask.ndim <= x.ndim and all(m in (1, n) for m, n in sizes)


def _check_patch(config: TokenizerConfig, patching: Patching) -> None:
    if (patching.patch, patching.frames) != (config.patch, config.frames):
        frames = "1 frame" if config.frames == 1 else f"{config.frames} frames"
        raise ValueError(
            f"patching: expected patch {config.patch} of {frames}, "
            f"got {patching.patch} of {patching.frames}"
        )
