"""Variables on a grid into tokens and back: the weights, for any subset of variables in any order.

Each variable v of a patch is embedded by its own matrix, `e_v = x_v W_v`, and the variables that
are present are gathered by one learned query for each head h,

    y = P concat_h sum_v a_vh [e_v]_h,    a_vh = softmax_v(e_v . u_h),

where `[.]_h` is the head's share of the width. Keys are not formed: u_h stands for the query of an
ordinary cross-attention times its key matrix; it starts at zero, so as the mean. Nor is any e_v,
since all is linear in the few numbers x_v of a patch: `e_v . u_h = x_v (W_v u_h)`, and the sum
over v is one product of the `a_vh x_v`, side by side, with the `[W_v]_h`, one below the other. x_v
holds the values, a 1, which embeds the variable itself, and the gaps.

Source: Nguyen et al. (2023), ClimaX, ICML, section 3.1, https://arxiv.org/abs/2301.10343 (variable
tokenization and aggregation).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from stormda.grid.patching import Patching


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """The shape of a tokenizer and its detokenizer.

    Examples:
        >>> TokenizerConfig(variables=("t2m", "u10", "v10"), vectors=("u10", "v10")).width
        128
    """

    variables: tuple[str, ...]
    """The names of all variables that there are weights for."""

    patch: tuple[int, int] = (4, 4)
    """The rows and columns of a token [cells]."""

    width: int = 128
    """The features of a token."""

    heads: int = 4
    """The queries that gather the variables. Divides `width`."""

    static: int = 0
    """The features of each token that do not change, such as position or orography; may be 0."""

    vectors: tuple[str, ...] = ()
    """The variables that are components of horizontal vectors: over a pole they change sign."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not self.variables or len(set(self.variables)) < len(self.variables):
            raise ValueError(f"variables: expected names, each once, got {self.variables}")
        if min(self.patch) < 1:
            raise ValueError(f"patch: expected positive numbers of cells, got {self.patch}")
        if self.heads < 1 or self.width < 1 or self.width % self.heads:
            raise ValueError(
                f"heads: expected a positive divisor of width={self.width}, got {self.heads}"
            )
        if self.static < 0:
            raise ValueError(f"static: expected a number of features, got {self.static}")
        if unknown := set(self.vectors) - set(self.variables):
            raise ValueError(f"vectors: expected names of variables, got {sorted(unknown)}")

    def indices(self, names: Sequence[str]) -> list[int]:
        """Return the numbers of variables by name.

        Raises:
            ValueError: No name is given, or one twice, or one that there are no weights for.

        Examples:
            >>> TokenizerConfig(variables=("t2m", "u10")).indices(["u10"])
            [1]
        """
        if not names or len(set(names)) < len(names) or not set(names) <= set(self.variables):
            raise ValueError(f"names: expected some of {self.variables}, each once, got {names}")
        return [self.variables.index(name) for name in names]


def aggregate(
    cells: Tensor, weight: Tensor, query: Tensor, present: Tensor | None = None
) -> Tensor:
    """Embed the patches of every variable and gather the variables by one query for each head.

    Args:
        cells: The numbers in each patch, x_v (v, m, k).
        weight: A matrix for each variable, W_v (v, k, d).
        query: A query for each head, u_h (h, d); zeros give the mean over the variables.
        present: Where there is something of a variable (v, m), bool; None for everywhere. Absent
            variables have no share, unless all are absent.

    Returns:
        One vector for each patch (m, d); head i fills the i-th of h equal parts.

    Examples:
        >>> cells, weight = torch.tensor([[[1.0]], [[3.0]]]), torch.ones(2, 1, 4)
        >>> aggregate(cells, weight, query=torch.zeros(2, 4))
        tensor([[2., 2., 2., 2.]])
    """
    logits = cells @ (weight @ query.mT)
    if present is not None:
        absent = ~(present | ~present.any(0))
        logits = logits.masked_fill(absent[..., None], -torch.inf)
    share = rearrange(logits.softmax(0), "v m h -> h m v 1").contiguous()
    shared = rearrange(share * rearrange(cells, "v m k -> m v k"), "h m v k -> h m (v k)")
    heads = rearrange(weight, "v k (h d) -> h (v k) d", h=len(query))
    return rearrange(shared @ heads, "h m d -> m (h d)")


class Tokenizer(nn.Module):
    """The weights that turn variables into tokens; they do not depend on the grid.

    Examples:
        >>> from stormda.grid import Patching, grid
        >>> tokenizer = Tokenizer(TokenizerConfig(variables=("t2m", "u10", "v10")))
        >>> patching = Patching(grid("5deg-poles"), patch=(4, 4))
        >>> tokenizer(torch.zeros(2, 2, 37, 72), ["v10", "t2m"], patching=patching).shape
        torch.Size([2, 180, 128])
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        variables, cells, width = len(config.variables), math.prod(config.patch), config.width
        values, gaps = (nn.init.normal_(torch.empty(variables, cells, width)) for _ in range(2))
        constant = nn.init.normal_(torch.empty(variables, 1, width), std=0.02)
        scale = cells**-0.5
        self.weight = nn.Parameter(torch.cat([scale * values, constant, scale * gaps], 1))
        """What values, a constant 1 and gaps are embedded by (v, py * px + 1 + py * px, d)."""
        self.query = nn.Parameter(torch.zeros(config.heads, width))
        """The query of each head (h, d)."""
        self.project = nn.Linear(width, width)
        self.static = nn.Linear(config.static, width, bias=False) if config.static else None

    def forward(
        self,
        x: Tensor,
        names: Sequence[str],
        *,
        patching: Patching,
        mask: Tensor | None = None,
        static: Tensor | None = None,
    ) -> Tensor:
        """Turn fields into tokens.

        Args:
            x: Normalised fields (*batch, v, rows, cols).
            names: Which variables they are (v), in any order; the others count as missing.
            patching: How the cells of the grid are gathered into n tokens.
            mask: Where `x` is valid, bool, broadcast against it; None for everywhere. Invalid
                cells enter as zeros whatever `x` holds there, and the network sees the gaps; a
                variable with no valid cell in a patch counts as missing there.
            static: Features of the tokens (n, s), or (*batch, n, s), with the configured s.

        Returns:
            Tokens (*batch, n, d).

        Raises:
            ValueError: Names, shapes or patch are not those of the configuration.
        """
        index = self.config.indices(names)
        _check_patch(self.config, patching)
        self._check(x, index, mask)
        self._check_static(patching, static)
        vectors = [i for i, name in enumerate(names) if name in self.config.vectors]
        cells, present = _inputs(x, mask, patching, vectors)
        weight = _select(self.weight, index)[:, : cells.shape[-1]]
        tokens: Tensor = self.project(aggregate(cells, weight, self.query, present))
        tokens = tokens.reshape(*x.shape[:-3], patching.tokens(), self.config.width)
        return tokens if self.static is None else tokens + self.static(static)

    def _check(self, x: Tensor, index: list[int], mask: Tensor | None) -> None:
        if x.ndim < 3 or x.shape[-3] != len(index):
            raise ValueError(
                f"x: expected dimensions (*batch, {len(index)} variables, rows, cols), "
                f"got shape {tuple(x.shape)}"
            )
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
        variables, cells = len(config.variables), math.prod(config.patch)
        self.weight = nn.Parameter(torch.zeros(variables, cells, config.width))
        """A head for each variable (v, py * px, d)."""
        self.bias = nn.Parameter(torch.zeros(variables, cells))
        """Its bias (v, py * px)."""

    def forward(self, tokens: Tensor, names: Sequence[str], *, patching: Patching) -> Tensor:
        """Turn tokens into fields.

        Args:
            tokens: Tokens (*batch, n, d).
            names: The variables wanted (v), in any order.
            patching: How the cells of the grid are gathered into n tokens.

        Returns:
            Fields (*batch, v, rows, cols), without padding.

        Raises:
            ValueError: Names, shapes or patch are not those of the configuration.
        """
        index = self.config.indices(names)
        _check_patch(self.config, patching)
        wanted = patching.tokens(), self.config.width
        if tuple(tokens.shape[-2:]) != wanted:
            raise ValueError(
                f"tokens: expected last dimensions {wanted}, got shape {tuple(tokens.shape)}"
            )
        weight = rearrange(_select(self.weight, index), "v k d -> (v k) d")
        bias = rearrange(_select(self.bias, index), "v k -> (v k)")
        fields = patching.unpatchify(nn.functional.linear(tokens, weight, bias))
        return rearrange(fields, "... 1 v y x -> ... v y x")


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
    """Cut padded fields (*batch, v, y, x) into the patches of each variable (v, m, py * px)."""
    py, px = patching.patch
    return rearrange(x, "... v (r y) (c x) -> v (... r c) (y x)", y=py, x=px)


def _select(weights: Tensor, index: list[int]) -> Tensor:
    """Return the weights of some variables, without a copy where they are all."""
    return weights if index == list(range(len(weights))) else weights[index]


def _broadcasts(mask: Tensor, x: Tensor) -> bool:
    sizes = zip(reversed(mask.shape), reversed(x.shape), strict=False)
    return mask.ndim <= x.ndim and all(m in (1, n) for m, n in sizes)


def _check_patch(config: TokenizerConfig, patching: Patching) -> None:
    if (patching.patch, patching.frames) != (config.patch, 1):
        raise ValueError(
            f"patching: expected patch {config.patch} of 1 frame, "
            f"got {patching.patch} of {patching.frames}"
        )
