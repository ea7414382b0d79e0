"""What the layers of a network read of the frames of the past.

Either the keys and values of all frames are held, or, where a history is long, those of some
frames at a time are made whenever a layer asks: what the past costs in memory is then its fields.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn

from stormda.attention import HistoryKeys, HistoryProjection, StreamedHistory

Past = HistoryKeys | StreamedHistory
"""Keys and values, held or made when they are asked for."""

Embed = Callable[[Tensor, int], Tensor]
"""Returns the tokens (batch, frames, n, width) of frames (batch, frames, variables, *grid.shape),
the first of which has this number in the past."""


def held_past(
    history: Tensor, ahead: Tensor | None, embed: Embed, project: HistoryProjection
) -> tuple[Past, Tensor]:
    """Return keys and values of all frames, and the tokens of the newest, (batch, n, width).

    Args:
        history: Normalised frames, oldest first, (batch, history, variables, *grid.shape).
        ahead: A further frame, (batch, 1, variables, *grid.shape), or None.
        embed: Makes tokens of frames.
        project: Makes keys and values of tokens.
    """
    frames = history if ahead is None else torch.cat([history, ahead], 1)
    tokens = embed(frames, 0)
    return project(tokens), tokens[:, -1]


def streamed_past(
    history: Tensor,
    ahead: Tensor | None,
    embed: Embed,
    project: HistoryProjection,
    chunk: int,
    weights: tuple[Tensor, ...],
) -> tuple[Past, Tensor]:
    """Return what makes the same of a chunk of frames at a time, and the tokens of the newest.

    Args:
        history: As in `held_past`; data, without a gradient.
        ahead: As there.
        embed: As there.
        project: As there.
        chunk: Frames.
        weights: What `embed` and `project` learn.

    Raises:
        ValueError: A history that wants a gradient.
    """
    if history.requires_grad:
        raise ValueError("history: expected no gradient with history_chunk, got one to record")
    frames = history.shape[1]
    past = StreamedHistory(
        lambda some: project(embed(history[:, some], some.start)),
        frames,
        chunk=chunk,
        weights=weights,
    )
    if ahead is None:
        return past, embed(history[:, -1:], frames - 1)[:, -1]
    newest = embed(ahead, frames)
    return past.followed_by(project(newest)), newest[:, -1]


def weights_of(*parts: nn.Module | Tensor) -> tuple[Tensor, ...]:
    """Return what some parts of a network learn, of those that are learning."""
    all_of = chain.from_iterable(
        [part] if isinstance(part, Tensor) else part.parameters() for part in parts
    )
    return tuple(x for x in all_of if x.requires_grad)
