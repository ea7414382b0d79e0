import numpy as np
import pytest

from stormda.io import decode, parse_unit
from stormda.io.decoding import DEFAULT_FILL


def test_packed_values_are_compared_before_they_are_unpacked():
    raw = np.array([[-32767, 0], [100, 32767]], np.int16)
    attributes = {"_FillValue": np.int16(-32767), "scale_factor": 0.01, "add_offset": 280.0}
    values, mask = decode(raw, attributes, None)
    np.testing.assert_array_equal(mask, [[False, True], [True, True]])
    np.testing.assert_allclose(values, [[0.0, 280.0], [281.0, 607.67]], rtol=1e-7)


def test_unpacking_is_done_in_float64():
    # in float32 the step of the packing, 1e-4, is below the spacing of numbers near 1e5
    raw = np.array([12345], np.int32)
    values, _ = decode(raw, {"scale_factor": 1e-4, "add_offset": -1e5}, parse_unit("hPa"))
    np.testing.assert_array_equal(values, np.float32([(12345 * 1e-4 - 1e5) * 100]))


def test_every_code_for_missing_is_found():
    raw = np.array([1.0, 1e20, -999.0, -888.0, np.nan, DEFAULT_FILL], np.float32)
    attributes = {"_FillValue": 1e20, "missing_value": np.array([-999.0, -888.0])}
    values, mask = decode(raw, attributes, None)
    np.testing.assert_array_equal(mask, [True, False, False, False, False, False])
    np.testing.assert_array_equal(values, [1.0, 0, 0, 0, 0, 0])


def test_a_code_of_text_says_nothing():
    _, mask = decode(np.array([1.0]), {"missing_value": "none"}, None)
    np.testing.assert_array_equal(mask, [True])


def test_the_valid_range_is_of_stored_numbers():
    raw = np.array([-1, 0, 50, 51], np.int16)
    attributes = {"valid_range": np.array([0, 50], np.int16), "scale_factor": 0.1}
    np.testing.assert_array_equal(decode(raw, attributes, None)[1], [False, True, True, False])
    limits = {"valid_min": np.int16(0), "valid_max": np.int16(50)}
    np.testing.assert_array_equal(decode(raw, limits, None)[1], [False, True, True, False])


def test_the_valid_range_of_the_unpacked_type_is_of_unpacked_numbers():
    raw = np.array([-1, 0, 50, 51], np.int16)
    attributes = {"valid_max": np.float32(5.0), "scale_factor": np.float32(0.1)}
    np.testing.assert_array_equal(decode(raw, attributes, None)[1], [True, True, True, False])


def test_unsigned_integers_of_netcdf_3():
    values, _ = decode(np.array([-1], ">i2"), {"_Unsigned": "true"}, None)
    np.testing.assert_array_equal(values, [65535.0])


@pytest.mark.parametrize("scale", [0.0, np.nan, np.inf])
def test_unusable_scale(scale):
    with pytest.raises(
        ValueError,
        match=rf"^scale_factor: expected a finite number other than 0, got {scale}$",
    ):
        decode(np.array([1]), {"scale_factor": scale}, None)


def test_unusable_offset():
    with pytest.raises(ValueError, match=r"^add_offset: expected a finite number, got nan$"):
        decode(np.array([1]), {"add_offset": np.nan}, None)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300])
def test_what_no_float32_can_hold(value):
    with pytest.raises(ValueError, match=r"^expected finite values, got .* at index \(1,\)$"):
        decode(np.array([0.0, value]), {}, None)
