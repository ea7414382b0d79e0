"""Which level lies at a pressure, a height or a depth."""

from __future__ import annotations

import numpy as np

from stormda.io.index import LevelAxis
from stormda.io.units import convert, parse_unit

_SAME = 1e-4
"""How far a level may lie from what was asked for, of its own size: it may be float32."""


def find_level(axis: LevelAxis, value: float, units: str = "") -> int:
    """Return the index of the level at a value.

    Args:
        axis: The levels.
        value: Where.
        units: The units of `value`; empty for those of the axis.

    Raises:
        ValueError: If no level lies there, or the axis measures something else.

    Examples:
        >>> axis = LevelAxis(name="lev", values=np.array([85e3, 50e3]), units="Pa")
        >>> find_level(axis, 500, "hPa")
        1
    """
    if units and not _alike(axis.units, units):
        named = f" ({axis.standard_name})" if axis.standard_name else ""
        unknown = ", whose coefficients are not known" if _is_model_level(axis) else ""
        raise ValueError(
            f"level: expected an axis that converts to {units!r}, got {axis.name!r}{named} with "
            f"{axis.units or 'no units'}{unknown}"
        )
    wanted = float(convert(value, units, axis.units)) if units else value
    near = int(np.argmin(np.abs(axis.values - wanted)))
    if abs(axis.values[near] - wanted) > _SAME * max(abs(wanted), 1e-30):
        raise ValueError(
            f"level: expected one of {axis.values.tolist()} {axis.units}, got {wanted:g}"
        )
    return near


def _alike(one: str, two: str) -> bool:
    return bool(one) and parse_unit(one).dimension == parse_unit(two).dimension


def _is_model_level(axis: LevelAxis) -> bool:
    """Tell whether levels follow the terrain: their pressures need coefficients."""
    return any(kind in axis.standard_name for kind in ("model_level", "hybrid", "sigma"))
