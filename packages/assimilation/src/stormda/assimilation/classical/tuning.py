"""Tuning by trying every combination: slow, plain, and fair to the method that is tuned.

Tune on other seeds, or other days, than those that are scored.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf, isfinite


@dataclass(frozen=True)
class Trial:
    """One combination of settings and what it scored."""

    settings: Mapping[str, float]
    """The settings, by name."""

    score: float
    """The score, lower is better; infinite where the run gave no finite one."""


def grid_search(
    run: Callable[[Mapping[str, float]], float], grid: Mapping[str, Sequence[float]]
) -> list[Trial]:
    """Score every combination of settings, and return the trials from best to worst.

    Args:
        run: Returns the score of settings, lower is better. What is not finite (a filter that
            diverged) counts as infinite.
        grid: The values to try for each setting.

    Raises:
        ValueError: If a setting has no values to try.

    Examples:
        >>> grid = {"inflation": [1.0, 1.1], "radius": [2.0, 4.0]}
        >>> grid_search(lambda s: s["inflation"] * abs(s["radius"] - 3.5), grid)[0]
        Trial(settings={'inflation': 1.0, 'radius': 4.0}, score=0.5)
    """
    empty = [name for name, values in grid.items() if not values]
    if empty:
        raise ValueError(f"grid: expected values for every setting, got none for {empty}")
    trials = []
    for values in product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        score = run(settings)
        trials.append(Trial(settings, score if isfinite(score) else inf))
    return sorted(trials, key=lambda trial: trial.score)
