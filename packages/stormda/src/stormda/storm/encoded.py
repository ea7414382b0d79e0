"""What the trunk of a network needs to know of the past."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stormda.storm.past_frames import Past


@dataclass(frozen=True)
class Encoded:
    """Computed once, read at every step of the denoising."""

    keys: Past
    """Keys and values of the frames and of the encoder's outlook."""

    condition: Tensor
    """Embedding of the history's error and of the calendar, (batch, width)."""

    forecast: Tensor
    """Conditional mean of the normalised increments, (batch, channels, *grid.shape)."""

    size: Tensor
    """Typical size s of a departure from it, (batch,)."""

    variance: Tensor | None
    """Variances of the departure along the modes, (batch, targets, modes + 1), where there are
    modes."""


def beside(numbers: Tensor, fields: Tensor) -> Tensor:
    """Return one number for each sample (batch,) with the dimensions of fields (batch, ...).

    Examples:
        >>> from torch import ones, zeros
        >>> beside(ones(3), zeros(3, 1, 8)).shape
        torch.Size([3, 1, 1])
    """
    return numbers.reshape(-1, *[1] * (fields.ndim - 1))
