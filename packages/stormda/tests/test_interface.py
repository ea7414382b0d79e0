"""What surrounds the commands: typos, JSON, exit codes, quiet and verbose, logs, completion."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner, Result

from stormda.cli import COMMANDS, INTERRUPTED, main
from stormda.cli.output import Steps, reporting
from stormda.grid import LatLonGrid, grid
from stormda.io import observation_table, write_fields, write_observations
from stormda.storm.doctor import examine
from stormda.storm.inspection import inspect_file
from stormda.storm.maps import Panel, coastlines, draw_fields
from stormda.storm.uncertainty import block_indices, block_length, interval, root_mean, root_ratio

GRID = LatLonGrid(np.linspace(50, 53, 7), np.linspace(0, 4, 9))
HOURS = np.datetime64("2020-01-01T00", "s") + 3600 * np.array([0, 1, 2, 5])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["asimilate"], "No such command 'asimilate'. Did you mean 'assimilate'?"),
        (["demo", "--membres", "3"], "No such option '--membres'"),
        (["demo", "--set", "case.cycle=3"], "(did you mean 'cycles'?)"),
        (["demo", "--set", "case.cycles.x=3"], "expected 'cycles' to be the last field, got more"),
        (["-q", "-v", "doctor"], "--quiet, --verbose: expected one of them, got both"),
    ],
)
def test_a_typo_is_refused_with_a_suggestion(tmp_path, arguments, message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"stormda {name}" in result.stdout.split("Examples:")[1]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_shells_get_completions(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_STORMDA_COMPLETE" in result.stdout
    complete = CliRunner().invoke(
        main,
        prog_name="stormda",
        env={
            "_STORMDA_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": "stormda ins",
            "COMP_CWORD": "1" if shell == "zsh" else "ins",
        },
    )
    assert "inspect" in complete.stdout


def test_the_doctor_says_what_works() -> None:
    values = json.loads(run("doctor", "--json").stdout)
    assert values == json.loads(json.dumps(examine().values))
    assert values["attention"]["plain"] == "ready"
    assert re.match(r"\d+\.\d+", values["packages"]["torch"])
    text = run("doctor").stdout
    assert [line for line in text.splitlines() if not line.startswith(" ") and line] == [
        "packages", "machine", "attention", "distributed", "advice",
    ]  # fmt: skip


def test_a_log_holds_what_a_quiet_command_does_not_say(tmp_path) -> None:
    log = tmp_path / "run.log"
    result = run("-q", "--log-file", log, "inspect", tmp_path / "none.nc")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert "FileNotFoundError" in log.read_text()
    assert "Traceback" in log.read_text()
    assert "Traceback" in run("-v", "inspect", tmp_path / "none.nc").stderr


def test_progress_in_a_pipe_is_a_line_at_every_tenth(capsys) -> None:
    with reporting(), Steps(40, "step") as steps:
        for done in range(1, 41):
            steps.to(done, "loss 1")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "step 40 of 40 loss 1"
    with reporting(quiet=True), Steps(40, "step") as steps:
        steps.to(40)
    assert capsys.readouterr().err == ""


def test_an_interrupted_training_has_its_own_exit_code(case, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("stormda.cli.train.fit_prior", lambda *a, **k: False)
    result = run("train", case.fields, "--variables", "t2m", "--out", tmp_path / "p", "--json")
    assert result.exit_code == INTERRUPTED == 3
    assert json.loads(result.stdout) == {"complete": False, "prior": None}


def test_inspection_finds_what_is_doubtful(tmp_path) -> None:
    values = np.full((4, *GRID.shape), 7.0)
    values[:, 0, 0] = np.nan
    path = tmp_path / "t2m.nc"
    write_fields(path, {"t2m": values}, times=HOURS, grid=GRID, attributes={"t2m": {"units": "K"}})
    found = [str(problem) for problem in inspect_file(path).problems]
    assert found == [
        "time: 1 step other than the usual 1 h, the first after 2020-01-01T02:00:00; "
        "training leaves out windows that span one",
        "t2m: 186 values outside 100 to 400 K; check the units, the packing and the fill value",
        "t2m: 1.6 % missing in frames [0, 2, 3]; cells that miss once are left out of a prior",
        "t2m: one value only, 7; it cannot be learned from",
    ]
    values = json.loads(run("inspect", path, "--json", "--checksum").stdout)
    assert values["kind"] == "fields"
    assert len(values["problems"]) == 4
    assert len(values["sha256"]) == 64


def test_inspection_finds_observations_that_state_no_error(tmp_path) -> None:
    table = observation_table(
        time=HOURS[[0, 0, 1]], lat=[51.0, 51, 52], lon=[1.0, 1, 1], value=[280.0, 280, 7],
        variable="t2m", units={"t2m": "K"},
    )  # fmt: skip
    path = tmp_path / "obs.nc"
    write_observations(path, table)
    text = run("inspect", path).stdout
    assert "t2m: 2 without an error; pass --error" in text
    assert "t2m: 1 value outside 100 to 400 K" in text
    assert "rows: 1 refused: duplicate; see whether that is meant" in text


def test_blocks_hold_the_correlation_and_intervals_cover() -> None:
    rng = np.random.default_rng(0)
    assert block_length(rng.normal(size=500)) == 1
    index = block_indices(10, 4, 50)
    assert index.shape == (50, 10)
    assert (np.diff(index[:, :4], axis=1) == 1).all()
    inside = {"blocks": 0, "single": 0}
    for _ in range(200):
        x = np.zeros(200)
        noise = rng.normal(size=200)
        for i in range(1, 200):
            x[i] = 0.8 * x[i - 1] + noise[i]
        found = interval(lambda s: s.mean(-1), x, draws=300)
        inside["blocks"] += found.low <= 0 <= found.high
        alone = np.quantile(x[rng.integers(0, 200, (300, 200))].mean(1), [0.025, 0.975])
        inside["single"] += alone[0] <= 0 <= alone[1]
    # 0.95 is asked for; without blocks, half of the intervals miss. 200 trials tell it to 0.02.
    assert inside["blocks"] > 165
    assert inside["single"] < 130


def test_the_ratio_of_a_series_to_itself_is_certain() -> None:
    squares = np.random.default_rng(0).normal(size=50) ** 2
    assert str(interval(root_ratio, squares, squares)) == "1.000 (1.000 to 1.000)"
    message = r"^series: expected the same number of cycles, at least 3, got \[2\]$"
    with pytest.raises(ValueError, match=message):
        interval(root_mean, squares[:2])


def test_coasts_are_on_the_map_and_where_they_are() -> None:
    figure = draw_fields(grid("5deg"), [Panel("a", np.ones((36, 72)))], "K")
    assert figure.axes[0].name == "mollweide"
    assert len(figure.axes[0].lines) == len(coastlines())
    points = np.concatenate(coastlines())
    assert np.abs(points).max(0).tolist() == [180.0, pytest.approx(85, abs=2)]
    for lon, lat in [
        (18.42, -33.92),
        (-9.14, 38.7),
        (151.28, -33.85),
    ]:  # Cape Town, Lisbon, Sydney
        assert np.hypot(*(points - [lon, lat]).T).min() < 0.4
    with pytest.raises(ValueError, match=r"^panels: expected shape \(36, 72\), got \(2, 2\)$"):
        draw_fields(grid("5deg"), [Panel("a", np.ones((2, 2)))], "K")


def test_a_point_on_a_regional_map_is_drawn_at_its_longitude() -> None:
    panel = Panel("a", np.ones(GRID.shape), points=np.array([[51.0, 361.0]]))
    ax = draw_fields(GRID, [panel], "K").axes[0]
    np.testing.assert_allclose(ax.lines[-1].get_xydata(), [[1.0, 51.0]])
