"""A training state as a JSON document and a flat table of tensors, exactly and without pickle.

A state is nested dicts, lists and tuples whose leaves are tensors, numbers, strings, booleans and
None: what `state_dict()` of a module, an optimizer or a sampler returns. JSON knows neither tuples
nor integer keys nor infinities, so every container carries its kind and every float its bits:

    {"lr": 0.1, "betas": (0, 1)}  ->  {"dict": [["lr", {"float": "0x1.999999999999ap-4"}],
                                                ["betas", {"tuple": [0, 1]}]]}
    {"w": tensor}                 ->  {"dict": [["w", {"tensor": "w"}]]}  and  {"w": tensor}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_STORABLE = frozenset(
    {
        *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
        *(torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16),
        *(torch.float32, torch.float64, torch.complex64),
    }
)


def flatten_state(state: object) -> tuple[Any, dict[str, Tensor]]:
    """Split a nested state into a JSON-able document and its tensors, named by their paths.

    Args:
        state: Nested dicts (keys: strings or integers), lists and tuples of tensors, booleans,
            integers, floats, strings and None.

    Returns:
        The document, and the tensors it names, as they came (same device, same storage).

    Raises:
        ValueError: If a leaf, a key or a tensor is of a kind that cannot be stored exactly.

    Examples:
        >>> document, tensors = flatten_state({"layer": {"weight": torch.zeros(2)}, "step": 3})
        >>> document
        {'dict': [['layer', {'dict': [['weight', {'tensor': 'layer/weight'}]]}], ['step', 3]]}
        >>> list(tensors)
        ['layer/weight']
    """
    tensors: dict[str, Tensor] = {}
    return _encode(state, (), tensors), tensors


def restore_state(document: Any, tensors: Mapping[str, Tensor]) -> Any:  # noqa: ANN401
    """Put a state together again from what `flatten_state` returned.

    Args:
        document: The document.
        tensors: The tensors it names.

    Returns:
        The state, with every container of its own kind and every number of the same bits.

    Examples:
        >>> restore_state(*flatten_state({0: [1.5, (True, None)], "w": torch.ones(2)}))
        {0: [1.5, (True, None)], 'w': tensor([1., 1.])}
    """
    if not isinstance(document, dict):
        return document
    ((kind, content),) = document.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "float":
            return float.fromhex(content)
        case "dict":
            return {key: restore_state(value, tensors) for key, value in content}
        case "list":
            return [restore_state(value, tensors) for value in content]
        case "tuple":
            return tuple(restore_state(value, tensors) for value in content)
    raise ValueError(f"document: expected dict, list, tuple, float or tensor, got {kind!r}")


def _encode(value: object, path: tuple[object, ...], tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return {"float": value.hex()}
        case Tensor():
            return {"tensor": _register(value, path, tensors)}
        case Mapping():
            return {
                "dict": [
                    [_key(k, path), _encode(v, (*path, k), tensors)] for k, v in value.items()
                ]
            }
        case list() | tuple():
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [_encode(v, (*path, i), tensors) for i, v in enumerate(value)]}
    raise ValueError(
        "state: expected tensors, numbers, strings, booleans or None in dicts, lists and tuples, "
        f"got {type(value).__name__} at {_name(path)!r}"
    )


def _key(key: object, path: tuple[object, ...]) -> str | int:
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise ValueError(
            f"state: expected strings or integers as keys, got {key!r} at {_name(path)!r}"
        )
    return key


def _register(tensor: Tensor, path: tuple[object, ...], tensors: dict[str, Tensor]) -> str:
    """Enter a tensor under its path; the rare path that is taken already gets a tick."""
    name = _name(path)
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout is not torch.strided:
        raise ValueError(
            f"state: expected plain dense tensors, got {type(tensor).__name__} of layout "
            f"{tensor.layout} at {name!r}"
        )
    if tensor.dtype not in _STORABLE or tensor.is_meta:
        raise ValueError(
            f"state: expected tensors with data of a dtype that safetensors stores, got "
            f"{tensor.dtype} on {tensor.device} at {name!r}"
        )
    while name in tensors:
        name += "'"
    tensors[name] = tensor
    return name


def _name(path: tuple[object, ...]) -> str:
    return "/".join(map(str, path))
