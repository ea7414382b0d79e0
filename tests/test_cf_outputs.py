"""What the commands write passes an independent check of the CF conventions."""

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from stormda.cli import main
from stormda.grid import LatLonGrid
from stormda.io import observation_table, write_fields, write_observations

HOURS = np.datetime64("2020-01-01T00", "s") + 3600 * np.arange(40)
SEA = np.add.outer(np.arange(7), np.arange(9)) > 4
TINY = shlex.split(
    "--recipe era5-uk --device cpu "
    "--set network.width=16 --set network.heads=2 --set network.modes=9 "
    "--set network.history=2 --set network.depth=1 --set network.encoder_depth=1 "
    "--set network.patch=3,3 --set training.batch=4 --set training.steps=2 "
    "--set split.validation_hours=0"
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the checker's own libraries
    pytest.mark.filterwarnings("ignore:pkg_resources:UserWarning"),
]


@pytest.fixture(scope="module")
def complaints() -> Callable[[Path], list[str]]:
    """Return a function that lists what the checker has against a file."""
    runner = pytest.importorskip("compliance_checker.runner")
    suite = runner.CheckSuite()
    suite.load_all_available_checkers()

    def complaints(path: Path) -> list[str]:
        dataset = suite.load_dataset(str(path))
        results, errors = suite.run_all(dataset, ["cf:1.11"])["cf:1.11"]
        dataset.close()
        failed = [r for r in results if r.value not in (None, True) and r.value[0] < r.value[1]]
        return [text for result in failed for text in result.msgs] + [*map(str, errors)]

    return complaints


def run(*arguments: object) -> None:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("land", [False, True])
def test_analyses(tmp_path: Path, complaints: Callable[[Path], list[str]], land: bool) -> None:
    y, x = np.meshgrid(np.arange(7), np.arange(9), indexing="ij")
    hour = np.arange(len(HOURS))[:, None, None]
    height = 2 + np.sin(0.5 * x + 0.3 * hour) + 0.5 * np.cos(0.7 * y - 0.2 * hour)
    name = "sea_surface_wave_significant_height"
    write_fields(
        tmp_path / "swh.nc",
        {"swh": np.where(SEA | (not land), height, np.nan)},
        times=HOURS,
        grid=LatLonGrid(np.linspace(50, 53, 7), np.linspace(0, 4, 9)),
        attributes={"swh": {"units": "m", "standard_name": name}},
    )
    table = observation_table(
        time=HOURS[[30, 30, 31]], lat=[52.0, 52.5, 52.7], lon=[2.0, 3.0, 2.5],
        value=[2.0, 2.1, 2.2], error=0.3, variable="swh", units={"swh": "m"},
    )  # fmt: skip
    write_observations(tmp_path / "obs.nc", table)
    run("train", tmp_path / "swh.nc", "--variables", "swh", "--out", tmp_path / "run", *TINY)
    out = tmp_path / "analysis.nc"
    run("assimilate", "--prior", tmp_path / "run", "--history", tmp_path / "swh.nc",
        "--observations", tmp_path / "obs.nc", "--out", out, "--members", 2,
        "--start", HOURS[30], "--device", "cpu", "--set", "filter.steps=2")  # fmt: skip
    assert complaints(out) == []
