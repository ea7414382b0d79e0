"""Stored numbers to physical values and a mask of the valid ones.

    compare with fill values -> compare with the valid range -> unpack -> convert units

Both comparisons are made on the numbers as they are stored, and each file is decoded by its own
attributes: packing differs between files, and fill values do not survive scaling. The arithmetic
is float64; the result is cast to float32 once.

Source: CF Conventions 1.11, sections 2.5.1 and 8.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stormda.io.units import Unit

DEFAULT_FILL = 9.969209968386869e36
"""What the NetCDF library leaves in a float that nobody wrote (netcdf.h, NC_FILL_FLOAT)."""

PACKING = (
    "_FillValue",
    "missing_value",
    "scale_factor",
    "add_offset",
    "valid_range",
    "valid_min",
    "valid_max",
    "_Unsigned",
)
"""The attributes that say how stored numbers are decoded."""

_CODES = ("_FillValue", "missing_value")

Attributes = Mapping[str, object]


class Decoded(NamedTuple):
    """Values beside what is known of them."""

    values: NDArray[np.float32]
    """The values, 0 where they are missing."""

    valid: NDArray[np.bool_]
    """Where they are not missing."""

    ends: tuple[float, float] | None = None
    """The smallest and the largest value, if they are known already."""


def decode(
    raw: NDArray[Any], attributes: Attributes, unit: Unit | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return a stored array as float32 values and the mask of the valid ones.

    Args:
        raw: The stored numbers, any shape.
        attributes: The variable's own attributes.
        unit: The unit they are converted from, to SI; None leaves them as they are.

    Returns:
        Values, 0 where they are missing, and a bool mask, True where they are valid. Values that
        decoding does not change are `raw` itself.

    Raises:
        ValueError: If the packing is not usable or a valid value is infinite.

    Examples:
        >>> raw = np.array([0, 100, -999], np.int16)
        >>> decode(raw, {"scale_factor": 0.1, "_FillValue": np.int16(-999)}, None)
        (array([ 0., 10.,  0.], dtype=float32), array([ True,  True, False]))
    """
    return Decoder(attributes, unit)(raw)[:2]


@dataclass(frozen=True, eq=False)
class Decoder:
    """Decodes numbers of one variable, block by block."""

    attributes: Attributes
    """The variable's own attributes."""

    unit: Unit | None
    """The unit they are converted from, to SI; None leaves them as they are."""

    def __call__(self, raw: NDArray[Any]) -> Decoded:
        """Return what `decode` does, and the ends of the values where looking for them is done."""
        if raw.dtype.kind == "f" and raw.dtype.itemsize == 4 and not self._changes:
            return self._decode_plain(raw)
        values, valid = decode_exactly(raw, self.attributes)
        if self.unit is not None:
            values = self.unit.to_si(values)
        with np.errstate(over="ignore"):  # an overflow is reported below, with its place
            result = np.where(valid, values, 0.0).astype(np.float32)
        _require_finite(result, values)
        return Decoded(result, valid)

    @cached_property
    def _changes(self) -> bool:
        """Whether valid values differ from what is stored."""
        converted = self.unit is not None and (self.unit.scale, self.unit.offset) != (1.0, 0.0)
        return converted or any(n in self.attributes for n in PACKING if n not in _CODES)

    @cached_property
    def _codes(self) -> tuple[float, ...]:
        """What stands for missing, beside NaN and the library's default, in float32."""
        codes = [code for name in _CODES for code in _numbers(self.attributes, name)]
        return tuple(_as_stored(c, np.dtype(np.float32)) for c in codes if not math.isnan(c))

    def _decode_plain(self, raw: NDArray[Any]) -> Decoded:
        """Decode float32 that nothing changes without the way over float64, to the same result."""
        values = raw.astype(np.float32, copy=False)
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        sound = math.isfinite(low) and math.isfinite(high) and high < DEFAULT_FILL / 2
        if sound and not any(low <= code <= high for code in self._codes):
            return Decoded(values, np.ones(values.shape, bool), (low, high))
        valid = ~_filled(raw, self.attributes)
        values = np.where(valid, values, np.float32(0))
        _require_finite(values, values)
        return Decoded(values, valid)


def _require_finite(result: NDArray[np.float32], values: NDArray[Any]) -> None:
    """Raise where a result is infinite, with the value that it came from."""
    if not np.isfinite(result).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(result))[0])
        raise ValueError(f"expected finite values, got {values[where]} at index {where}")


def decode_exactly(
    raw: NDArray[Any], attributes: Attributes
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return a stored array unpacked in float64, and the mask of the valid values.

    Examples:
        >>> decode_exactly(np.array([1.0, np.nan]), {"add_offset": 2.0})
        (array([ 3., nan]), array([ True, False]))
    """
    raw = _unsigned(raw, attributes)
    scale, offset = _packing(attributes)
    valid = ~_filled(raw, attributes)
    values = raw.astype(np.float64) * scale + offset
    low, high = _valid_range(attributes)
    if low is not None or high is not None:
        unpacked = _unpacked_range_type(raw, attributes)
        valid &= _between(raw if unpacked is None else values.astype(unpacked), low, high)
    return values, valid


def _unsigned(raw: NDArray[Any], attributes: Attributes) -> NDArray[Any]:
    """Reinterpret NetCDF-3's signed integers where `_Unsigned` says so."""
    if str(attributes.get("_Unsigned", "")).lower() != "true" or raw.dtype.kind != "i":
        return raw
    return raw.astype(raw.dtype.newbyteorder("=")).view(f"u{raw.dtype.itemsize}")


def _packing(attributes: Attributes) -> tuple[float, float]:
    scale = _number(attributes, "scale_factor", 1.0)
    offset = _number(attributes, "add_offset", 0.0)
    if not np.isfinite(scale) or scale == 0.0:
        raise ValueError(f"scale_factor: expected a finite number other than 0, got {scale}")
    if not np.isfinite(offset):
        raise ValueError(f"add_offset: expected a finite number, got {offset}")
    return scale, offset


def _filled(raw: NDArray[Any], attributes: Attributes) -> NDArray[np.bool_]:
    """Tell which numbers stand for missing: NaN, the file's own codes, the library's default."""
    codes = [DEFAULT_FILL] if raw.dtype.kind == "f" else []
    for name in _CODES:
        codes += _numbers(attributes, name)
    missing = np.isnan(raw) if raw.dtype.kind == "f" else np.zeros(raw.shape, bool)
    for code in codes:
        missing |= raw == _as_stored(code, raw.dtype)
    return missing


def _as_stored(code: float, dtype: np.dtype[Any]) -> float:
    """Round a code to what the array's type can hold, so that 1e20 equals a stored 1e20."""
    with np.errstate(over="ignore"):
        return float(np.float64(code).astype(dtype)) if dtype.kind == "f" else code


def _valid_range(attributes: Attributes) -> tuple[float | None, float | None]:
    limits = _numbers(attributes, "valid_range")
    if len(limits) == 2:
        return limits[0], limits[1]
    low, high = _numbers(attributes, "valid_min"), _numbers(attributes, "valid_max")
    return (low[0] if low else None), (high[0] if high else None)


def _unpacked_range_type(raw: NDArray[Any], attributes: Attributes) -> np.dtype[Any] | None:
    """Return the type of a valid range of unpacked numbers; None if it is of stored ones.

    A range of packed integers is of unpacked numbers if it is floating.
    """
    names = ("valid_range", "valid_min", "valid_max")
    kind = np.result_type(*(np.asarray(attributes[name]) for name in names if name in attributes))
    packed = "scale_factor" in attributes or "add_offset" in attributes
    return kind if packed and raw.dtype.kind in "iu" and kind.kind == "f" else None


def _between(values: NDArray[Any], low: float | None, high: float | None) -> NDArray[np.bool_]:
    inside = np.ones(values.shape, bool)
    if low is not None:
        inside &= values >= _as_stored(low, values.dtype)
    if high is not None:
        inside &= values <= _as_stored(high, values.dtype)
    return inside


def _number(attributes: Attributes, name: str, default: float) -> float:
    numbers = _numbers(attributes, name)
    return numbers[0] if numbers else default


def _numbers(attributes: Attributes, name: str) -> list[float]:
    """Return an attribute's numbers; none where it is absent or is text."""
    if name not in attributes:
        return []
    array = np.atleast_1d(np.asarray(attributes[name]))
    return [float(x) for x in array.ravel()] if array.dtype.kind in "iuf" else []
