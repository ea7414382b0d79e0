"""Large results in huge pages, where Linux hands those out on request.

The C library gives the memory of a large tensor back as soon as it is dropped. The next one comes
in pages of 4 KiB, each found, cleared and entered by the kernel when it is first written to: that
may take longer than the attention. In pages of 2 MiB it does not.
"""

import ctypes
import mmap
import sys
from functools import cache
from typing import Any

import torch
from torch import Tensor

LARGE = 2**22
"""Bytes from which on it is worth asking: two huge pages."""


def result_like(x: Tensor) -> Tensor:
    """Return an empty contiguous tensor of the shape, dtype and device of `x`.

    Examples:
        >>> result_like(torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """
    made = torch.empty_like(x, memory_format=torch.contiguous_format)
    size = made.numel() * made.element_size()
    if size >= LARGE and made.device.type == "cpu" and sys.platform == "linux":
        start = -(-made.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        end = made.data_ptr() + size
        # No more than advice: a kernel without huge pages refuses it, and nothing is lost.
        _c().madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_HUGEPAGE)
    return made


@cache
def _c() -> Any:  # noqa: ANN401
    return ctypes.CDLL(None)
