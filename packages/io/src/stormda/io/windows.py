"""Which runs of frames make a sample: none crosses a gap, or the border of a split.

A window is K frames of history and the frame they lead to, evenly apart. Between two splits lies
an embargo, because frames near to one another tell of one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.datetime64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """The shape of a sample in time."""

    history: int
    """Frames before the last one, K."""

    step: np.timedelta64 | None = None
    """The time between two frames of a window; None for the usual one of the data."""

    stride: int = 1
    """Every how many frames a window ends."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.history < 0:
            raise ValueError(f"history: expected at least 0 frames, got {self.history}")
        if self.stride < 1:
            raise ValueError(f"stride: expected at least 1 frame, got {self.stride}")
        if self.step is not None and self.step <= np.timedelta64(0, "s"):
            raise ValueError(f"step: expected a positive time, got {self.step}")


def windows(times: Times, config: WindowConfig) -> Ints:
    """Return the frames of every window, shape (windows, history + 1).

    Args:
        times: The times of the frames, increasing, shape (n,).
        config: The shape of a window.

    Raises:
        ValueError: If there is none.

    Examples:
        >>> times = np.array(["2000-01-01", "2000-01-02", "2000-01-03", "2000-01-05"], "M8[s]")
        >>> windows(times, WindowConfig(history=1))
        array([[0, 1],
               [1, 2]])
    """
    step = _usual_step(times) if config.step is None else config.step
    back = np.arange(config.history, -1, -1)
    wanted = times[:, None] - back * step.astype("timedelta64[s]")
    frames = np.searchsorted(times, wanted).clip(max=len(times) - 1)
    whole = (times[frames] == wanted).all(1)
    found: Ints = frames[whole][:: config.stride]
    if not len(found):
        raise ValueError(
            f"history: expected a run of {config.history + 1} frames every {step}, got none in "
            f"{len(times)} frames"
        )
    return found


def split(
    times: Times,
    splits: Mapping[str, tuple[np.datetime64 | str, np.datetime64 | str]],
    *,
    embargo: np.timedelta64,
) -> dict[str, Ints]:
    """Return the frames of each split.

    Args:
        times: The times of the frames, increasing, shape (n,).
        splits: The first and the last time of each; a date stands for all of its day, month, year.
        embargo: The time left out at the start of each split that follows another one.

    Raises:
        ValueError: If two splits share a time, or one holds no frame.

    Examples:
        >>> times = np.arange("2000-01-01", "2000-01-09", dtype="M8[D]").astype("M8[s]")
        >>> split(times, {"train": ("2000-01-01", "2000-01-04"), "test": ("2000-01-05", "2000")},
        ...       embargo=np.timedelta64(2, "D"))
        {'train': array([0, 1, 2, 3]), 'test': array([6, 7])}
    """
    spans = {
        name: (np.datetime64(first).astype("M8[s]"), (np.datetime64(last) + 1).astype("M8[s]"))
        for name, (first, last) in splits.items()
    }
    found, before = {}, None
    for name, (first, behind) in sorted(spans.items(), key=lambda item: item[1][0]):
        if before is not None and first < before[1]:
            raise ValueError(
                f"splits: expected times that belong to one split, got {first} in {before[0]!r} "
                f"and {name!r}"
            )
        start = first if before is None else max(first, before[1] + embargo)
        found[name] = np.flatnonzero((times >= start) & (times < behind))
        if not len(found[name]):
            raise ValueError(f"splits: expected frames in {name!r}, got none")
        before = (name, behind)
    return {name: found[name] for name in splits}


def _usual_step(times: Times) -> np.timedelta64:
    steps, counts = np.unique(np.diff(times), return_counts=True)
    if not len(steps):
        return np.timedelta64(1, "s")
    usual: np.timedelta64 = steps[counts.argmax()]
    return usual
