"""Times that count every second, leap seconds too, as UTC.

Source: BIPM/IERS Bulletin C, the leap seconds since 1993.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

EPOCH = np.datetime64("1993-01-01", "s")
"""The zero of TAI93, the time of NASA's Earth Observing System."""

LEAPS = np.array(
    [
        *("1993-07-01", "1994-07-01", "1996-01-01", "1997-07-01", "1999-01-01"),
        *("2006-01-01", "2009-01-01", "2012-07-01", "2015-07-01", "2017-01-01"),
    ],
    "datetime64[s]",
)
"""The midnights that a leap second went before."""


def decode_tai93(seconds: ArrayLike) -> NDArray[np.datetime64]:
    """Return TAI93 times, seconds since 1993-01-01 with leap seconds, as UTC.

    Args:
        seconds: Any shape; NaN, or before 1993, for a missing one.

    Returns:
        `datetime64[s]`, NaT where a time is missing.

    Examples:
        >>> decode_tai93([0.0, 588988807.0, np.nan]).astype(str).tolist()
        ['1993-01-01T00:00:00', '2011-09-01T00:00:00', 'NaT']
    """
    counted = np.asarray(seconds, np.float64)
    known = (counted >= 0) & (counted < 1e10)  # false for NaN too
    whole = np.rint(np.where(known, counted, 0)).astype(np.int64)
    starts = (LEAPS - EPOCH).astype(np.int64) + np.arange(len(LEAPS))  # of the leap seconds
    leaps = np.searchsorted(starts, whole, side="right")
    utc = EPOCH + (whole - leaps).astype("timedelta64[s]")
    return np.where(known, utc, np.datetime64("NaT", "s"))
