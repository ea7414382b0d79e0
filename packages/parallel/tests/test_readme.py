"""The example on the package's front page runs and prints what it says."""

import doctest
from pathlib import Path


def test_the_example_runs() -> None:
    readme = Path(__file__).parents[1] / "README.md"
    results = doctest.testfile(str(readme), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0
