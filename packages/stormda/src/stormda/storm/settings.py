"""Settings as TOML: what `config.toml` beside every prior holds.

Only what TOML can say: texts, numbers, booleans, lists and tables. A value of None is left out,
which is what a reader that starts from defaults needs.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stormda.io import atomic_path


def to_toml(values: Mapping[str, Any], prefix: str = "") -> str:
    """Return nested values as TOML.

    Args:
        values: Texts, numbers, booleans, sequences of these, and mappings of all of them.
        prefix: Name of the table that they stand in.

    Examples:
        >>> print(to_toml({"seed": 1, "network": {"patch": (3, 3), "mixer": "linear"}}))
        seed = 1
        <BLANKLINE>
        [network]
        patch = [3, 3]
        mixer = "linear"
    """
    plain = {k: v for k, v in values.items() if not isinstance(v, Mapping) and v is not None}
    blocks = ["\n".join(f"{_key(k)} = {_value(v)}" for k, v in plain.items())]
    for name, table in values.items():
        if isinstance(table, Mapping):
            path = f"{prefix}{_key(name)}"
            blocks.append(f"[{path}]\n{to_toml(table, f'{path}.')}")
    return "\n\n".join(block for block in blocks if block)


def write_settings(path: Path, values: Mapping[str, Any]) -> None:
    """Write nested values to a TOML file, atomically; an existing file is replaced."""
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(to_toml(values) + "\n", "utf-8")


def read_settings(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ValueError: Where it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: expected TOML, got {error}") from error


def plain(values: Any) -> Any:  # noqa: ANN401
    """Return values as TOML would give them back: lists for tuples, nothing for None.

    Examples:
        >>> plain({"patch": (3, 3), "end": None})
        {'patch': [3, 3]}
    """
    if isinstance(values, Mapping):
        return {k: plain(v) for k, v in values.items() if v is not None}
    if isinstance(values, Sequence) and not isinstance(values, str):
        return [plain(v) for v in values]
    return values


def first_difference(expected: Mapping[str, Any], got: Mapping[str, Any], path: str = "") -> str:
    """Return in one phrase in what `got` differs from `expected`, or "" where it does not.

    Examples:
        >>> first_difference({"network": {"width": 64}}, {"network": {"width": 96}})
        'network.width = 64, got 96'
    """
    for key in [*expected, *(k for k in got if k not in expected)]:
        wanted, present = expected.get(key), got.get(key)
        if isinstance(wanted, Mapping) and isinstance(present, Mapping):
            inner = first_difference(wanted, present, f"{path}{key}.")
            if inner:
                return inner
        elif wanted != present:
            return f"{path}{key} = {wanted}, got {present}"
    return ""


def _key(name: str) -> str:
    bare = name.replace("-", "").replace("_", "").isalnum() and name.isascii()
    return name if bare else json.dumps(name)


def _value(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Sequence):
        return f"[{', '.join(_value(v) for v in value)}]"
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"value: expected a text, number, boolean or list, got {value!r}")
