"""The demonstration end to end, on a small plane with a prior that was never trained."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from click.testing import CliRunner, Result

from stormda.assimilation.systems import SQG, SQGConfig
from stormda.cli import main
from stormda.cli.demo import choose
from stormda.grid import PlaneGrid
from stormda.io import read_ensemble
from stormda.storm.config import StormConfig
from stormda.storm.demo import DemoConfig, full, quick, run_case, run_demo
from stormda.storm.network import StormNetwork
from stormda.storm.normalization import Normalization
from stormda.storm.prior import Storm
from stormda.storm.scores import Row, read_scores
from stormda.storm.twin.case import NETWORKS, TwinConfig
from stormda.storm.twin.climatology import Climatology
from stormda.storm.twin.methods import METHODS, load_equipment

MODEL = SQGConfig(points=16)
SMALL = DemoConfig(case=TwinConfig(cycles=3, discarded=1, members=4, spin_up_days=2), model=MODEL)
FILES = ("truth.nc", "observations.nc", "initial_ensemble.nc", "analysis.nc")
FIGURES = ("maps.png", "cycles.png", "ranks.png", "spectra.png")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a random prior for 16 x 16 points, and a climatology."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = StormNetwork(
        StormConfig(variables=("lower", "upper"), width=16, heads=2, encoder_depth=1, depth=1),
        PlaneGrid((16, 16), spacing_m=(MODEL.spacing, MODEL.spacing)),
    )
    one = torch.ones(2, 1, 1)
    statistics = Normalization(mean=0 * one, std=12.25 * one, increment=0.5 * one)
    prior = Storm(network.eval().requires_grad_(False), statistics, 12.0, {"trained": "never"})
    prior.save(folder / "prior.safetensors")
    states = SQG(MODEL).spin_up(4, days=2, generator=torch.Generator().manual_seed(3))
    Climatology.from_states(states).save(folder / "climatology.safetensors")
    return folder


@pytest.fixture(scope="module")
def result(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], Path]:
    """Run the demonstration once, with a second network."""
    out = tmp_path_factory.mktemp("demo") / "out"
    config = replace(SMALL, also=("linear-dense",))
    return run_demo(config, out, weights=weights), out


def scores(rows: list[Row]) -> list[Row]:
    return [replace(row, seconds=0.0) for row in rows]


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["demo", *arguments])


def small_arguments(out: Path, weights: Path) -> list[str]:
    settings = ["model.points=16", "case.spin_up_days=2", "methods=storm,oi"]
    return [
        *("--out", str(out), "--weights", str(weights), "--cycles", "3", "--members", "4"),
        *(part for setting in settings for part in ("--set", setting)),
    ]


def test_every_method_is_scored_on_every_network(result: tuple[list[Row], Path]) -> None:
    rows, out = result
    assert [(row.network, row.method) for row in rows] == [
        (network, method) for network in ("arctan-sparse", "linear-dense") for method in METHODS
    ]
    members = {row.method: row.members for row in rows}
    assert members == {"oi": 0, "climatology": 0} | dict.fromkeys(
        ("storm", "letkf", "letkf-storm", "forecast"), 4
    )
    assert all(np.isfinite([row.rmse, row.crps, row.spread_skill]).all() for row in rows)
    assert [row.method for row in read_scores(out / "scores.csv")] == [r.method for r in rows]


def test_everything_is_where_it_is_said_to_be(result: tuple[list[Row], Path]) -> None:
    _, out = result
    assert {path.name for path in out.iterdir()} == {
        *("scores.csv", "report.html", "figures", "linear-dense"),
        *FILES,
    }
    for folder in (out, out / "linear-dense"):
        assert all((folder / name).is_file() for name in FILES)
        assert {path.name for path in (folder / "figures").iterdir()} == set(FIGURES)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_the_analyses_in_the_file_are_those_that_were_scored(
    result: tuple[list[Row], Path], weights: Path
) -> None:
    _, out = result
    equipment = load_equipment(MODEL, weights)
    outcome = run_case(SMALL.case, equipment, ["storm"], lambda what, done: None)
    stored = read_ensemble(out / "analysis.nc")
    assert stored.fields["theta"].shape == (4, 3, 2, 16, 16)
    np.testing.assert_array_equal(stored.fields["theta"], outcome.analyses.numpy())


def test_files_say_where_they_come_from(result: tuple[list[Row], Path]) -> None:
    _, out = result
    record = read_ensemble(out / "linear-dense" / "analysis.nc").provenance
    assert record["network"] == "linear-dense"
    assert record["settings"]["case"]["seed"] == 200
    assert record["prior"] == {"trained": "never"}
    assert set(record["inputs"]) == {"prior.safetensors", "climatology.safetensors"}
    assert record["tuned"]["linear-dense"]["letkf"]["radius_km"] > 0
    assert {"commit", "versions", "machine"} <= set(record)


@pytest.mark.parametrize("name", ["truth.nc", "initial_ensemble.nc", "analysis.nc"])
def test_fields_open_in_xarray_with_their_conventions(
    result: tuple[list[Row], Path], name: str
) -> None:
    with xr.open_dataset(result[1] / name, engine="h5netcdf") as dataset:
        ensemble = ("realization",) if name != "truth.nc" else ()
        assert dataset["theta"].dims == (*ensemble, "time", "level", "y", "x")
        assert dataset["theta"].attrs["units"] == "K"
        assert dataset["level"].attrs["standard_name"] == "height"
        assert dataset.attrs["Conventions"].startswith("CF-1")


def test_the_report_shows_the_table_and_the_figures(result: tuple[list[Row], Path]) -> None:
    rows, out = result
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2 * len(FIGURES)
    assert all(f"{row.rmse:.4f}" in page for row in rows)
    assert "it loses to" in page
    assert page.index("arctan-sparse: ") < page.index("linear-dense: ")


def test_the_same_seed_gives_the_same_table(
    result: tuple[list[Row], Path], weights: Path, tmp_path: Path
) -> None:
    again = run_demo(SMALL, tmp_path / "again", weights=weights)
    other = replace(SMALL, case=replace(SMALL.case, seed=201), methods=("storm",))
    assert scores(again) == scores(result[0])[: len(METHODS)]
    (row,) = run_demo(other, tmp_path / "other", weights=weights)
    assert row.rmse != again[0].rmse


def test_progress_counts_every_analysis(weights: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    config = replace(SMALL, methods=("storm", "climatology"))
    run_demo(config, tmp_path / "out", lambda *what: told.append(what), weights=weights)
    assert sum(done for _, done in told) == config.analyses == 6
    assert told[0] == ("arctan-sparse: truth", 0)


def test_an_interrupted_run_leaves_nothing(weights: Path, tmp_path: Path) -> None:
    def interrupt(what: str, done: int) -> None:
        if what == "files":
            raise KeyboardInterrupt

    config = replace(SMALL, methods=("storm",))
    with pytest.raises(KeyboardInterrupt):
        run_demo(config, tmp_path / "out", interrupt, weights=weights)
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_table_verdict_and_places(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command(*small_arguments(out, weights))
    assert done.exit_code == 0, done.output
    header, storm, oi = (line for line in done.stdout.splitlines() if "  " in line)
    with (out / "scores.csv").open() as file:
        assert [header.split(), storm.split(), oi.split()] == list(csv.reader(file))
    assert "points = 16" in done.stdout
    assert "arctan-sparse: storm has " in done.stdout
    assert str(out / "report.html") in done.stdout
    assert "analysis 6 of 6 arctan-sparse: oi" in done.stderr


def test_existing_output_is_refused_before_anything_is_computed(
    weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    refused = command(*small_arguments(tmp_path, weights))
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1] == (
        f"Error: {tmp_path}: expected a folder that is empty or does not exist yet, "
        "got one that holds files (--overwrite replaces them)"
    )
    allowed = command(*small_arguments(tmp_path, weights), "--overwrite")
    assert allowed.exit_code == 0, allowed.output
    assert (tmp_path / "scores.csv").is_file()
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--members", "1"], "members: expected at least 2, got 1"),
        (["--cycles", "0"], "discarded: expected 0 <= discarded < cycles=0, got 0"),
        (
            ["--seed", "7"],
            "case.seed: expected at least 200 (lower ones are for training and tuning), got 7",
        ),
        (
            ["--set", "methods=storm,magic"],
            "methods: expected 'storm' and others of ['climatology', 'forecast', 'letkf', "
            "'letkf-storm', 'oi', 'storm'], got ('storm', 'magic')",
        ),
        (
            ["--set", "also=arctan-sparse"],
            "also: expected networks other than 'arctan-sparse', each once, "
            "got ('arctan-sparse',)",
        ),
        (["--set", "model.points=32"], "model.points: expected 16, the prior's grid, got 32"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(
    arguments: list[str], message: str, weights: Path, tmp_path: Path
) -> None:
    refused = command("--out", str(tmp_path / "out"), "--weights", str(weights), *arguments)
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1] == f"Error: {message}"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    refused = command("--out", str(tmp_path / "out"), "--weights", str(tmp_path))
    assert refused.exit_code == 2
    missing = tmp_path / "prior.safetensors"
    assert refused.stderr.splitlines()[-1] == (
        f"Error: prior: expected a file, got {missing}, which does not exist"
    )


@pytest.mark.slow
def test_termination_leaves_nothing(weights: Path, tmp_path: Path) -> None:
    arguments = [*small_arguments(tmp_path / "out", weights), "--cycles", "10000"]
    program = "from stormda.cli import main; main()"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", program, "demo", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=300) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_few_cycles_are_scored_from_their_second_third_on() -> None:
    assert choose(quick(), cycles=3, members=None, seed=None).case.discarded == 1
    assert choose(quick(), cycles=100, members=8, seed=250).case == TwinConfig(
        cycles=100, discarded=10, members=8, seed=250
    )


def test_the_recipes_are_those_of_the_documentation() -> None:
    assert quick().case == TwinConfig(network="arctan-sparse", cycles=30, discarded=10, members=16)
    assert {case.network for case in full().cases} < set(NETWORKS)
    assert full().case.cycles > quick().case.cycles
