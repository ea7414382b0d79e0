import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormda.io import decode_times, encode_times
from stormda.io.times import EPOCH_UNITS


def dates(*texts):
    return np.array(texts, "datetime64[s]")


@pytest.mark.parametrize(
    ("value", "units", "expected"),
    [
        (1.5, "hours since 2019-03-01", "2019-03-01T01:30:00"),
        (24, "hours since 1900-01-01 00:00:0.0", "1900-01-02"),
        (56613.5, "days since 1850-01-01 00:00:00", "2005-01-01T12:00:00"),
        (60, "minutes since 2000-01-01T12:00:00Z", "2000-01-01T13:00:00"),
        (0, "seconds since 1970-1-1 0:00:00 0:00", "1970-01-01"),
        (0, "seconds since 2000-01-01 00:00:00 +02:00", "1999-12-31T22:00:00"),
        (0, "seconds since 2000-01-01 00:00:00 -0530", "2000-01-01T05:30:00"),
        (0, "d since 2000-02-29 UTC", "2000-02-29"),
    ],
)
def test_known_times(value, units, expected):
    np.testing.assert_array_equal(decode_times([value], units), dates(expected))


def test_the_mixed_calendar_counts_old_references_as_julian():
    # 1-1-1 in the Julian calendar is two days before that date in the Gregorian one:
    # NCEP/NCAR files count hours from it, and 17067072 hours are 1948-01-01 (their documentation)
    np.testing.assert_array_equal(
        decode_times([17067072], "hours since 1-1-1 00:00:0.0"), dates("1948-01-01")
    )
    np.testing.assert_array_equal(
        decode_times([0], "days since 1582-10-04", "proleptic_gregorian"), dates("1582-10-04")
    )


def test_the_day_after_the_last_julian_one_is_the_first_gregorian_one():
    np.testing.assert_array_equal(decode_times([1], "days since 1582-10-04"), dates("1582-10-15"))


@given(st.lists(st.integers(-(10**11), 10**11), min_size=1, max_size=5))
def test_encoding_and_decoding_is_the_identity(seconds):
    times = np.array(seconds, "datetime64[s]")
    decoded = decode_times(encode_times(times), EPOCH_UNITS, "proleptic_gregorian")
    np.testing.assert_array_equal(decoded, times)


@pytest.mark.parametrize(
    ("units", "message"),
    [
        (None, r"^time units: expected '<unit> since <date>', got none$"),
        ("wibble", r"^time units: expected '<unit> since <date>', got 'wibble'$"),
        (
            "months since 2000-01-01",
            r"^time units: expected a unit of fixed length such as days, got "
            r"'months since 2000-01-01' \(rewrite the times as days since a date\)$",
        ),
        ("metres since 2000-01-01", r"^time units: expected a unit of time, got 'metres'$"),
        (
            "days since 2000-13-01",
            r"^time units: expected a valid date, got 'days since 2000-13-01'$",
        ),
    ],
)
def test_bad_units(units, message):
    with pytest.raises(ValueError, match=message):
        decode_times([0], units)


def test_model_calendar():
    with pytest.raises(
        ValueError,
        match=r"^calendar: expected standard, gregorian or proleptic_gregorian, got '360_day' "
        r"\(its days are not those of the Gregorian calendar\)$",
    ):
        decode_times([0], "days since 2000-01-01", "360_day")


def test_dates_before_the_gregorian_calendar():
    with pytest.raises(
        ValueError,
        match=r"^time: expected dates after 1582-10-15T00:00:00 in calendar 'standard'$",
    ):
        decode_times([0], "days since 1500-01-01")


@pytest.mark.parametrize("value", [np.nan, np.inf, 9.969209968386869e36])
def test_values_that_are_no_times(value):
    with pytest.raises(
        ValueError,
        match=r"^time: expected finite dates, got NaN, a fill value or a number too large$",
    ):
        decode_times([value], "days since 2000-01-01")


def test_text_is_no_time():
    with pytest.raises(ValueError, match=r"^time: expected numbers, got values of type <U1$"):
        decode_times(["a"], "days since 2000-01-01")
