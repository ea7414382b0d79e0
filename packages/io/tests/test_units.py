import numpy as np
import pytest

from stormda.io import convert, parse_unit
from stormda.io.units import temperature_attributes


@pytest.mark.parametrize(
    ("text", "si", "scale", "offset"),
    [
        ("K", "K", 1, 0),
        ("degC", "K", 1, 273.15),
        ("hPa", "Pa", 100, 0),
        ("millibars", "Pa", 100, 0),
        ("m s**-1", "m s-1", 1, 0),
        ("m/s", "m s-1", 1, 0),
        ("m.s-1", "m s-1", 1, 0),
        ("m**2 s**-2", "m2 s-2", 1, 0),
        ("W m^-2", "W m-2", 1, 0),
        ("W/m^2", "W m-2", 1, 0),
        ("g/kg", "kg kg-1", 1e-3, 0),
        ("mb/day", "Pa s-1", 100 / 86400, 0),
        ("mm/hr", "m s-1", 1e-3 / 3600, 0),
        ("knots", "m s-1", 1852 / 3600, 0),
        ("kt h-1", "m s-1 s-1", 1852 / 3600**2, 0),
        ("percent", "1", 0.01, 0),
        ("1e-3 kg", "kg", 1e-3, 0),
        ("m / 10 s", "m s", 0.1, 0),
        ("", "1", 1, 0),
        ("(0 - 1)", "1", 1, 0),
        ("m of water equivalent", "m", 1, 0),
        ("Degree true", "degree", 1, 0),
        ("degrees_north", "degree", 1, 0),
        ("rad", "degree", 180 / np.pi, 0),
        ("degC km-1", "K m-1", 1e-3, 0),
    ],
)
def test_spellings(text, si, scale, offset):
    unit = parse_unit(text)
    assert unit.si == si
    np.testing.assert_allclose([unit.scale, unit.offset], [scale, offset], rtol=1e-15)


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (32.0, "degF", "degC", 0.0),
        (212.0, "degF", "K", 373.15),
        (29.92, "inHg", "hPa", 1013.207589),
        (1.0, "atm", "Pa", 101325.0),
        (1.0, "J", "kg m2 s-2", 1.0),
        (1.0, "Pa", "N m-2", 1.0),
        (1.0, "nmi", "ft", 1852 / 0.3048),
    ],
)
def test_known_conversions(value, source, target, expected):
    # the offsets of temperatures cancel to rounding
    np.testing.assert_allclose(convert(value, source, target), expected, rtol=1e-9, atol=1e-9)


def test_conversion_and_back_is_the_identity():
    x = np.linspace(-50, 50, 11)
    for source, target in (("degF", "K"), ("kt", "km h-1"), ("hPa", "inHg")):
        there = convert(x, source, target)
        np.testing.assert_allclose(convert(there, target, source), x, rtol=1e-12, atol=1e-12)


def test_unknown_unit():
    with pytest.raises(
        ValueError,
        match=r"^units: expected a known unit, got 'kevin' \(did you mean 'kelvin'\?\)$",
    ):
        parse_unit("kevin")


def test_unreadable_unit():
    with pytest.raises(ValueError, match=r"^units: expected a known unit, got '\?\?\?'$"):
        parse_unit("???")


def test_incompatible_units():
    with pytest.raises(
        ValueError, match=r"^units: expected a unit that converts to 'K', got 'hPa'$"
    ):
        convert(1.0, "hPa", "K")


def test_only_temperatures_are_marked_as_such():
    assert temperature_attributes("degC", difference=True) == {
        "units_metadata": "temperature: difference"
    }
    assert temperature_attributes("m", difference=False) == {}
    assert temperature_attributes("kevin", difference=False) == {}
