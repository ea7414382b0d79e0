"""Random numbers as a function of what they are for, not of what was drawn before.

PyTorch's generator on the CPU reads 32 bits of its seed only, so that integers which differ higher
up would give the same numbers; they are hashed.
"""

from __future__ import annotations

import numpy as np
import torch


def stream(*numbers: int) -> torch.Generator:
    """Return a generator on the CPU that is a function of some numbers.

    Args:
        numbers: Such as a seed, what the numbers are for, and a step; none negative.

    Examples:
        >>> def draw(*numbers):
        ...     return torch.randn(3, generator=stream(*numbers))
        >>> torch.equal(draw(1, 2), draw(1, 2)), torch.equal(draw(1, 2), draw(2, 1))
        (True, False)
    """
    words = np.random.SeedSequence(numbers).generate_state(1, np.uint32)
    return torch.Generator().manual_seed(int(words[0]))
