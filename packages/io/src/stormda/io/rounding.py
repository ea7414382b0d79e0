"""Bits that carry no information, set to zero so that a field compresses.

A float32 has 23 bits of fraction. Rounding to the nearest number with k of them keeps a relative
error below 2^-(k + 1), and leaves a tail of zeros that gzip and its like pack away.

Source: Zender (2016), Geosci. Model Dev. 9; Kloewer et al. (2021), Nat. Comput. Sci. 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

FRACTION = 23
"""Bits of the fraction of a float32."""

QUANTIZED = "_QuantizeBitRoundNumberOfSignificantBits"
"""The attribute by which NetCDF says how many bits were kept."""


def bit_round(values: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Return float32 values rounded to `bits` bits of fraction, ties to even; NaN stays.

    Raises:
        ValueError: If the number of bits is not one from 1 to 23.

    Examples:
        >>> bit_round(np.array([1.0, 273.16], np.float32), bits=7)
        array([  1., 274.], dtype=float32)
    """
    if not 1 <= bits <= FRACTION:
        raise ValueError(f"bits: expected 1 to {FRACTION}, got {bits}")
    if bits == FRACTION:
        return values
    stored = np.ascontiguousarray(values, np.float32).view(np.uint32)
    drop = np.uint32(FRACTION - bits)
    one = np.uint32(1)
    half = (one << (drop - one)) - one
    rounded = (stored + half + ((stored >> drop) & one)) & ~((one << drop) - one)
    return np.where(np.isnan(values), values, rounded.view(np.float32))


def with_bits(
    attributes: Mapping[str, Mapping[str, object]], bits: Mapping[str, int]
) -> dict[str, dict[str, object]]:
    """Return the attributes of variables, saying how many bits were kept of each."""
    kept = {name: {QUANTIZED: np.int32(n)} for name, n in bits.items() if n < FRACTION}
    return {name: {**own, **kept.get(name, {})} for name, own in attributes.items()}
