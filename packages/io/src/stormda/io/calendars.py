"""The calendars of climate models: years of 360, 365 or 366 days, by whole seconds.

Such times are kept as seconds since 1970-01-01 of their own calendar, in the type `datetime64[s]`:
differences are right, and so is their order, but their labels are those of `label` alone, since
30 February is no date of NumPy's.

Source: CF Conventions 1.11, section 4.4.1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DAY = 86400
"""Seconds of a day."""

GREGORIAN = "gregorian"
"""What this package calls every calendar with the days of the Gregorian one."""

_MONTHS = {
    "noleap": (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31),
    "all_leap": (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31),
    "360_day": (30,) * 12,
}

_SAME = {"365_day": "noleap", "366_day": "all_leap"}

_DATE = re.compile(
    r"(\d{1,4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ](\d{1,2})(?::(\d{1,2})(?::(\d{1,2}))?)?)?)?)?"
)


def model_calendar(name: str) -> str | None:
    """Return the one name of a model calendar; None for any other.

    Examples:
        >>> model_calendar("365_day"), model_calendar("standard")
        ('noleap', None)
    """
    known = _SAME.get(name.lower(), name.lower())
    return known if known in _MONTHS else None


def seconds_since_1970(calendar: str, date: Sequence[int]) -> int:
    """Return the seconds between 1970-01-01 and a date (year, month, day, hour, minute, second).

    Raises:
        ValueError: If the calendar has no such date.

    Examples:
        >>> seconds_since_1970("360_day", (1970, 2, 30, 0, 0, 0)) / 86400
        59.0
    """
    year, month, day, hour, minute, second = date
    months = _MONTHS[calendar]
    if not (1 <= month <= 12 and 1 <= day <= months[month - 1]):
        raise ValueError(f"time: expected a date of the calendar {calendar}, got {tuple(date)}")
    days = (year - 1970) * sum(months) + sum(months[: month - 1]) + day - 1
    return days * DAY + hour * 3600 + minute * 60 + second


def label(times: NDArray[np.datetime64], calendar: str) -> list[str]:
    """Return times as ISO dates of their calendar.

    Examples:
        >>> label(np.array([59 * 86400 + 3600]).view("datetime64[s]"), "360_day")
        ['1970-02-30T01:00:00']
    """
    if calendar == GREGORIAN:
        return [str(time) for time in times]
    months = np.cumsum((0, *_MONTHS[calendar]))
    days, seconds = np.divmod(times.astype("datetime64[s]").astype(np.int64), DAY)
    years, days = np.divmod(days, months[-1])
    month = np.searchsorted(months, days, side="right")
    return [
        f"{y + 1970:04d}-{m:02d}-{d - months[m - 1] + 1:02d}"
        f"T{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}"
        for y, m, d, s in zip(years, month, days, seconds, strict=True)
    ]


def period(text: str, calendar: str) -> tuple[np.datetime64, np.datetime64]:
    """Return the first second of the period that a date names, and the first one after it.

    Args:
        text: An ISO date of any precision, such as `"2015-02"`.
        calendar: A model calendar.

    Raises:
        ValueError: If it is no date of that calendar.

    Examples:
        >>> start, end = period("2015-02", "360_day")
        >>> int((end - start) / np.timedelta64(1, "D"))
        30
    """
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError(f"time: expected a date such as '2019-03-01T12', got {text!r}")
    given = [int(part) for part in match.groups() if part is not None]
    first = [*given, *(1, 1, 1, 0, 0, 0)[len(given) :]]
    start = seconds_since_1970(calendar, first)
    length = (
        sum(_MONTHS[calendar]) * DAY,
        _MONTHS[calendar][first[1] - 1] * DAY,
        *(DAY, 3600, 60, 1),
    )[len(given) - 1]
    return np.datetime64(start, "s"), np.datetime64(start + length, "s")
