"""A device that is not there: its tensors hold their numbers on the CPU and refuse to meet others.

What PyTorch would refuse on a GPU is refused here too: an operation on tensors of two devices, and
the reading of a tensor of the device as an array. Numbers are those of the CPU, to the last bit.
It changes functions of `torch` for good, so that programs that use it have a process of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

NAME = "meta"
"""What PyTorch takes the device for: one that it knows, and that computes nothing."""

aten = torch.ops.aten
MOVES = {aten.copy_.default, aten._to_copy.default}
"""What takes tensors from one device to the other."""

INDEXED = {
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._index_put_impl_.default,
}
"""What may have its indices on the CPU."""


class There(Tensor):
    """A tensor on the device."""

    own: Tensor

    @staticmethod
    def __new__(cls, own: Tensor) -> There:
        made = Tensor._make_wrapper_subclass(
            cls,
            own.size(),
            strides=own.stride(),
            storage_offset=own.storage_offset(),
            dtype=own.dtype,
            layout=own.layout,
            device=NAME,
        )
        made.own = own
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        return run(func, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """While it lasts, tensors can be moved to the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute on the CPU, and return results that are where PyTorch would have them."""
    leaves = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = [x for x in leaves if isinstance(x, There)]
    refuse_to_mix(func, args, there, leaves)
    given, named = dict(kwargs), kwargs.get("device") is not None
    to_there = torch.device(kwargs["device"]).type == NAME if named else bool(there)
    if func is aten.copy_.default:
        to_there = isinstance(args[0], There)
    if named:
        given["device"] = torch.device("cpu")
    out = func(*tree_map(own, args), **tree_map(own, given))
    if func is aten._local_scalar_dense.default or not to_there:
        return out
    return return_and_correct_aliasing(func, args, kwargs, tree_map(moved, out))


def refuse_to_mix(func: Any, args: Any, there: list[Tensor], leaves: list[Tensor]) -> None:
    """Raise where an operation has tensors of two devices; numbers without dimensions may mix."""
    here = [x for x in leaves if not isinstance(x, There) and x.ndim]
    if not there or not here or func in MOVES:
        return
    if func not in INDEXED or not isinstance(args[0], There):
        shapes = [[tuple(x.shape) for x in some] for some in (there, here)]
        raise RuntimeError(f"{func}: tensors on two devices, {shapes[0]} and {shapes[1]}")


def own(x: Any) -> Any:
    """Return the numbers of a tensor of the device."""
    return x.own if isinstance(x, There) else x


def moved(x: Any) -> Any:
    """Return a tensor on the device."""
    return There(x) if isinstance(x, Tensor) and not isinstance(x, There) else x


def install() -> None:
    """Make what creates and reads tensors outside of the dispatcher know the device."""
    plain, listed, autocast = torch.tensor, Tensor.tolist, torch.autocast
    get, put = Tensor.__getitem__, Tensor.__setitem__

    def tensor(data: Any, *, dtype: Any = None, device: Any = None, **more: Any) -> Tensor:
        made = plain(own(data), dtype=dtype, **more)
        return made if device is None else made.to(device)

    def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
        x = data if isinstance(data, Tensor) else plain(data)
        return x.to(device=device or x.device, dtype=dtype or x.dtype)

    def new_tensor(x: Tensor, data: Any, dtype: Any = None, device: Any = None) -> Tensor:
        return plain(data, dtype=dtype or x.dtype).to(device or x.device)

    def known(index: Any) -> Any:
        if isinstance(index, tuple):
            return tuple(known(one) for one in index)
        return plain(index) if isinstance(index, list) else index

    def on_the_device(kind: str, *args: Any, **more: Any) -> AbstractContextManager[Any]:
        return nullcontext() if kind == NAME else autocast(kind, *args, **more)

    replacements: dict[tuple[Any, str], Callable[..., Any]] = {
        (torch, "tensor"): tensor,
        (torch, "as_tensor"): as_tensor,
        (torch, "autocast"): on_the_device,
        (Tensor, "new_tensor"): new_tensor,
        (Tensor, "tolist"): lambda x: listed(own(x)),
        (Tensor, "__getitem__"): lambda x, index: get(x, known(index)),
        (Tensor, "__setitem__"): lambda x, index, value: put(x, known(index), value),
    }
    for (place, name), function in replacements.items():
        setattr(place, name, function)
