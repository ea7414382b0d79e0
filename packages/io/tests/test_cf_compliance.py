"""Everything written passes an independent check of the CF conventions, without a warning."""

import numpy as np
import pytest

from stormda.grid import LatLonGrid, PlaneGrid
from stormda.io import (
    EnsembleWriter,
    LevelAxis,
    observation_table,
    write_ensemble,
    write_fields,
    write_observations,
)

TIMES = np.array(["2000-01-01T00", "2000-01-01T12"], "datetime64[s]")
PLANE = PlaneGrid((4, 6), (1e5, 2e5))
SPHERE = LatLonGrid(
    [-45.0, -10, 10, 45], np.arange(0.0, 360, 60), [[-90, -20], [-20, 0], [0, 20], [20, 90]]
)
AIR = {"units": "K", "standard_name": "air_temperature"}
LEVELS = LevelAxis(
    name="level",
    values=np.array([85000.0, 50000.0]),
    units="Pa",
    standard_name="air_pressure",
    positive="down",
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the checker's own libraries
    pytest.mark.filterwarnings("ignore:pkg_resources:UserWarning"),
]


@pytest.fixture(scope="module")
def complaints():
    """Return a function that lists what the checker has against a file."""
    runner = pytest.importorskip("compliance_checker.runner")
    suite = runner.CheckSuite()
    suite.load_all_available_checkers()

    def complaints(path, skip=()):
        dataset = suite.load_dataset(str(path))
        results, errors = suite.run_all(dataset, ["cf:1.11"], skip_checks=skip)["cf:1.11"]
        dataset.close()
        failed = [r for r in results if r.value not in (None, True) and r.value[0] < r.value[1]]
        return [text for result in failed for text in result.msgs] + [*map(str, errors)]

    return complaints


def test_the_checker_checks(complaints, field):
    assert complaints(field())


def test_an_ensemble_on_the_sphere(complaints, tmp_path):
    path = tmp_path / "a.nc"
    write_ensemble(
        path,
        {"t": np.zeros((3, 2, 2, 4, 6)), "t2m": np.zeros((3, 2, 4, 6))},
        times=TIMES,
        grid=SPHERE,
        attributes={"t": AIR, "t2m": AIR},
        levels=LEVELS,
        provenance={"title": "Analysis", "institution": "x", "seeds": [1, 2, 3]},
    )
    assert complaints(path) == []


def test_fields_on_the_plane(complaints, tmp_path):
    path = tmp_path / "a.nc"
    attributes = {"theta": {"units": "K"}, "v": {"units": "m s-1"}}
    values = {"theta": np.zeros((2, 4, 6)), "v": np.zeros((2, 4, 6))}
    write_fields(path, values, times=TIMES, grid=PLANE, attributes=attributes)
    assert complaints(path) == []


def test_cycles(complaints, tmp_path):
    path = tmp_path / "a.nc"
    writer = EnsembleWriter(path=path, grid=PLANE, attributes={"theta": {"units": "K"}}, run={})
    writer.write(0, TIMES[0], {"theta": np.zeros((3, 4, 6))})
    writer.finish()
    assert complaints(path) == []


def test_observations(complaints, tmp_path):
    path = tmp_path / "a.nc"
    table = observation_table(
        time=TIMES[0],
        lat=[1.0, 2.0, 3.0],
        lon=[4.0, 5.0, 6.0],
        value=[280.0, 1e5, 281.0],
        error=[1.0, 100.0, np.nan],
        variable=["t2m", "sp", "t2m"],
        platform=["ship", "buoy", ""],
        units={"t2m": "K", "sp": "Pa"},
    )
    write_observations(path, table, attributes={"t2m": AIR})
    # the check of domain variables takes every point file for a ragged array and fails
    assert complaints(path, skip=["check_domain_variables"]) == []
