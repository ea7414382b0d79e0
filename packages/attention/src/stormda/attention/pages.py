"""Large results in huge pages, which are kept for the next ones.

The C library gives the memory of a large tensor back to the system as soon as it is dropped, and
what the system hands out instead has to be found, cleared and entered page by page when it is
first written to: that may take longer than the attention. So the memory of large results is kept
here when they are dropped, up to `KEPT` bytes, for results of the same size, as PyTorch itself
does on GPUs. `empty_cache` gives it back.
"""

import ctypes
import mmap
import sys
import weakref
from collections import deque
from contextlib import suppress
from functools import cache
from typing import Any

import torch
from torch import Tensor

LARGE = 2**22
"""Bytes from which on memory is kept, in huge pages where there are any: two of them."""

KEPT = 2**31
"""Bytes that are kept at most."""

_free: deque[Tensor] = deque()
"""What is kept, the longest unused first. Its single operations are safe between threads."""


def result_like(x: Tensor) -> Tensor:
    """Return a contiguous tensor of the shape, dtype and device of `x`, yet to be written.

    Its storage cannot be resized if it is large.

    Examples:
        >>> result_like(torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """
    size = x.numel() * x.element_size()
    if size < LARGE or x.device.type != "cpu" or type(x) is not Tensor:
        return torch.empty_like(x, memory_format=torch.contiguous_format)
    memory = _found(size)
    if memory is None:
        memory = _new(size)
    lent = memoryview((ctypes.c_char * size).from_address(memory.data_ptr()))
    # The result holds on to what was lent, and nothing else does.
    weakref.finalize(lent, _keep, memory).atexit = False
    return torch.frombuffer(lent, dtype=x.dtype).view(x.shape)


def empty_cache() -> None:
    """Give the memory that is kept for large results back to the system.

    Examples:
        >>> empty_cache()
    """
    _free.clear()


def _found(size: int) -> Tensor | None:
    """Return memory of this size that is kept, if there is any."""
    for _ in range(len(_free)):
        try:
            memory = _free.pop()
        except IndexError:  # another thread took the last
            return None
        if memory.numel() == size:
            return memory
        _free.appendleft(memory)
    return None


def _keep(memory: Tensor) -> None:
    """Keep memory for the next result, and drop what has been unused for longest."""
    _free.append(memory)
    with suppress(IndexError):  # another thread dropped the last
        while sum(m.numel() for m in tuple(_free)) > KEPT:
            _free.popleft()


def _new(size: int) -> Tensor:
    """Return memory in huge pages, where Linux hands those out on request."""
    made = torch.empty(size, dtype=torch.uint8)
    if sys.platform == "linux":
        start = -(-made.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        end = made.data_ptr() + size
        # No more than advice: a kernel without huge pages refuses it, and nothing is lost.
        _c().madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_HUGEPAGE)
    return made


@cache
def _c() -> Any:  # noqa: ANN401
    return ctypes.CDLL(None)
