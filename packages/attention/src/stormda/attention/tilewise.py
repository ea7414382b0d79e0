"""A whole network tile by tile, with the exact gradient of the merged field.

A field is cut into windows W_i that overlap, and the answers are merged with weights w_i that sum
to 1 at every cell,

    y = sum_i P_i^T (w_i * fn(P_i x)),    P_i takes the cells of window i.

For a gradient ybar of the merged field the parts are independent: each window is recomputed and
pulls `w_i * P_i ybar` back, to the weights of the network, where gradients add, and to its own
cells of `x`, where they overlap and add too. Activations are those of one window at a time.

Source: the tiles of Wang et al. (2025), ORBIT-2, https://arxiv.org/abs/2505.04802, merged and
differentiated after STORM, https://arxiv.org/abs/2604.16590, "scalable gradient propagation".
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stormda.attention.recompute import autocast_now, pull

Window = tuple[int, Tensor]
"""The number of a tile and its window."""


class Tiling(Protocol):
    """How a field `(..., rows, columns)` is cut into windows and merged again.

    `stormda.grid.TileLayout` is one.
    """

    def windows(self) -> Sequence[object]:
        """Return one entry a tile."""
        ...

    def take(self, x: Tensor, i: int) -> Tensor:
        """Return the window of tile `i` of a field."""
        ...

    def add(self, out: Tensor, i: int, y: Tensor) -> None:
        """Add the window `y` of tile `i`, weighted, to the field `out` in place."""
        ...

    def weight(self, i: int) -> Any:  # noqa: ANN401
        """Return the weights of the window of tile `i`, an array (window rows, columns)."""
        ...


def tilewise(
    fn: Callable[..., Tensor],
    layout: Tiling,
    *,
    batch: int = 1,
    tiles: Sequence[int] | None = None,
    parameters: Iterable[Tensor] | None = None,
) -> "Tilewise":
    """Return `fn`, which maps fields to fields, as a function that runs tile by tile.

    Between processes: each runs its own `tiles` of a field that holds its cells and a halo, and
    the caller adds the overlapping edges of the answers, whose adjoint is the exchange of the
    halo. Gradients of weights are those of the tiles that were run.

    Args:
        fn: Takes windows `(..., rows, columns)`, and tensors that all tiles share, and returns
            windows of the same rows and columns; nothing random inside.
        layout: The windows and how they merge.
        batch: Windows of one size that are run together, stacked along the first dimension.
        tiles: The numbers of the tiles to run; all if None.
        parameters: The weights inside `fn`; those of a module are found if None.

    Raises:
        ValueError: A batch below 1.

    Examples:
        >>> class Halves:  # left and right of a row of four, without a halo
        ...     def windows(self): return [0, 1]
        ...     def take(self, x, i): return x[..., 2 * i : 2 * i + 2]
        ...     def add(self, out, i, y): out[..., 2 * i : 2 * i + 2] += y
        ...     def weight(self, i): return torch.ones(1, 2)
        >>> tilewise(lambda x: x - x.mean(), Halves())(torch.tensor([[1.0, 3.0, 5.0, 9.0]]))
        tensor([[-1.,  1., -2.,  2.]])
    """
    if batch < 1:
        raise ValueError(f"batch: expected at least 1, got {batch}")
    if parameters is None:
        parameters = fn.parameters() if isinstance(fn, nn.Module) else ()
    numbers = range(len(layout.windows())) if tiles is None else tiles
    return Tilewise(fn, layout, batch, tuple(numbers), tuple(parameters))


@dataclass(frozen=True)
class Tilewise:
    """A network that runs tile by tile; made by `tilewise`."""

    fn: Callable[..., Tensor]
    """What runs on windows."""

    layout: Tiling
    """The windows and how they merge."""

    batch: int
    """Windows of one size that are run together."""

    tiles: tuple[int, ...]
    """The tiles to run."""

    parameters: tuple[Tensor, ...]
    """The weights inside `fn`."""

    def __call__(self, x: Tensor, *shared: Tensor) -> Tensor:
        """Return the merged field `(b, ..., rows, columns)`, to be differentiated once.

        Autograd keeps the field and what is shared, and nothing else.

        Args:
            x: A field `(b, ..., rows, columns)`.
            shared: What all tiles share, given to `fn` after the window. With a batch above 1,
                what depends on the sample cannot be shared.

        Raises:
            ValueError: No tile, or a field of two dimensions with a batch above 1.
        """
        if self.batch > 1 and x.ndim < 3:
            raise ValueError(f"x: expected (b, ..., rows, columns), got {tuple(x.shape)}")
        y: Tensor = _TilewiseFunction.apply(  # type: ignore[no-untyped-call]
            self, autocast_now(x), len(shared), x, *shared, *self.parameters
        )
        return y

    def _merged(self, x: Tensor, shared: tuple[Tensor, ...]) -> Tensor:
        """Return the merged field."""
        out: Tensor | None = None
        for numbers, windows in self._stacks(x):
            answers = self.fn(windows, *shared).chunk(len(numbers))
            if out is None:
                out = answers[0].new_zeros((*answers[0].shape[:-2], *x.shape[-2:]))
            for i, answer in zip(numbers, answers, strict=True):
                self.layout.add(out, i, answer)
        if out is None:
            raise ValueError("tiles: expected at least 1, got 0")
        return out

    def _gradients(
        self, x: Tensor, shared: tuple[Tensor, ...], ybar: Tensor, *, wanted: bool
    ) -> list[Tensor | None]:
        """Return the gradients of `x`, if wanted, of `shared` and of the weights."""
        shared = tuple(z.detach().requires_grad_(z.requires_grad) for z in shared)
        others = [*shared, *self.parameters]
        bars = [torch.zeros_like(z) if z.requires_grad else None for z in others]
        xbar = torch.zeros_like(x) if wanted else None
        for numbers, windows in self._stacks(x):
            inside = windows.detach().requires_grad_(wanted)
            with torch.enable_grad():
                answers = self.fn(inside, *shared)
            parts = [self._weighted(ybar, i) for i in numbers]
            (bar,) = pull(answers, torch.cat(parts), [inside], others, bars)
            if xbar is not None and bar is not None:
                for i, part in zip(numbers, bar.chunk(len(numbers)), strict=True):
                    self._scatter(xbar, i, part)
        return [xbar, *bars]

    def _weighted(self, ybar: Tensor, i: int) -> Tensor:
        """Return the window of `ybar` that tile `i` answers for."""
        weight = torch.as_tensor(self.layout.weight(i), dtype=ybar.dtype, device=ybar.device)
        return self.layout.take(ybar, i) * weight

    def _scatter(self, out: Tensor, i: int, part: Tensor) -> None:
        """Add a window to the cells it was taken from: the adjoint of `take`."""
        rows, columns = out.shape[-2:]
        row = torch.arange(rows, device=out.device)[:, None].expand(rows, columns)
        column = torch.arange(columns, device=out.device).expand(rows, columns)
        cells = self.layout.take(row, i) * columns + self.layout.take(column, i)
        out.view(*out.shape[:-2], -1).index_add_(-1, cells.flatten(), part.flatten(-2))

    def _stacks(self, x: Tensor) -> Iterator[tuple[list[int], Tensor]]:
        """Yield the tiles that are run together, and their windows along the first dimension."""
        waiting: list[Window] = []
        for i in self.tiles:
            window = self.layout.take(x, i)
            if waiting and (len(waiting) == self.batch or window.shape != waiting[0][1].shape):
                yield _stack(waiting)
                waiting = []
            waiting.append((i, window))
        if waiting:
            yield _stack(waiting)


def _stack(waiting: list[Window]) -> tuple[list[int], Tensor]:
    numbers = [i for i, _ in waiting]
    return numbers, waiting[0][1] if len(waiting) == 1 else torch.cat([w for _, w in waiting])


class _TilewiseFunction(torch.autograd.Function):
    """Tile by tile, forward and backward."""

    @staticmethod
    def forward(
        call: Tilewise,
        autocast: Callable[[], AbstractContextManager[None]],
        shared: int,
        x: Tensor,
        *rest: Tensor,
    ) -> Tensor:
        """Return the merged field."""
        return call._merged(x, rest[:shared])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401
        """Keep the field and what is shared."""
        ctx.call, ctx.autocast, ctx.shared = inputs[:3]
        ctx.save_for_backward(*inputs[3:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, ybar: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Pull `ybar` back to the field, the shared tensors and the weights."""
        x, *rest = ctx.saved_tensors
        with ctx.autocast():
            bars = ctx.call._gradients(
                x, tuple(rest[: ctx.shared]), ybar, wanted=ctx.needs_input_grad[3]
            )
        return (None, None, None, *bars)
