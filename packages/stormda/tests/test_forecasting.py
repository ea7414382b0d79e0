"""Forecasts go on from fields and from analyses, and are the same when they were interrupted."""

import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from stormda.cli import main
from stormda.io import open_store, read_ensemble, read_observations
from stormda.storm.assimilation_config import AssimilationConfig
from stormda.storm.assimilation_inputs import initial_past
from stormda.storm.assimilation_run import assimilate_files
from stormda.storm.filtering import FilterSettings
from stormda.storm.forecasting import ForecastConfig, forecast_files

HOUR = np.timedelta64(1, "h")
QUICK = FilterSettings(steps=3, cohesion=0.0)
CONFIG = ForecastConfig(steps=4, members=3, seed=1, filter=QUICK)


@pytest.fixture(scope="module")
def analyses(case, prior, tmp_path_factory):
    out = tmp_path_factory.mktemp("analyses") / "an.nc"
    config = AssimilationConfig(members=4, start="2020-01-02T06", filter=QUICK)
    assimilate_files(
        prior, open_store(case.fields), read_observations(case.observations), out, config,
        observed={"t2m": "t2m"}, inputs={},
    )  # fmt: skip
    return out


def fields(path) -> np.ndarray:
    return read_ensemble(path).fields["t2m"]


def test_members_of_one_field_part_by_noise(case, prior, tmp_path) -> None:
    store = open_store(case.fields)
    assert forecast_files(prior, store, tmp_path / "fc.nc", CONFIG, inputs={}) == 4
    made = read_ensemble(tmp_path / "fc.nc")
    assert made.fields["t2m"].shape == (3, 4, 7, 9)
    assert list(made.axes.times) == [store.times[-1] + k * HOUR for k in range(1, 5)]
    spread = made.fields["t2m"].std(0).mean((1, 2))
    assert spread[0] > 0
    assert spread[-1] > spread[0]
    assert made.provenance["title"] == "STORM forecast"


def test_members_of_analyses_go_on_from_their_own_past(prior, analyses, tmp_path) -> None:
    store, count = open_store(analyses), prior.config.history
    start = store.times[-1] + HOUR
    past = initial_past(prior, store, start, CONFIG.cycling(start, HOUR))
    np.testing.assert_array_equal(past[:, :, 0], fields(analyses)[:3, -count:])
    forecast_files(prior, store, tmp_path / "fc.nc", CONFIG, inputs={})
    means = past[:, -1].mean((1, 2, 3))
    torch.testing.assert_close(
        torch.from_numpy(fields(tmp_path / "fc.nc")[:, 0]).mean((1, 2)), means, atol=2.0, rtol=0
    )


def test_an_interrupted_forecast_goes_on_to_the_same_numbers(prior, analyses, tmp_path) -> None:
    store = open_store(analyses)
    whole, parts = tmp_path / "whole.nc", tmp_path / "parts.nc"
    forecast_files(prior, store, whole, CONFIG, inputs={})
    stopped = forecast_files(prior, store, parts, CONFIG, inputs={}, interrupted=lambda: True)
    assert stopped is None
    assert not parts.exists()
    assert forecast_files(prior, store, parts, CONFIG, inputs={}) == 4
    np.testing.assert_array_equal(fields(parts), fields(whole))


def test_the_command_forecasts_and_its_output_is_evaluated(case, prior, tmp_path) -> None:
    prior.save(tmp_path / "prior.safetensors")
    out = tmp_path / "fc.nc"

    def run(*arguments: object):
        return CliRunner().invoke(main, [str(a) for a in arguments])

    done = run(
        *["forecast", "--prior", tmp_path / "prior.safetensors", "--history", case.fields],
        *["--start", "2020-01-02T06", "--steps", 3, "--members", 3, "--out", out],
        *["--set", "filter.steps=3", "--device", "cpu"],
    )
    assert done.exit_code == 0, done.output
    assert f"3 frames\nwrote {out}" in done.output
    scored = run("evaluate", out, "--truth", case.fields)
    assert scored.exit_code == 0, scored.output
    again = run(
        *["forecast", "--prior", tmp_path / "prior.safetensors", "--history", case.fields],
        *["--out", out],
    )
    assert again.exit_code == 2
    assert "expected an output that does not exist yet" in again.output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": 5}, r"members: expected at most the 4 of .*an\.nc, got 5"),
        (
            {"start": "2020-01-09"},
            r"an\.nc: expected frames at .* before the first analysis, got 6",
        ),
    ],
)
def test_histories_that_do_not_do_are_refused(prior, analyses, tmp_path, changes, message) -> None:
    config = ForecastConfig(**({"members": 3} | changes))
    with pytest.raises(ValueError, match=message):
        forecast_files(prior, open_store(analyses), tmp_path / "fc.nc", config, inputs={})
    assert not list(tmp_path.iterdir())


def test_settings_refuse_nonsense(prior, case, tmp_path) -> None:
    with pytest.raises(ValueError, match=re.escape("steps: expected at least 1, got 0")):
        ForecastConfig(steps=0)
    one = ForecastConfig(members=1)
    with pytest.raises(ValueError, match="members: expected at least 2, got 1"):
        forecast_files(prior, open_store(case.fields), tmp_path / "fc.nc", one, inputs={})
