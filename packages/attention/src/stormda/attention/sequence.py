"""Sequences of tokens that may be larger than memory: anything that is read by slices.

A tensor, a NumPy memory map, an HDF5 or a Zarr array will do, and so will an object of one's own
that computes what it is asked for.
"""

from typing import Any, Protocol

import torch
from torch import Tensor


class Source(Protocol):
    """What tokens are read from."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of entries in each dimension."""
        ...

    def __getitem__(self, index: Any, /) -> Any:  # noqa: ANN401
        """Return the entries at a tuple of an ellipsis and slices, as a tensor or an array."""
        ...


class Sink(Protocol):
    """What tokens are written to."""

    def __setitem__(self, index: Any, value: Any, /) -> None:  # noqa: ANN401
        """Write a tensor, or an array, at a tuple of an ellipsis and slices."""
        ...


def read(source: Source, index: tuple[Any, ...]) -> Tensor:
    """Return a part of `source` as a tensor: a view of a tensor, a copy of anything else.

    Examples:
        >>> read(torch.arange(6).reshape(3, 2), (..., slice(0, 1), slice(None)))
        tensor([[0, 1]])
    """
    part = source[index]
    return part if isinstance(part, Tensor) else torch.tensor(part)


def write(sink: Sink, index: tuple[Any, ...], value: Tensor) -> None:
    """Write `value` into a part of `sink`: as an array into arrays, else as the tensor it is.

    Examples:
        >>> x = torch.zeros(3)
        >>> write(x, (slice(1, 2),), torch.ones(1))
        >>> x
        tensor([0., 1., 0.])
    """
    array = hasattr(sink, "__array__") and not isinstance(sink, Tensor)
    sink[index] = value.detach().cpu().numpy() if array else value
