"""Exponential memory over frames: every frame sees the others, the near ones most.

    y_t = sum_s lam^|t-s| x_s                 two-sided: smoothing
    y_t = sum_{s<=t} lam^(t-s) x_s            causal: forecasting

Both obey a recurrence, `y_t = x_t + lam y_{t-1}`, forwards and backwards. Frames are taken in
chunks: inside a chunk the sum is one small matrix product, between chunks one frame is carried on.
The cost is O(t chunk) however long the memory.

On the sums of linear attention it gives attention with an exponential decay in time:

    state.reduce(lambda packed: decay_scan(packed, lam))    with a dimension of frames before heads
"""

import torch
from einops import rearrange
from torch import Tensor

from stormda.attention.arguments import exactly, wide

CHUNK = 64
"""Frames that meet in one matrix product."""


def decay_scan(x: Tensor, decay: Tensor, *, causal: bool = False) -> Tensor:
    """Sum `x` over the frames with weights that decay exponentially, head by head.

    Source: Afzal et al. (2025), Linear attention for bidirectional sequence modeling (LION), eq.
    12, https://arxiv.org/abs/2502.16249, in chunks.

    Args:
        x: What each frame adds, `(*batch, t, h, f)`.
        decay: The factors lam between 0 and 1, one a head, `(h,)`; 1 forgets nothing.
        causal: Whether a frame sees only itself and those before it.

    Returns:
        The sums `(*batch, t, h, f)` in the dtype of `x`. Sums are kept in float32 at least.

    Raises:
        ValueError: Shapes that do not belong together.

    Examples:
        >>> x = torch.tensor([1.0, 0.0, 2.0])[:, None, None]
        >>> decay_scan(x, torch.tensor([0.5]), causal=True).flatten()
        tensor([1.0000, 0.5000, 2.2500])
        >>> decay_scan(x, torch.tensor([0.5])).flatten()
        tensor([1.5000, 1.5000, 2.2500])
    """
    if x.ndim < 3:
        raise ValueError(f"x: expected (..., t, h, f), got {tuple(x.shape)}")
    if decay.shape != x.shape[-2:-1]:
        raise ValueError(
            f"decay: expected (h,) with the h of x {tuple(x.shape)}, got {tuple(decay.shape)}"
        )
    with exactly(x):
        frames = rearrange(wide(x), "... t h f -> ... h t f")
        factor = decay.to(frames.dtype)
        y = _past(frames, factor)
        if not causal:
            y = y + _past(frames.flip(-2), factor).flip(-2) - frames
        return rearrange(y, "... h t f -> ... t h f").to(x.dtype)


def _past(x: Tensor, decay: Tensor) -> Tensor:
    """Return the causal sums of `x (..., h, t, f)`."""
    chunks = torch.split(x, CHUNK, dim=-2)
    within = _weights(decay, chunks[0].shape[-2])
    carry = torch.zeros_like(x[..., :1, :])
    answers = []
    for chunk in chunks:
        size = chunk.shape[-2]
        y = within[:, :size, :size] @ chunk + decay[:, None, None] * (within[:, :size, :1] * carry)
        carry = y[..., -1:, :]
        answers.append(y)
    return torch.cat(answers, dim=-2)


def _weights(decay: Tensor, size: int) -> Tensor:
    """Return `lam^(t-s)` for s <= t, else 0: `(h, t, s)`."""
    step = torch.arange(size, device=decay.device)
    lag = step[:, None] - step
    return torch.where(lag >= 0, decay[:, None, None] ** lag.clamp(min=0), 0.0)
