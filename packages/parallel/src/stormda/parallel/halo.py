"""Fields that go on where a rank's rectangle ends, and the sum of windows that overlap.

    halo          own cells -> window      ghosts are copied from the ranks that own them
    overlap_add   window -> own cells      ghosts are added to the cells that they are copies of

One is the adjoint of the other, <halo(x), y> = <x, overlap_add(y)>, so that each is the backward
of the other up to its messages, which are those of `stormda.parallel.exchange`. Sums go in the
order of the ranks, the same on every device at every run. A network of convolutions sees the
whole field through halos; a network of tiles ends in the sum of its windows, weighted by

    a(k) = sin^2(pi (k + 1/2) / (4 h)),    k = 0 ... 2 h - 1

over the 2 h cells that two windows share, divided by the sum over windows (`merge_weights`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from stormda.parallel.collectives import linear_map, widened
from stormda.parallel.communicator import Communicator
from stormda.parallel.exchange import Exchange, exchange, start_exchange
from stormda.parallel.halo_plan import HaloPlan


@dataclass(frozen=True, eq=False)
class StartedHalo:
    """A halo whose cells are on their way; made by `start_halo`."""

    x: Tensor
    """This rank's cells (..., rows, columns)."""

    plan: HaloPlan
    """The plan of the exchange."""

    travelling: Exchange
    """The cells on their way."""

    signs: Tensor | None
    """The factor of every channel over a pole (channels,)."""

    def finish(self) -> Tensor:
        """Wait for the ghosts and return the window (..., window rows, window columns)."""
        ghosts = _turned(self.travelling.finish(), self.plan.ghosts.crossed, self.signs)
        above, beside = self.plan.width
        window = pad(self.x, (beside, beside, above, above)).flatten(-2)
        at = self.plan.ghosts.window.to(self.x.device)
        return window.index_copy(-1, at, ghosts.movedim(0, -1)).view(
            *self.x.shape[:-2], *self.plan.window
        )


def start_halo(
    x: Tensor, plan: HaloPlan, comm: Communicator, *, signs: Tensor | None = None
) -> StartedHalo:
    """Start `halo`; its `finish` returns the window.

    Examples:
        >>> from stormda.parallel import Domain, SelfComm, halo_plan
        >>> plan = halo_plan(Domain.globe((4, 6), ranks=(1, 1)), 0, (1, 1))
        >>> start_halo(torch.ones(4, 6), plan, SelfComm()).finish().shape
        torch.Size([6, 8])
    """
    _check(x, plan.shape, plan, comm, signs, "x")
    leaving = _pick(x.flatten(-2).movedim(-1, 0), plan)
    travelling = start_exchange(leaving, comm, sent=plan.sent, received=plan.received)
    return StartedHalo(x, plan, travelling, signs)


def halo(x: Tensor, plan: HaloPlan, comm: Communicator, *, signs: Tensor | None = None) -> Tensor:
    """Return this rank's cells in a frame of the cells around them.

    Args:
        x: This rank's cells (..., rows, columns), or with `signs` (..., channels, rows, columns).
        plan: This rank's plan.
        comm: The ranks that share the field, `mesh.comm("lat", "lon")`.
        signs: The factor of every channel over a pole (channels,): -1 for the components of
            vectors, 1 for others; None for 1.

    Returns:
        The window (..., window rows, window columns).

    Raises:
        ValueError: If the plan does not fit `x`, the ranks or `signs`.

    Examples:
        >>> from stormda.parallel import Domain, SelfComm, halo_plan
        >>> plan = halo_plan(Domain.globe((2, 4), ranks=(1, 1)), 0, (1, 1))
        >>> halo(torch.arange(8.0).view(2, 4), plan, SelfComm())
        tensor([[1., 2., 3., 0., 1., 2.],
                [3., 0., 1., 2., 3., 0.],
                [7., 4., 5., 6., 7., 4.],
                [5., 6., 7., 4., 5., 6.]])
    """
    return start_halo(x, plan, comm, signs=signs).finish()


def overlap_add(
    y: Tensor, plan: HaloPlan, comm: Communicator, *, signs: Tensor | None = None
) -> Tensor:
    """Return the sum of all ranks' windows on this rank's cells: the adjoint of `halo`.

    Args:
        y: This rank's window (..., window rows, window columns), or with `signs`
            (..., channels, window rows, window columns); 16-bit floats are summed in 32.
        plan: This rank's plan.
        comm: The ranks that share the field.
        signs: The factor of every channel over a pole (channels,); None for 1.

    Returns:
        The sum (..., rows, columns); what lies outside of the field is left out.

    Raises:
        ValueError: If the plan does not fit `y`, the ranks or `signs`.

    Examples:
        >>> from stormda.parallel import Domain, SelfComm, halo_plan
        >>> plan = halo_plan(Domain.region((1, 3), ranks=(1, 1)), 0, (0, 1))
        >>> overlap_add(torch.arange(5.0)[None], plan, SelfComm())
        tensor([[1., 2., 3.]])
    """
    _check(y, plan.window, plan, comm, signs, "y")
    ghosts = y.flatten(-2).index_select(-1, plan.ghosts.window.to(y.device)).movedim(-1, 0)
    ghosts = _turned(ghosts, plan.ghosts.crossed, signs)
    arrived = exchange(ghosts, comm, sent=plan.received, received=plan.sent)
    (rows, columns), (above, beside) = plan.shape, plan.width
    own = widened(y[..., above : above + rows, beside : beside + columns])
    others = _collect(widened(arrived), plan).movedim(0, -1).reshape(own.shape)
    return (own + others).to(y.dtype)


def with_halo(
    stencil: Callable[[Tensor], Tensor],
    x: Tensor,
    plan: HaloPlan,
    comm: Communicator,
    *,
    signs: Tensor | None = None,
) -> Tensor:
    """Return `stencil(halo(x))`, computing the interior while the halo travels.

    Args:
        stencil: A function of windows (..., rows, columns) that loses `plan.width` on each side,
            such as a convolution without padding, and does the same everywhere.
        x: This rank's cells (..., rows, columns).
        plan: This rank's plan.
        comm: The ranks that share the field.
        signs: The factor of every channel over a pole (channels,); None for 1.

    Returns:
        The result on this rank's cells (..., rows, columns).

    Examples:
        >>> from stormda.parallel import Domain, SelfComm, halo_plan
        >>> plan = halo_plan(Domain.globe((4, 6), ranks=(1, 1)), 0, (1, 1))
        >>> blur = torch.nn.AvgPool2d(3, stride=1)
        >>> with_halo(blur, torch.ones(1, 4, 6), plan, SelfComm()).shape
        torch.Size([1, 4, 6])
    """
    started = start_halo(x, plan, comm, signs=signs)
    (rows, columns), (above, beside) = plan.shape, plan.width
    if rows <= 2 * above or columns <= 2 * beside:
        return stencil(started.finish())
    interior = stencil(x)
    window = started.finish()
    middle = window[..., above : above + rows, :]
    left = stencil(middle[..., : 3 * beside]) if beside else interior[..., :0]
    right = stencil(middle[..., columns - beside :]) if beside else interior[..., :0]
    band = torch.cat([left, interior, right], -1)
    top = stencil(window[..., : 3 * above, :]) if above else band[..., :0, :]
    bottom = stencil(window[..., rows - above :, :]) if above else band[..., :0, :]
    return torch.cat([top, band, bottom], -2)


def merge_weights(plan: HaloPlan, comm: Communicator, *, dtype: torch.dtype) -> Tensor:
    """Return weights of this rank's window with which all windows add up to one everywhere.

    `overlap_add(merge_weights(...) * f(halo(x)))` blends what a network `f` makes of the windows.

    Args:
        plan: This rank's plan.
        comm: The ranks that share the field.
        dtype: The floating dtype of the weights.

    Returns:
        The weights (window rows, window columns); zero where no cell lies.

    Examples:
        >>> from stormda.parallel import Domain, SelfComm, halo_plan
        >>> plan = halo_plan(Domain.globe((4, 6), ranks=(1, 1)), 0, (1, 1))
        >>> w = merge_weights(plan, SelfComm(), dtype=torch.float64)
        >>> overlap_add(w, plan, SelfComm()).std().item() < 1e-15
        True
    """
    north, south, west, east = plan.open
    rows = _ramps(plan.shape[0], plan.width[0], north, south)
    columns = _ramps(plan.shape[1], plan.width[1], west, east)
    inside = torch.zeros(math.prod(plan.window), dtype=torch.float64)
    inside[plan.own] = 1
    inside[plan.ghosts.window] = 1
    weights = (rows[:, None] * columns).to(comm.device) * inside.view(plan.window).to(comm.device)
    total = halo(overlap_add(weights, plan, comm), plan, comm)
    return torch.where(total > 0, weights / total.clamp(min=torch.finfo(total.dtype).tiny), 0).to(
        dtype
    )


def _ramps(cells: int, width: int, open_start: bool, open_stop: bool) -> Tensor:
    """Return the weights along one side of a window: up, flat, down."""
    weights = torch.ones(cells + 2 * width, dtype=torch.float64)
    k = torch.arange(min(2 * width, len(weights)), dtype=torch.float64)
    ramp = torch.sin(math.pi * (k + 0.5) / (4 * max(width, 1))) ** 2
    weights[: len(k)] *= 1 if open_start else ramp
    weights[len(weights) - len(k) :] *= 1 if open_stop else ramp.flip(0)
    for outside, is_open in ((weights[:width], open_start), (weights[cells + width :], open_stop)):
        outside *= 0 if is_open else 1
    return weights


def _pick(cells: Tensor, plan: HaloPlan) -> Tensor:
    """Return the cells that are sent (sent, ...) of (cells, ...)."""
    return linear_map(
        cells,
        lambda cells: cells.index_select(0, plan.leaving.to(cells.device)),
        partial(_collect, plan=plan),
    )


def _collect(arrived: Tensor, plan: HaloPlan) -> Tensor:
    """Return what came back (sent, ...) added up at its cells (cells, ...), in rank order."""

    def collected(arrived: Tensor) -> Tensor:
        cells, places = (index.to(arrived.device) for index in plan.contributions)
        addends = torch.cat([arrived, arrived.new_zeros(1, *arrived.shape[1:])])
        sums = widened(arrived.new_zeros(len(cells), *arrived.shape[1:]))
        for turn in places.unbind(1):
            sums = sums + addends.index_select(0, turn)
        total = arrived.new_zeros(*arrived.shape[1:], math.prod(plan.shape))
        last = sums.to(arrived.dtype).movedim(0, -1)  # a field is stored with its cells last
        return total.index_copy_(-1, cells, last).movedim(-1, 0)

    return linear_map(arrived, collected, partial(_pick, plan=plan))


def _turned(ghosts: Tensor, crossed: Tensor, signs: Tensor | None) -> Tensor:
    """Return ghosts (ghosts, ..., channels) with the sign that they have over a pole."""
    if signs is None:
        return ghosts
    factor = signs.to(ghosts)
    return (
        torch.where(crossed.to(ghosts.device)[:, None], factor, torch.ones_like(factor)).view(
            len(ghosts), *[1] * (ghosts.ndim - 2), len(factor)
        )
        * ghosts
    )


def _check(
    x: Tensor,
    shape: tuple[int, int],
    plan: HaloPlan,
    comm: Communicator,
    signs: Tensor | None,
    name: str,
) -> None:
    if tuple(x.shape[-2:]) != shape:
        raise ValueError(f"{name}: expected last dimensions {shape}, got {tuple(x.shape[-2:])}")
    if len(plan.sent) != comm.size:
        raise ValueError(f"comm: expected the {len(plan.sent)} ranks of the plan, got {comm.size}")
    if signs is not None and (x.ndim < 3 or tuple(signs.shape) != (x.shape[-3],)):
        raise ValueError(
            f"signs: expected one for each channel of {tuple(x.shape)}, got {tuple(signs.shape)}"
        )
