"""The few operations that NumPy and torch spell differently."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stormda.grid.axis import Floats

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", NDArray[Any], "Tensor")
"""A NumPy array or a torch tensor."""


def concatenate(pieces: Sequence[Array], axis: int) -> Array:
    """Join arrays along one axis.

    Examples:
        >>> concatenate([np.zeros(1), np.ones(2)], axis=0)
        array([0., 1., 1.])
    """
    if len(pieces) == 1:
        return pieces[0]
    if isinstance(pieces[0], np.ndarray):
        return np.concatenate(pieces, axis)
    import torch  # only a tensor leads here

    return torch.cat(list(pieces), axis)


def zeros(shape: Sequence[int], like: Array) -> Array:
    """Return zeros of the kind, type and device of `like`.

    Examples:
        >>> zeros((2,), like=np.ones(3))
        array([0., 0.])
    """
    if isinstance(like, np.ndarray):
        return np.zeros(shape, like.dtype)
    return like.new_zeros(tuple(shape))


def convert(values: Floats, like: Array) -> Array:
    """Return `values` as an array of the kind, type and device of `like`.

    Examples:
        >>> convert(np.array([0.5]), like=np.ones(3, np.float32))
        array([0.5], dtype=float32)
    """
    if isinstance(like, np.ndarray):
        return values.astype(like.dtype, copy=False)
    return like.new_tensor(values)


def cut(x: Array, axis: int, start: int, stop: int) -> Array:
    """Return the cells `start ... stop - 1` along `axis`, which is counted from the last (-1).

    Examples:
        >>> cut(np.arange(6).reshape(2, 3), -1, 1, 3)
        array([[1, 2],
               [4, 5]])
    """
    return x[(slice(None),) * (x.ndim + axis) + (slice(start, stop),)]


def take_range(x: Array, axis: int, start: int, stop: int) -> Array:
    """Return the cells `start ... stop - 1` along `axis`, counted on round the seam.

    Examples:
        >>> take_range(np.arange(4), -1, -1, 2)
        array([3, 0, 1])
    """
    parts = wrapped(start, stop, x.shape[axis])
    return concatenate([cut(x, axis, part.start, part.stop) for part in parts], axis)


def wrapped(start: int, stop: int, n: int) -> list[slice]:
    """Return the contiguous pieces of `start ... stop - 1` on a ring of `n` cells.

    Examples:
        >>> wrapped(-1, 2, 4)
        [slice(3, 4, None), slice(0, 2, None)]
    """
    pieces = []
    while start < stop:
        first = start % n
        length = min(stop - start, n - first)
        pieces.append(slice(first, first + length))
        start += length
    return pieces
