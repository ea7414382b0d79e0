"""Tensors in safetensors files, whole or box by box; needs no NumPy and runs no code of a file."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

from safetensors import TensorSpec, serialize_file
from torch import Tensor


def packed(x: Tensor) -> Tensor:
    """Return a tensor's numbers on the CPU, contiguous and without lazy flags.

    Examples:
        >>> import torch
        >>> packed(torch.eye(2)[:, 0]).stride()
        (1,)
    """
    return x.detach().cpu().resolve_conj().resolve_neg().contiguous()


def bytes_of(x: Tensor) -> ctypes.Array[ctypes.c_char]:
    r"""Return a view of the bytes of a packed tensor, as long as the tensor lives.

    Examples:
        >>> import torch
        >>> x = torch.tensor([1, 2], dtype=torch.uint8)
        >>> bytes(bytes_of(x))
        b'\x01\x02'
    """
    return (ctypes.c_char * x.nbytes).from_address(x.data_ptr())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file; `safetensors.torch.save_file` would need NumPy for it.

    Args:
        path: The file.
        tensors: What it is to hold, by name.
    """
    kept = {name: packed(tensor) for name, tensor in tensors.items()}
    specs = {
        name: TensorSpec(
            dtype=str(tensor.dtype).removeprefix("torch."),
            shape=list(tensor.shape),
            data_ptr=tensor.data_ptr(),
            data_len=tensor.nbytes,
        )
        for name, tensor in kept.items()
    }
    serialize_file(specs, path)
