"""What a STORM prior is made of: one frozen description, stored beside the weights it made."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class StormConfig:
    """The network: tokens of patches, an encoder of the history, a trunk that denoises."""

    variables: tuple[str, ...]
    """Names of the fields, in the order of the variable dimension."""

    history: int = 2
    """How many past frames condition the present one."""

    history_chunk: int = 0
    """Frames of history whose keys are in memory at a time, made anew for every block that reads
    them (`past_frames`); 0 for all, made once."""

    targets: int = 1
    """How many frames are sampled together, the present and those after it (`window`); a token is
    then a patch of all of them."""

    patch: tuple[int, int] = (4, 4)
    """Rows and columns of a patch; a patch is a token."""

    width: int = 128
    """Features of a token."""

    heads: int = 4
    """Attention heads. Divides `width`."""

    encoder_depth: int = 6
    """Blocks that work out what the history leads to, once per analysis."""

    depth: int = 4
    """Blocks of the trunk, passed at every denoising step."""

    mixer: Literal["linear", "tile", "tile+linear", "full", "none"] = "linear"
    """How tokens of one frame mix beside a local convolution: globally at linear cost, in tiles,
    both of these, globally at quadratic cost, or not at all."""

    tile: tuple[int, int] = (8, 8)
    """Rows and columns of tokens in a tile of the mixers `tile` and `tile+linear`."""

    halo: tuple[int, int] = (2, 2)
    """Rows and columns of tokens around a tile that it sees too."""

    network_tiles: tuple[int, int] = (1, 1)
    """Rows and columns of tiles that encoder and trunk take one by one, each as if it were the
    whole field, merged at the end (`network_tiles`); (1, 1) for none."""

    network_halo: tuple[int, int] = (2, 2)
    """Rows and columns of tokens around such a tile that it sees too."""

    network_blend: bool = True
    """Whether such tiles are blended by Hann weights where they overlap; else each is cut to its
    core, which leaves seams."""

    network_batch: int = 1
    """Such tiles, of one size, that are computed together: quicker where tiles are small, in the
    memory of so many."""

    mlp_ratio: float = 4.0
    """Hidden over model width in the multilayer perceptrons."""

    noise_gate: bool = True
    """Whether the noise level weighs space against time in every block; else both are added as
    they are."""

    clock: bool = False
    """Whether the calendar (year phase, time of day) is an input."""

    modes: int = 0
    """Empirical modes whose covariance the denoiser starts from (`modes`); 0 for none, where
    frames are many or cells too many."""

    waves: bool = False
    """Whether the denoiser starts from the spectra of plane waves (`plane_waves`), and what the
    blocks return is scaled in each of them; on a doubly periodic plane, without modes."""

    transport: int = 0
    """Runge-Kutta steps between frames of a learned law of motion (`transport`) that forecasts
    start from; 0 for none. With waves only."""

    def __post_init__(self) -> None:
        if not self.variables or len(set(self.variables)) != len(self.variables):
            raise ValueError(f"variables: expected distinct names, got {self.variables}")
        for name in ("history", "targets", "width", "heads", "depth", "network_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        tiled = self.network_tiles != (1, 1)
        if self.history_chunk < 0 or (self.history_chunk and tiled):
            raise ValueError(
                "history_chunk: expected 0, or a number of frames and no network_tiles, "
                f"got {self.history_chunk} and {self.network_tiles}"
            )
        if self.modes < 0:
            raise ValueError(f"modes: expected a number that is not negative, got {self.modes}")
        if self.waves and self.modes:
            raise ValueError(f"modes: expected 0 with waves=True, got {self.modes}")
        if self.transport < 0 or (self.transport and not self.waves):
            raise ValueError(
                f"transport: expected 0, or steps and waves=True, got {self.transport} and "
                f"waves={self.waves}"
            )
        if self.width % self.heads:
            raise ValueError(f"heads: expected a divisor of width={self.width}, got {self.heads}")

    @property
    def channels(self) -> int:
        """Return how many fields are sampled together, frame after frame."""
        return self.targets * len(self.variables)


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as plain JSON-able values."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build a (nested) dataclass from plain values, refusing names it does not have.

    Args:
        cls: The dataclass.
        values: Its fields; sequences become tuples where the field is a tuple.

    Raises:
        ValueError: Where a name is unknown, or one without a default is missing.

    Examples:
        >>> from_dict(StormConfig, {"variables": ["t2m"], "width": 64}).width
        64
    """
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"{cls.__name__}: expected fields among {sorted(hints)}, got {unknown}")
    if missing := sorted(_required(cls) - set(values)):
        raise ValueError(f"{cls.__name__}: expected the fields {missing}, got none of that name")
    return cls(**{name: _coerce(hints[name], value) for name, value in values.items()})


def _required(cls: type[Any]) -> set[str]:
    """Return the names of the fields of a dataclass that have no default."""
    none = dataclasses.MISSING
    return {
        field.name
        for field in dataclasses.fields(cls)
        if field.default is none and field.default_factory is none
    }


def override(config: T, assignments: Mapping[str, str]) -> T:
    """Return `config` with dotted fields replaced by values parsed from text.

    Args:
        config: A frozen dataclass, possibly nested.
        assignments: Such as {"network.width": "256", "steps": "1000"}.

    Raises:
        ValueError: Where a field does not exist or the text does not parse as its type.

    Examples:
        >>> override(StormConfig(variables=("t2m",)), {"patch": "2,2"}).patch
        (2, 2)
    """
    for path, text in assignments.items():
        config = _replace(config, path, path.split("."), text)
    return config


def _replace(config: Any, path: str, keys: list[str], text: str) -> Any:
    hints = typing.get_type_hints(type(config))
    key = keys[0]
    if key not in hints:
        near = difflib.get_close_matches(key, hints, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"--set {path}: expected a field among {sorted(hints)}, got {key!r}{hint}"
        )
    if len(keys) > 1:
        inner = getattr(config, key)
        if not dataclasses.is_dataclass(inner):
            raise ValueError(f"--set {path}: expected {key!r} to be the last field, got more")
        return dataclasses.replace(config, **{key: _replace(inner, path, keys[1:], text)})
    try:
        value = _parse(hints[key], text)
    except ValueError as error:
        raise ValueError(f"--set {path}: expected {_name(hints[key])}, got {text!r}") from error
    return dataclasses.replace(config, **{key: value})


def _parse(hint: Any, text: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if text.lower() == "none":
            return None
        return _parse(next(a for a in arguments if a is not type(None)), text)
    if origin is tuple:
        parts = [p.strip() for p in text.strip("()[]").split(",") if p.strip()]
        kinds = [arguments[0]] * len(parts) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(parts):
            raise ValueError(f"expected {len(kinds)} values")
        return tuple(_parse(kind, part) for kind, part in zip(kinds, parts, strict=True))
    if origin is Literal:
        if text not in arguments:
            raise ValueError(f"expected one of {arguments}")
        return text
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError("expected true or false")
        return text.lower() == "true"
    return hint(text)


def _coerce(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_dict(typing.cast(type[Any], hint), value)
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(value)
    return value


def _name(hint: Any) -> str:
    return getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint)  # type: ignore[return-value]
