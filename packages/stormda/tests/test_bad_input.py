"""Every kind of bad input ends in one line that says where, what was expected and what came."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from stormda.cli import main
from stormda.grid import LatLonGrid
from stormda.io import observation_table, write_fields, write_observations

GRID = LatLonGrid(np.linspace(50, 53, 7), np.linspace(0, 4, 9))
HOURS = np.array(["2020-01-02T04", "2020-01-02T05"], "datetime64[s]")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def refused(result: Result, message: str) -> None:
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert lines == [f"Error: {message}"]
    assert "Traceback" not in result.output


def training(path: Path) -> Result:
    return run("train", path, "--variables", "t2m", "--out", path.parent / "run")


def assimilation(case, out: Path, **changes: object) -> Result:
    options = {"history": case.fields, "observations": case.observations, "error": 0.5,
               "start": "2020-01-02T06", "end": "2020-01-02T06"} | changes  # fmt: skip
    return run("assimilate", "--prior", case.folder / "run", "--out", out, "--members", 2,
               "--device", "cpu", "--set", "filter.steps=2",
               *(x for name, value in options.items() for x in (f"--{name}", value)))  # fmt: skip


def observe(path: Path, *, lat: float = 51.0, units: str = "K", variable: str = "t2m") -> None:
    table = observation_table(
        time="2020-01-02T06", lat=[lat, 60.0], lon=[1.0, 1.0], value=[280.0, 281.0], error=0.5,
        variable=variable, units={variable: units},
    )  # fmt: skip
    write_observations(path, table)


@pytest.fixture
def damaged(case, tmp_path: Path):
    """Return a function that copies the fields, with some numbers of a coordinate changed."""

    def damage(name: str, index: int, value: float) -> Path:
        path = tmp_path / "t2m.nc"
        shutil.copy(case.fields, path)
        with h5py.File(path, "r+") as file:
            file[name][index] = value
        return path

    return damage


def seconds(text: str) -> int:
    return int(np.datetime64(text, "s").astype(np.int64))


@pytest.mark.parametrize(
    ("time", "fault"),
    [
        ("2020-01-01T06:00:00", "the same time twice"),
        ("2019-12-31T06:00:00", "a time before the one before it"),
    ],
)
def test_times_that_do_not_increase(damaged, time: str, fault: str) -> None:
    path = damaged("time", 7, seconds(time))
    refused(
        training(path), f"{path}: time: expected increasing times, got {fault} at index 7: {time}"
    )


@pytest.mark.parametrize("name", ["lat", "lon"])
def test_coordinates_that_are_no_numbers(damaged, name: str) -> None:
    path = damaged(name, 3, np.nan)
    refused(
        training(path),
        f"{path}: coordinate {name!r}: expected finite numbers, got 1 missing, "
        "the first at index (3,)",
    )


def test_a_history_with_bad_coordinates(case, prior, damaged, tmp_path) -> None:
    path = damaged("lat", 0, np.nan)
    refused(
        assimilation(case, tmp_path / "an.nc", history=path),
        f"{path}: coordinate 'lat': expected finite numbers, got 1 missing, "
        "the first at index (0,)",
    )


def test_observations_in_units_that_do_not_convert(case, prior, tmp_path) -> None:
    observe(tmp_path / "obs.nc", units="Pa")
    refused(
        assimilation(case, tmp_path / "an.nc", observations=tmp_path / "obs.nc"),
        f"{tmp_path / 'obs.nc'}: variable 't2m' for 't2m': "
        "units: expected a unit that converts to 'K', got 'Pa'",
    )


def test_observations_outside_the_domain_are_counted(case, prior, tmp_path) -> None:
    observe(tmp_path / "obs.nc")
    result = assimilation(case, tmp_path / "an.nc", observations=tmp_path / "obs.nc")
    assert result.exit_code == 0, result.output
    assert "1 cycles, 1 observations used, refused: 1 outside domain" in result.stdout


def test_no_observation_left(case, prior, tmp_path) -> None:
    observe(tmp_path / "obs.nc", lat=61.0)
    refused(
        assimilation(case, tmp_path / "an.nc", observations=tmp_path / "obs.nc"),
        "observations: expected at least one to assimilate, got none: "
        "0 of 2 observations used (2 outside domain)",
    )
    assert not (tmp_path / "an.nc").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cols": 8}, "expected the grid of the prior: expected shape (7, 9), got (7, 8)"),
        ({"name": "u10"}, "expected the variables of the prior ['t2m'], got ['u10']"),
        ({"units": "Pa"}, "expected t2m in 'K' as in training, got 'Pa'"),
    ],
)
def test_a_prior_of_something_else(case, prior, tmp_path, change, message: str) -> None:
    kind = {"name": "t2m", "units": "K", "cols": 9} | change
    path = tmp_path / "other.nc"
    write_fields(path, {kind["name"]: np.ones((2, 7, kind["cols"]))}, times=HOURS,
                 grid=LatLonGrid(GRID.lat, np.linspace(0, 4, kind["cols"])),
                 attributes={kind["name"]: {"units": kind["units"]}})  # fmt: skip
    refused(assimilation(case, tmp_path / "an.nc", history=path), f"{path}: {message}")


def test_a_prior_that_is_none(case, tmp_path) -> None:
    path = tmp_path / "prior.safetensors"
    path.write_text("not a prior, and longer than the eight bytes of a header's length")
    result = run("assimilate", "--prior", path, "--history", case.fields, "--observations",
                 case.observations, "--out", tmp_path / "an.nc")  # fmt: skip
    assert result.exit_code == 2
    assert f"Error: {path}: expected a safetensors prior, got " in result.stderr


def test_missing_observations(case, prior, tmp_path) -> None:
    path = tmp_path / "none.csv"
    refused(
        assimilation(case, tmp_path / "an.nc", observations=path),
        f"{path}: expected a file, got a path that does not exist",
    )


def test_scores_of_a_truth_that_is_no_netcdf_file(case, prior, tmp_path) -> None:
    observe(tmp_path / "obs.nc")
    out, truth = tmp_path / "an.nc", tmp_path / "truth.nc"
    assert assimilation(case, out, observations=tmp_path / "obs.nc").exit_code == 0
    truth.write_text("<html>404</html>")
    refused(
        run("evaluate", out, "--truth", truth),
        f"{truth}: expected a NetCDF-3 or NetCDF-4 file, got an HTML page (the download failed)",
    )
