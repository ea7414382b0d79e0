"""What the attention functions ask of their arguments, and the precision they compute in."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def check_heads(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raise unless `q (..., h, n, d)`, `k (..., h, m, d)`, `v (..., h, m, e)` belong together."""
    if q.ndim < 3:
        raise ValueError(f"q: expected (..., h, n, d), got {tuple(q.shape)}")
    if k.ndim < 3 or k.shape[-1] != q.shape[-1]:
        raise ValueError(
            f"k: expected (..., h, m, d) with the d of q {tuple(q.shape)}, got {tuple(k.shape)}"
        )
    if v.ndim < 3 or v.shape[-2] != k.shape[-2]:
        raise ValueError(
            f"v: expected (..., h, m, e) with the m of k {tuple(k.shape)}, got {tuple(v.shape)}"
        )


def check_keys(tokens: int, weight: Tensor | None, mask: Tensor | None) -> None:
    """Raise unless `weight` and the boolean `mask` end in the number of keys, or in 1."""
    for name, values in {"weight": weight, "mask": mask}.items():
        if values is not None and (values.ndim < 1 or values.shape[-1] not in (1, tokens)):
            raise ValueError(
                f"{name}: expected (*batch, m) with m={tokens} keys, got {tuple(values.shape)}"
            )
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"mask: expected dtype torch.bool, got {mask.dtype}")


def check_shape(tokens: int, shape: tuple[int, int]) -> None:
    """Raise unless the tokens fill the grid `shape` of rows and columns."""
    if len(shape) != 2 or min(shape) < 1 or shape[0] * shape[1] != tokens:
        raise ValueError(f"shape: expected (rows, columns) of {tokens} tokens, got {shape}")


def wide(x: Tensor) -> Tensor:
    """Return `x` in the dtype that sums are kept in: float32 for half types."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def exactly(x: Tensor) -> AbstractContextManager[None]:
    """Switch autocast off on the device of `x`, so that sums stay in the dtype they are given."""
    device = x.device.type
    if not torch.amp.is_autocast_available(device):  # such as "meta"
        return nullcontext()
    return torch.autocast(device, enabled=False)
