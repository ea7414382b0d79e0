import math

import pytest

from stormda.assimilation import Trial, grid_search


def test_every_combination_from_best_to_worst() -> None:
    trials = grid_search(lambda s: (s["a"] - 2) ** 2 + s["b"], {"a": [1, 2, 3], "b": [0, 5]})
    assert trials[0] == Trial({"a": 2, "b": 0}, 0)
    assert len(trials) == 6
    assert [t.score for t in trials] == sorted(t.score for t in trials)


def test_a_run_that_diverged_comes_last() -> None:
    trials = grid_search(lambda s: s["a"], {"a": [math.nan, 1.0, -math.inf]})
    assert [t.score for t in trials] == [1.0, math.inf, math.inf]


def test_a_setting_needs_values() -> None:
    message = r"^grid: expected values for every setting, got none for \['b'\]$"
    with pytest.raises(ValueError, match=message):
        grid_search(lambda s: 0.0, {"a": [1.0], "b": []})
