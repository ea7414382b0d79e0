"""How far an observation is to be trusted, in one scale for all sources.

Every archive has codes of its own: digits, letters, bits. A mapping says what each of them means
here; a code that it does not name is an error, since a guess would be wrong silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

OTHERWISE = "*"
"""The key that stands for every code that a mapping does not name."""


class Quality(IntEnum):
    """What the source says about a value."""

    GOOD = 0
    SUSPECT = 1
    BAD = 2
    UNCHECKED = 3
    UNKNOWN = 255
    """The source says nothing."""


ARGO = {
    "0": Quality.UNCHECKED,
    "1": Quality.GOOD,
    "2": Quality.GOOD,
    "3": Quality.SUSPECT,
    "4": Quality.BAD,
    "5": Quality.SUSPECT,
    "8": Quality.SUSPECT,
    "9": Quality.BAD,
    "": Quality.UNKNOWN,
}
"""The flags of Argo and of other oceanographic data centres: 1 and 2 are good and probably good, 5
was changed, 8 is estimated, 9 is missing.

Source: Argo user's manual 3.41, reference table 2, https://doi.org/10.13155/29825"""


def quality_of(codes: NDArray[np.str_], meaning: Mapping[str, Quality]) -> NDArray[np.uint8]:
    """Return the quality that each code of a source stands for.

    Args:
        codes: As text, any shape; blanks around them do not count.
        meaning: The quality of each code; `"*"` for all others.

    Raises:
        ValueError: If a code is not named.

    Examples:
        >>> quality_of(np.array(["1", "4 "]), ARGO)
        array([0, 2], dtype=uint8)
    """
    named, which = np.unique(np.char.strip(codes), return_inverse=True)
    unnamed = [str(code) for code in named if code not in meaning]
    if unnamed and OTHERWISE not in meaning:
        raise ValueError(f"quality: expected codes among {sorted(meaning)}, got {unnamed[0]!r}")
    qualities = [meaning.get(str(code), meaning.get(OTHERWISE)) for code in named]
    return np.array(qualities, np.uint8)[which].reshape(codes.shape)
