"""The examples of the README run."""

import doctest
from pathlib import Path


def test_the_readme_runs():
    readme = Path(__file__).parents[1] / "README.md"
    failed, attempted = doctest.testfile(str(readme), module_relative=False)
    assert attempted > 10
    assert failed == 0
