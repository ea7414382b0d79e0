"""A window of several frames that are sampled together, as the increments from one to the next.

    w_t = (z_{k+t} - z_{k+t-1}) / increment,    t = 0 ... T - 1,    z_{k-1} the newest of the past

so that every increment has unit variance, whatever the number of frames, and what is wrong with
the past is mended by the first of them. A window stands in the dimension of the variables, frame
after frame: its channels. With one frame the channels are the variables.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, cat


def frames_of(x: Tensor, variables: int) -> Tensor:
    """Return the frames of windows: (batch, frames * variables, ...) with a dimension of its own.

    Examples:
        >>> from torch import zeros
        >>> frames_of(zeros(2, 6, 4, 4), 3).shape
        torch.Size([2, 2, 3, 4, 4])
    """
    return rearrange(x, "b (t v) ... -> b t v ...", v=variables)


def to_increments(z: Tensor, last: Tensor, increment: Tensor) -> Tensor:
    """Return the increments w that lead from a past through the frames of a window.

    Args:
        z: Normalised windows, (batch, frames * variables, *grid.shape).
        last: The newest frame of the past, (batch, variables, *grid.shape).
        increment: Size of an increment, (variables, 1, 1), or (variables, 1) on a list of cells.

    Examples:
        >>> from torch import ones
        >>> z = ones(1, 3, 1) * ones(3).cumsum(0)[:, None] ** 2
        >>> to_increments(z, last=ones(1, 1, 1), increment=2 * ones(1, 1)).flatten()
        tensor([0.0000, 1.5000, 2.5000])
    """
    frames = frames_of(z, last.shape[1])
    before = cat([last[:, None], frames[:, :-1]], 1)
    return ((frames - before) / increment).flatten(1, 2)


def from_increments(w: Tensor, last: Tensor, increment: Tensor) -> Tensor:
    """Return the frames z that increments lead to: the inverse of `to_increments`."""
    steps = increment * frames_of(w, last.shape[1])
    return (last[:, None] + steps.cumsum(1)).flatten(1, 2)


def accumulated(size: Tensor, variables: int) -> Tensor:
    """Return the size of what independent increments add up to in every frame.

    Args:
        size: Of the increments of one window, (frames * variables, ...).
        variables: How many there are.

    Examples:
        >>> from torch import tensor
        >>> accumulated(tensor([3.0, 4.0]), 1)
        tensor([3., 5.])
    """
    return frames_of(size[None], variables).square().cumsum(1).sqrt().flatten(1, 2)[0]
