"""Units of measure as affine maps to SI.

    x_si = scale * x + offset

A small table, not a units library: the names that Earth-system files use, their products and
powers (`m s**-1`, `kg m-2 s-1`, `W/m^2`). Angles stay in degrees, as in the CF conventions.
A temperature inside a product is a difference (`degC km-1`), so its offset is dropped.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_SPELLINGS: dict[tuple[str, float, float], str] = {
    ("1", 1, 0): "1 unitless dimensionless none fraction ratio (0_-_1)",
    ("1", 1e-2, 0): "% percent",
    ("K", 1, 0): "K kelvin kelvins degK deg_K degree_K degrees_K",
    ("K", 1, 273.15): "degC deg_C degree_C degrees_C C celsius degree_Celsius degrees_Celsius °C",
    ("K", 5 / 9, 273.15 - 160 / 9): "degF deg_F degree_F degrees_F F fahrenheit",
    ("Pa", 1, 0): "Pa pascal pascals",
    ("Pa", 1e2, 0): "hPa mb mbar millibar millibars hectopascal",
    ("Pa", 1e3, 0): "kPa",
    ("Pa", 1e4, 0): "dbar decibar",
    ("Pa", 1e5, 0): "bar",
    ("Pa", 101325, 0): "atm",
    ("Pa", 3386.389, 0): "inHg",
    ("m", 1, 0): "m meter meters metre metres gpm m_of_water_equivalent",
    ("m", 1e3, 0): "km kilometer kilometers kilometre kilometres",
    ("m", 1e1, 0): "dam gpdm",
    ("m", 1e-2, 0): "cm centimeter centimeters",
    ("m", 1e-3, 0): "mm millimeter millimeters millimetre millimetres",
    ("m", 1e-6, 0): "um micron microns micrometer micrometers",
    ("m", 0.3048, 0): "ft foot feet",
    ("m", 0.0254, 0): "in inch inches",
    ("m", 1852, 0): "nmi nautical_mile nautical_miles",
    ("s", 1, 0): "s sec secs second seconds",
    ("s", 1e-3, 0): "ms msec millisecond milliseconds",
    ("s", 1e-6, 0): "us microsecond microseconds",
    ("s", 1e-9, 0): "ns nanosecond nanoseconds",
    ("s", 60, 0): "min mins minute minutes",
    ("s", 3600, 0): "h hr hrs hour hours",
    ("s", 86400, 0): "d day days",
    ("kg", 1, 0): "kg kilogram kilograms",
    ("kg", 1e-3, 0): "g gram grams",
    ("kg", 1e-6, 0): "mg milligram milligrams",
    ("m s-1", 1852 / 3600, 0): "kt kts knot knots",
    ("degree", 1, 0): (
        "degree degrees deg degree_true degrees_true deg_true degree_north degrees_north "
        "degree_N degrees_N degreeN degreesN degree_east degrees_east degree_E degrees_E "
        "degreeE degreesE"
    ),
    ("degree", 180 / math.pi, 0): "rad radian radians",
    ("W", 1, 0): "W watt watts",
    ("J", 1, 0): "J joule joules",
    ("N", 1, 0): "N newton newtons",
    ("mol", 1, 0): "mol mole moles",
    ("Hz", 1, 0): "Hz hertz",
}

_TABLE = {name: unit for unit, names in _SPELLINGS.items() for name in names.split()}
_LOWER = {name.lower(): unit for name, unit in _TABLE.items() if len(name) > 3}

_DERIVED = {
    "Pa": {"kg": 1, "m": -1, "s": -2},
    "N": {"kg": 1, "m": 1, "s": -2},
    "J": {"kg": 1, "m": 2, "s": -2},
    "W": {"kg": 1, "m": 2, "s": -3},
    "Hz": {"s": -1},
    "1": {},
}

_FACTOR = re.compile(
    r"(?P<name>[A-Za-z_%°]+)(?:\*\*|\^)?(?P<power>[+-]?\d+)?"
    r"|(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
)


@dataclass(frozen=True)
class Unit:
    """A unit of measure, as the map from its values to SI values."""

    si: str
    """The SI unit of the same dimension, in CF spelling (`"m s-1"`)."""

    scale: float
    """SI units in one of these."""

    offset: float = 0.0
    """The SI value of this unit's zero."""

    @property
    def dimension(self) -> dict[str, int]:
        """The powers of the base units: what decides whether two units convert."""
        powers: Counter[str] = Counter()
        for symbol, power, _ in _factors(self.si):
            for base, exponent in _DERIVED.get(symbol, {symbol: 1}).items():
                powers[base] += exponent * power
        return {base: power for base, power in sorted(powers.items()) if power}

    def to_si(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return values of this unit in SI, in float64.

        Examples:
            >>> parse_unit("degC").to_si([0.0, 25.0])
            array([273.15, 298.15])
        """
        return np.asarray(values, np.float64) * self.scale + self.offset


def parse_unit(text: str) -> Unit:
    """Read a unit's spelling.

    Args:
        text: A name, product, power or quotient: `"hPa"`, `"m s**-1"`, `"W/m^2"`, `"g/kg"`; blank
            for a pure number.

    Returns:
        The unit, with its SI counterpart.

    Raises:
        ValueError: If a name is not in the table.

    Examples:
        >>> parse_unit("hPa")
        Unit(si='Pa', scale=100.0, offset=0.0)
        >>> parse_unit("mm/day").si
        'm s-1'
    """
    named = _find("_".join(text.split()) or "1")
    if named is not None:
        si, scale, offset = named
        return Unit(si, float(scale), float(offset))
    scale, powers = 1.0, []
    for name, power, number in _factors(text):
        factor = _find(name)
        if factor is None:
            raise _unknown(name, text)
        si, one, _ = factor
        scale *= number * one**power
        powers += [(symbol, exponent * power) for symbol, exponent, _ in _factors(si)]
    return Unit(_spelled(powers), scale)


def temperature_attributes(units: str, *, difference: bool) -> dict[str, str]:
    """Return the CF attribute that says how a temperature is meant; none for anything else.

    Source: CF Conventions 1.11, section 3.1.2.

    Args:
        units: The units of a variable.
        difference: Whether it is a difference, such as an error, or a point on the scale.

    Examples:
        >>> temperature_attributes("degC", difference=False)
        {'units_metadata': 'temperature: on_scale'}
    """
    try:
        temperature = parse_unit(units).dimension == {"K": 1}
    except ValueError:
        temperature = False
    kind = "difference" if difference else "on_scale"
    return {"units_metadata": f"temperature: {kind}"} if temperature else {}


def convert(values: ArrayLike, source: str, target: str) -> NDArray[np.float64]:
    """Return values given in the unit `source` in the unit `target`, in float64.

    Args:
        values: Any shape.
        source: The unit that they are in.
        target: The unit wanted.

    Raises:
        ValueError: If a unit is unknown or the two measure different things.

    Examples:
        >>> convert([1013.25], "hPa", "kPa")
        array([101.325])
    """
    one, other = parse_unit(source), parse_unit(target)
    if one.dimension != other.dimension:
        raise ValueError(f"units: expected a unit that converts to {target!r}, got {source!r}")
    return (one.to_si(values) - other.offset) / other.scale


def _factors(text: str) -> list[tuple[str, int, float]]:
    """Split a product into (name, power, number); a slash inverts the factor that follows."""
    spaced = re.sub(r"(?<=[A-Za-z0-9])\.(?=[A-Za-z])|(?<!\*)\*(?!\*)", " ", text)
    factors, sign = [], 1
    for token in re.findall(r"/|[^\s/]+", spaced):
        if token == "/":
            sign = -1
            continue
        match = _FACTOR.fullmatch(token)
        if match is None:
            raise _unknown(token, text)
        name, power, number = match["name"] or "1", int(match["power"] or 1), match["number"] or 1
        factors.append((name, sign * power, float(number) ** sign))
        sign = 1
    return factors


def _spelled(powers: list[tuple[str, int]]) -> str:
    """Return the CF spelling of a product of SI units."""
    named = [(symbol, power) for symbol, power in powers if symbol != "1"]
    return " ".join(f"{s}{p}" if p != 1 else s for s, p in named) or "1"


def _find(name: str) -> tuple[str, float, float] | None:
    return _TABLE.get(name) or _LOWER.get(name.lower())


def _unknown(name: str, text: str) -> ValueError:
    near = difflib.get_close_matches(name, _TABLE, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return ValueError(f"units: expected a known unit, got {text!r}{hint}")
