"""The few operations that NumPy, torch and lazy arrays spell differently."""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import einops
import numpy as np
from numpy.typing import NDArray

from stormda.grid.axis import Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", NDArray[Any], "Tensor")
"""A NumPy array or a torch tensor."""


class Sliceable(Protocol):
    """An array that need not be in memory: slices of it become arrays."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes."""

    def __getitem__(self, key: Any, /) -> Any:  # noqa: ANN401
        """Return a part of it, by slices, and on lists by one array of increasing numbers."""


def in_memory(x: Array) -> NDArray[Any] | None:
    """Return the array whose memory NumPy may read for torch; None if only torch may.

    That is so on other devices, in precisions that NumPy does not know, and wherever torch has to
    see what is done: for gradients, in its transforms, and while it compiles.

    Examples:
        >>> in_memory(np.ones(2))
        array([1., 1.])
    """
    if isinstance(x, np.ndarray):
        return x
    if not hasattr(x, "index_select"):
        return None
    import torch
    from torch.autograd.forward_ad import unpack_dual

    if torch.compiler.is_compiling() or unpack_dual(x).tangent is not None:  # type: ignore[no-untyped-call]
        return None
    try:
        return x.numpy()
    except (RuntimeError, TypeError):
        return None


def as_kind(values: NDArray[Any], like: Array) -> Array:
    """Return an array of NumPy's as one of the kind of `like`, in the same memory.

    Examples:
        >>> as_kind(np.ones(2), like=np.zeros(3))
        array([1., 1.])
    """
    if isinstance(like, np.ndarray):
        return values
    import torch

    return torch.from_numpy(values)


def concatenate(pieces: Sequence[Array], axis: int) -> Array:
    """Join arrays along one axis.

    Examples:
        >>> concatenate([np.zeros(1), np.ones(2)], axis=0)
        array([0., 1., 1.])
    """
    if len(pieces) == 1:
        return pieces[0]
    parts: list[Any] = list(pieces)
    if hasattr(parts[0], "index_select"):  # a tensor
        import torch

        values: Any = torch.cat(parts, axis)
    else:
        values = np.concatenate(parts, axis)  # lazy arrays bring their own
    joined: Array = values
    return joined


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


def flip(x: Array, axis: int) -> Array:
    """Return the cells along `axis` in reverse.

    Examples:
        >>> flip(np.arange(3), -1)
        array([2, 1, 0])
    """
    values: Any = x
    flipped: Array = values.flip(axis) if hasattr(x, "index_select") else np.flip(values, axis)
    return flipped


def negate(x: Array, variables: Sequence[int]) -> Array:
    """Return fields (..., variable, rows, cols) with some variables of the other sign.

    Examples:
        >>> negate(np.ones((3, 1, 1)), [1]).ravel()
        array([ 1., -1.,  1.])
    """
    if not variables:
        return x
    parts = [cut(x, -3, v, v + 1) for v in range(x.shape[-3])]
    return concatenate([-part if v in variables else part for v, part in enumerate(parts)], -3)


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


def gather(x: Array, index: Ints) -> Array:
    """Return the cells `index` (n,) of the last axis.

    Examples:
        >>> gather(np.array([1.0, 2.0, 3.0]), np.array([2, 0]))
        array([3., 1.])
    """
    values: Any = x
    if hasattr(x, "index_select"):  # a tensor
        import torch

        values = values.index_select(-1, torch.as_tensor(index, device=values.device))
    else:
        values = values[..., index]
    gathered: Array = values
    return gathered


def rearrange(x: Array, pattern: str, /, **sizes: int) -> Array:
    """Move axes as `einops.rearrange` does, also of arrays that einops does not know.

    Others, such as dask's, need only `reshape` and `transpose`. Their patterns have "..." first
    on both sides and parentheses one deep.

    Examples:
        >>> rearrange(np.arange(4), "(r y) -> y r", y=2)
        array([[0, 2],
               [1, 3]])
    """
    if isinstance(x, np.ndarray) or hasattr(x, "index_select"):
        return einops.rearrange(x, pattern, **sizes)
    moved: Array = _by_transposing(x, pattern, sizes)
    return moved


def _by_transposing(x: Any, pattern: str, sizes: dict[str, int]) -> Any:  # noqa: ANN401
    before, after = ([group.split() for group in _terms(side)] for side in pattern.split("->"))
    lead = x.ndim - len(before) + 1
    lengths = dict(sizes)
    for group, length in zip(before[1:], x.shape[lead:], strict=True):
        known = math.prod(lengths.get(name, 1) for name in group)
        lengths |= {name: length // known for name in group if name not in lengths}
    flat = [name for group in before[1:] for name in group]
    moved = [lead + flat.index(name) for group in after[1:] for name in group]
    x = x.reshape(x.shape[:lead] + tuple(lengths[name] for name in flat))
    x = x.transpose((*range(lead), *moved))
    joined = tuple(math.prod(lengths[name] for name in group) for group in after[1:])
    return x.reshape(x.shape[:lead] + joined)


def _terms(side: str) -> list[str]:
    """Split one side of a pattern: "... (t f) v" -> ["...", "t f", "v"]."""
    return [inner or single for inner, single in re.findall(r"\(([^)]*)\)|(\S+)", side)]
