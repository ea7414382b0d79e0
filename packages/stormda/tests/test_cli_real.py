"""The command line: it does what it says, and wrong input ends in one line and exit code 2."""

import csv
import shlex
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner, Result

from stormda.cli import COMMANDS, main
from stormda.grid import LatLonGrid
from stormda.io import read_ensemble, write_fields
from stormda.storm.config import to_dict
from stormda.storm.settings import first_difference, plain, read_settings, to_toml, write_settings

TINY = shlex.split(
    "--recipe era5-uk --train-end 2020-01-02T06 --device cpu "
    "--set network.width=16 --set network.heads=2 --set network.modes=9 "
    "--set network.history=2 --set network.depth=1 "
    "--set network.encoder_depth=1 --set network.patch=3,3 --set training.batch=4 "
    "--set split.validation_hours=0"
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def refused(result: Result, message: str) -> None:
    """Expect one line on stderr, and exit code 2."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert lines == [f"Error: {message}"]
    assert "Traceback" not in result.output


def test_help_does_not_wait_for_numerical_libraries() -> None:
    code = (
        "import sys; from stormda.cli import main; main(['--help'], standalone_mode=False); "
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name, entry in COMMANDS.items():
        assert name in done.stdout
        assert entry.summary.split()[0] in done.stdout


def test_an_unknown_command_is_refused() -> None:
    result = run("fly")
    assert result.exit_code == 2
    assert "No such command 'fly'" in result.stderr


def test_from_files_to_scores(case, tmp_path) -> None:
    result = run("train", case.fields, "--variables", "t2m", "--out", tmp_path / "run", *TINY,
                 "--set", "training.steps=3")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "width = 16" in result.stdout
    written = read_settings(tmp_path / "run" / "config.toml")
    assert written["recipe"]["network"]["width"] == 16
    assert list(written["inputs"]) == [str(case.fields)]

    assimilate = ["assimilate", "--prior", tmp_path / "run", "--history", case.fields,
                  "--observations", case.observations, "--out", tmp_path / "an.nc",
                  "--members", 3, "--seed", 1, "--start", "2020-01-02T06", "--device", "cpu",
                  "--set", "filter.steps=2"]  # fmt: skip
    result = run(*assimilate)
    assert result.exit_code == 0, result.output
    assert "6 cycles" in result.stdout
    record = read_ensemble(tmp_path / "an.nc").provenance
    assert record["settings"]["filter"]["steps"] == 2
    assert len(record["inputs"]) == 3
    assert record["prior"]["inputs"] == written["inputs"]
    refused(
        run(*assimilate),
        f"{tmp_path}/an.nc: expected an output that does not exist yet, got an existing one "
        "(pass --overwrite to replace it)",
    )

    result = run("evaluate", tmp_path / "an.nc", "--truth", case.fields)
    assert result.exit_code == 0, result.output
    [row] = csv.DictReader((tmp_path / "scores.csv").read_text().splitlines())
    assert row["network"] == "t2m truth"
    assert float(row["rmse"]) > 0
    result = run("evaluate", tmp_path / "an.nc", "--observations", case.observations,
                 "--overwrite")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "t2m observations" in result.stdout


def test_training_refuses_a_finished_or_another_run(case, tmp_path) -> None:
    train = ["train", case.fields, "--variables", "t2m", "--out", tmp_path / "run", *TINY]
    assert run(*train, "--set", "training.steps=2").exit_code == 0
    refused(
        run(*train, "--set", "training.steps=2"),
        f"{tmp_path}/run: expected a folder without a finished prior, got one with "
        "prior.safetensors (pass --overwrite to train anew)",
    )
    (tmp_path / "run" / "prior.safetensors").unlink()
    refused(
        run(*train, "--set", "training.steps=3"),
        f"{tmp_path}/run: expected the run that was begun there, with "
        "recipe.training.steps = 2, got 3 (pass --overwrite to train anew)",
    )
    assert run(*train, "--set", "training.steps=3", "--overwrite").exit_code == 0


def training_of(path, *extra: str) -> Result:
    return run("train", path, "--variables", "t2m", "--out", path.parent / "out", *TINY, *extra)


def test_a_missing_file(tmp_path) -> None:
    path = tmp_path / "none.nc"
    refused(training_of(path), f"{path}: expected a file, got a path that does not exist")


def test_a_file_that_only_says_where_the_data_are(tmp_path) -> None:
    path = tmp_path / "pointer.nc"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    refused(
        training_of(path),
        f"{path}: expected a NetCDF-3 or NetCDF-4 file, got a Git-LFS pointer "
        "(fetch the file with `git lfs pull`)",
    )


def test_an_unknown_variable_with_the_nearest_name(case, tmp_path) -> None:
    refused(
        run("train", case.fields, "--variables", "t2", "--out", tmp_path / "run", *TINY),
        f"{case.fields}: expected one of the variables ['t2m'], got 't2' (did you mean 't2m'?)",
    )


def test_units_that_do_not_convert(case, prior, tmp_path) -> None:
    path = tmp_path / "obs.csv"
    path.write_text("time,lat,lon,t2m\n2020-01-02T06,51,1,280\n")
    grid = LatLonGrid(np.linspace(50, 53, 7), np.linspace(0, 4, 9))
    write_fields(tmp_path / "odd.nc", {"t2m": np.ones((2, 7, 9))}, grid=grid,
                 times=np.array(["2020-01-02T04", "2020-01-02T05"], "datetime64[s]"),
                 attributes={"t2m": {"units": "Pa"}})  # fmt: skip
    refused(
        run("assimilate", "--prior", case.folder / "run", "--history", tmp_path / "odd.nc",
            "--observations", path, "--error", 0.5, "--out", tmp_path / "an.nc"),
        f"{tmp_path}/odd.nc: expected t2m in 'K' as in training, got 'Pa'",
    )  # fmt: skip


def test_units_that_are_assumed_are_said(case, prior, tmp_path) -> None:
    path = tmp_path / "celsius.csv"
    path.write_text("time,lat,lon,t2m\n2020-01-02T06,51,1,7\n")
    result = run("assimilate", "--prior", case.folder / "run", "--history", case.fields,
                 "--observations", path, "--error", 0.5, "--out", tmp_path / "an.nc",
                 "--start", "2020-01-02T06", "--members", 2)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "t2m: no units stated; its values are taken to be in 'K'" in result.stderr
    assert "no observation was used: the analyses are forecasts" in result.stderr


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--members", "1"], "members: expected at least 2, got 1"),
        (["--error", "-1"], "error: expected a positive standard deviation, got -1.0"),
        (["--set", "members"], "--set: expected FIELD=VALUE, got 'members'"),
        (["--observed", "t2m"], "--observed: expected VARIABLE=NAME, got 't2m'"),
        (
            ["--set", "filter.step=2"],
            "--set filter.step: expected a field among ['cohesion', 'covariance', 'error_factor', "
            "'iterations', 'rho', 'sigma_max', 'sigma_min', 'smallest_error', 'steps', "
            "'tolerance'], got 'step' (did you mean 'steps'?)",
        ),
    ],
)
def test_wrong_options_of_assimilate(case, prior, tmp_path, extra, message: str) -> None:
    refused(
        run("assimilate", "--prior", case.folder / "run", "--history", case.fields,
            "--observations", case.observations, "--out", tmp_path / "an.nc", *extra),
        message,
    )  # fmt: skip


def test_a_missing_prior(case, tmp_path) -> None:
    refused(
        run("assimilate", "--prior", tmp_path, "--history", case.fields,
            "--observations", case.observations, "--out", tmp_path / "an.nc"),
        f"prior: expected a file, got {tmp_path}/prior.safetensors, which does not exist",
    )  # fmt: skip


def test_evaluate_asks_for_one_reference(case) -> None:
    refused(
        run("evaluate", case.fields),
        "--truth, --observations: expected one of them, got both or none",
    )


def test_no_names_are_no_variables(case, tmp_path) -> None:
    refused(
        run("train", case.fields, "--variables", ",", "--out", tmp_path / "run"),
        "--variables: expected names separated by commas, got ','",
    )


def test_inspect_says_what_a_file_holds(case, prior) -> None:
    fields = run("inspect", case.fields).stdout
    assert "t2m [K] (time 40, lat 7, lon 9) air_temperature" in fields
    assert "40, 2020-01-01T00:00:00 to 2020-01-02T15:00:00, every 1 h" in fields
    assert "60 of 60 observations used" in run("inspect", case.observations).stdout
    trained = run("inspect", case.folder / "run" / "prior.safetensors", "--checksum").stdout
    assert "STORM prior of t2m, 2 frames of history, every 1 h" in trained
    assert "sha256: " in trained


def test_inspect_refuses_what_is_no_file(tmp_path) -> None:
    refused(
        run("inspect", tmp_path / "none.nc"),
        f"{tmp_path}/none.nc: expected a file, got a path that is none",
    )


def test_settings_survive_a_file(recipe, tmp_path) -> None:
    write_settings(tmp_path / "config.toml", to_dict(recipe))
    assert read_settings(tmp_path / "config.toml") == plain(to_dict(recipe))
    assert first_difference(to_dict(recipe), to_dict(recipe)) == ""
    with pytest.raises(TypeError, match=r"^value: expected a text, number, boolean or list, got"):
        to_toml({"path": {1, 2}})


def test_a_damaged_settings_file_is_refused(tmp_path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("seed = \n")
    with pytest.raises(ValueError, match=rf"^{path}: expected TOML, got Invalid value"):
        read_settings(path)
