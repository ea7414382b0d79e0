"""White noise as a pure function of (key, member, step).

Member 7 sees the same numbers alone, in a batch of any size and order, on any device and on any
mesh. The generator is counter-based (Philox): key, member and step are parts of its counter, so
streams never overlap and none has a state to keep.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

_WORD = 2**64


@dataclass(frozen=True)
class Noise:
    """All the white noise of one analysis.

    Source: Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3, Philox-4x64.

    Examples:
        >>> noise = Noise(2026)
        >>> both = noise.normals((3,), members=[4, 9], step=0)
        >>> torch.equal(both[1], noise.normal((3,), member=9, step=0))
        True
    """

    key: int
    """Names the set of streams, 0 <= key < 2^64."""

    def __post_init__(self) -> None:
        if not 0 <= self.key < _WORD:
            raise ValueError(f"key: expected 0 <= key < 2**64, got {self.key}")

    @classmethod
    def drawn_from(cls, generator: torch.Generator) -> "Noise":
        """Return noise with a key drawn from the caller's generator (which moves on by one draw).

        Examples:
            >>> g = torch.Generator().manual_seed(1)
            >>> Noise.drawn_from(g) == Noise.drawn_from(g)
            False
        """
        draw = torch.randint(2**63 - 1, (), generator=generator, device=generator.device)
        return cls(int(draw))

    def normal(
        self,
        shape: Sequence[int],
        *,
        member: int,
        step: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Return independent standard normal numbers.

        They are drawn on the CPU, in double precision where `dtype` is and in single precision
        otherwise, so that every device sees the same ones.

        Args:
            shape: The shape of the result.
            member: The member, 0 <= member < 2^64.
            step: The step of the sampler, 0 <= step < 2^64.
            dtype: The data type of the result.
            device: The device of the result.
        """
        return self.normals(shape, members=[member], step=step, dtype=dtype, device=device)[0]

    def normals(
        self,
        shape: Sequence[int],
        *,
        members: Sequence[int],
        step: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Return the noise of several members, stacked: `(len(members), *shape)`."""
        precision = np.float64 if dtype is torch.float64 else np.float32
        numbers = np.empty((len(members), prod(shape)), dtype=precision)
        philox = np.random.Philox(key=self.key)
        generator, state = np.random.Generator(philox), philox.state
        for row, member in zip(numbers, members, strict=True):
            # to set the counter takes a fifth of the time of a generator of its own
            state["state"]["counter"][:] = (0, 0, step, member)
            philox.state = state
            generator.standard_normal(out=row, dtype=precision)
        stacked = torch.from_numpy(numbers).reshape(len(members), *shape)
        return stacked.to(device=device, dtype=dtype)
