"""Times as `datetime64[s]`, from and to the CF form "number of units since a date".

The arithmetic is in whole seconds of the Gregorian calendar. Months and years are no fixed
lengths of time and are refused, as are model calendars that have other days than the Gregorian.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.io.calendars import seconds_since_1970
from stormda.io.units import parse_unit

EPOCH_UNITS = "seconds since 1970-01-01 00:00:00"
"""The units of the times that this package writes."""

_REFERENCE = re.compile(
    r"\s*(?P<unit>[A-Za-z]+)\s+since\s+(?P<year>\d{1,4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})"
    r"(?:[T\s]+(?P<hour>\d{1,2})(?::(?P<minute>\d{1,2}))?(?::(?P<second>\d{1,2}(?:\.\d*)?))?)?"
    r"\s*(?:Z|UTC|GMT|(?P<zone_sign>[+-]?)(?P<zone_hour>\d{1,2})(?::?(?P<zone_minute>\d{2}))?)?\s*",
    re.IGNORECASE,
)

_UNEVEN = {"month", "months", "mon", "year", "years", "yr", "common_year", "common_years"}
_MIXED = {"standard", "gregorian", ""}
_CALENDARS = {*_MIXED, "proleptic_gregorian"}
_REFORM = np.datetime64("1582-10-15", "s")
_LARGEST = 1e13
"""Seconds either side of 1970 (317,000 years): further away is no date."""


def decode_times(
    values: ArrayLike, units: str | None, calendar: str = "standard"
) -> NDArray[np.datetime64]:
    """Return CF times as `datetime64[s]`, rounded to the nearest second.

    Source: CF Conventions 1.11, section 4.4.

    Args:
        values: Numbers, any shape.
        units: Such as `"hours since 1900-01-01 00:00"`; a time zone may follow.
        calendar: `standard`, `gregorian` or `proleptic_gregorian`.

    Raises:
        ValueError: If the units or the calendar are not of these forms, or a value is not finite.

    Examples:
        >>> decode_times([0, 1.5], "hours since 2019-03-01").astype(str).tolist()
        ['2019-03-01T00:00:00', '2019-03-01T01:30:00']
    """
    if calendar.lower() not in _CALENDARS:
        raise ValueError(
            "calendar: expected standard, gregorian or proleptic_gregorian, "
            f"got {calendar!r} (its days are not those of the Gregorian calendar)"
        )
    step, start = _parse(units)
    seconds = _seconds(np.asarray(values), step)
    mixed = calendar.lower() in _MIXED
    times = (_julian_to_gregorian(start) if mixed else start) + seconds
    if mixed and np.any(times < _REFORM):
        raise ValueError(f"time: expected dates after {_REFORM} in calendar {calendar!r}")
    return times


def decode_model_times(
    values: ArrayLike, units: str | None, calendar: str
) -> NDArray[np.datetime64]:
    """Return the times of a model calendar as seconds since its own 1970-01-01.

    Args:
        values: Numbers, any shape.
        units: Such as `"days since 2000-02-30"`.
        calendar: `noleap`, `all_leap` or `360_day`.

    Raises:
        ValueError: If the units are not of this form, or a value is not finite.

    Examples:
        >>> from stormda.io.calendars import label
        >>> label(decode_model_times([1], "days since 2000-02-30", "360_day"), "360_day")
        ['2000-03-01T00:00:00']
    """
    match = _matched(units)
    date = [int(match[key] or 0) for key in ("year", "month", "day", "hour", "minute")]
    zone = _zone(match)
    start = seconds_since_1970(calendar, (*date, round(float(match["second"] or 0)))) - zone
    seconds = _seconds(np.asarray(values), _duration(match["unit"]))
    return (seconds + np.timedelta64(start, "s")).astype(np.int64).view("datetime64[s]")


def encode_times(times: ArrayLike) -> NDArray[np.int64]:
    """Return times as int64 seconds since 1970-01-01, the form of `EPOCH_UNITS`.

    Args:
        times: `datetime64`, any shape.

    Examples:
        >>> encode_times(np.array(["1970-01-01T00:01"], "datetime64"))
        array([60])
    """
    return np.asarray(times, "datetime64[s]").astype(np.int64)


def time_attributes() -> Mapping[str, str]:
    """Return the CF attributes of a time variable that `encode_times` filled."""
    return {
        "standard_name": "time",
        "long_name": "time",
        "units": EPOCH_UNITS,
        "calendar": "proleptic_gregorian",
        "units_metadata": "leap_seconds: none",
        "axis": "T",
    }


def _parse(units: str | None) -> tuple[float, np.datetime64]:
    """Return the seconds of one unit and the reference date."""
    match = _matched(units)
    return _duration(match["unit"]), _reference(match)


def _matched(units: str | None) -> re.Match[str]:
    """Return the parts of units of even length."""
    match = _REFERENCE.fullmatch(units or "")
    if match is None:
        raise ValueError(
            f"time units: expected '<unit> since <date>', got {repr(units) if units else 'none'}"
        )
    if match["unit"].lower() in _UNEVEN:
        raise ValueError(
            f"time units: expected a unit of fixed length such as days, got {units!r} "
            "(rewrite the times as days since a date)"
        )
    return match


def _duration(name: str) -> float:
    """Return the seconds of a unit of time."""
    unit = parse_unit(name.lower())
    if unit.dimension != {"s": 1}:
        raise ValueError(f"time units: expected a unit of time, got {name!r}")
    return unit.scale


def _reference(match: re.Match[str]) -> np.datetime64:
    year, month, day = (int(match[key]) for key in ("year", "month", "day"))
    try:
        date = np.datetime64(f"{year:04d}-{month:02d}-{day:02d}", "s")
    except ValueError:
        raise ValueError(f"time units: expected a valid date, got {match[0]!r}") from None
    hour, minute = (int(match[key] or 0) for key in ("hour", "minute"))
    zone = _zone(match)
    second = round(float(match["second"] or 0))
    return date + np.timedelta64(hour * 3600 + minute * 60 + second - zone, "s")


def _zone(match: re.Match[str]) -> int:
    """Return how far the clock of a reference is ahead of UTC [s]."""
    hour, minute = (int(match[key] or 0) for key in ("zone_hour", "zone_minute"))
    return (-1 if match["zone_sign"] == "-" else 1) * (hour * 3600 + minute * 60)


def _seconds(values: NDArray[np.generic], step: float) -> NDArray[np.timedelta64]:
    """Return whole seconds; exact for integers of a unit of whole seconds."""
    if values.dtype.kind not in "iuf":
        raise ValueError(f"time: expected numbers, got values of type {values.dtype}")
    product = values.astype(np.float64) * step
    if not np.all(np.abs(product) < _LARGEST):  # false for NaN too
        raise ValueError(
            "time: expected finite dates, got NaN, a fill value or a number too large"
        )
    if values.dtype.kind in "iu" and float(step).is_integer():
        return (values.astype(np.int64) * int(step)).astype("timedelta64[s]")
    return np.rint(product).astype(np.int64).astype("timedelta64[s]")


def _julian_to_gregorian(date: np.datetime64) -> np.datetime64:
    """Return the Gregorian date of a reference that the mixed calendar reads as Julian.

    Source: Meeus (1998), Astronomical Algorithms, chapter 7: the Gregorian date is
    century - century // 4 - 2 days ahead, counting January and February with the year before.
    """
    if date >= _REFORM:
        return date
    year, month = (int(part) for part in str(date).split("-")[:2])
    century = (year - (month <= 2)) // 100
    return date + np.timedelta64(century - century // 4 - 2, "D")
