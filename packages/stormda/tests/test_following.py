"""A service that follows files makes the analyses of one run, whatever happens in between."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from stormda.cli import main
from stormda.io import (
    observation_table,
    open_store,
    read_ensemble,
    read_observations,
    write_observations,
)
from stormda.storm.assimilation_config import AssimilationConfig
from stormda.storm.assimilation_run import assimilate_files
from stormda.storm.filtering import FilterSettings
from stormda.storm.following import Follower, follow
from stormda.storm.inbox import Inbox, Sources

HOUR = np.timedelta64(1, "h")
START = np.datetime64("2020-01-02T06", "s")
CONFIG = AssimilationConfig(
    members=3, seed=1, start=str(START), filter=FilterSettings(steps=3, iterations=2)
)


@pytest.fixture
def hourly(case, tmp_path):
    """The observations of the case in a file for each hour, still outside of the folder."""
    table = read_observations(case.observations)
    (tmp_path / "files").mkdir()
    (tmp_path / "inbox").mkdir()
    paths = []
    for k in range(6):
        path = tmp_path / "files" / f"{k}.nc"
        write_observations(path, table.where(table.time == START + k * HOUR, "another hour"))
        paths.append(path)
    return paths


class Service:
    """A follower and its inbox in a folder, with what they said."""

    def __init__(self, case, prior, folder, config=CONFIG, **sources) -> None:
        self.said: list[str] = []
        inbox = Sources(folder=folder / "inbox", observed={"t2m": "t2m"}, **sources)
        self.inbox = Inbox(prior, inbox, self.said.append)
        self.follower = Follower(prior, open_store(case.fields), folder / "out", config, inputs={})

    def run(self, **options) -> int:
        return follow(self.follower, self.inbox, once=True, poll=0.01, **options)


def deliver(path, folder) -> None:
    os.replace(path, folder / "inbox" / path.name)


def analyses(folder) -> np.ndarray:
    paths = sorted(p for p in (folder / "out").glob("analysis_*.nc") if "feedback" not in p.name)
    return np.concatenate([read_ensemble(p).fields["t2m"] for p in paths], axis=1)


def at_once(case, prior, folder) -> np.ndarray:
    assimilate_files(
        prior, open_store(case.fields), read_observations(case.observations),
        folder / "whole.nc", CONFIG, observed={"t2m": "t2m"}, inputs={},
    )  # fmt: skip
    return read_ensemble(folder / "whole.nc").fields["t2m"]


def test_files_that_come_one_by_one_give_the_analyses_of_one_run(
    case, prior, hourly, tmp_path
) -> None:
    made, service = [], Service(case, prior, tmp_path)
    for k, path in enumerate(hourly):
        deliver(path, tmp_path)
        if k == 4:
            continue  # two files at once
        if k != 2:  # started anew, or still running
            service = Service(case, prior, tmp_path)
        made.append(service.run())
    assert made == [1, 2, 3, 4, 6]
    np.testing.assert_array_equal(analyses(tmp_path), at_once(case, prior, tmp_path))
    feedback = sorted((tmp_path / "out").glob("*_feedback.nc"))
    assert len(feedback) == 6
    record = read_ensemble(tmp_path / "out" / "analysis_20200102T110000.nc").provenance
    assert record["observations"]["used"] + record["observations"]["refused"] > 0
    assert str(tmp_path / "inbox" / "5.nc") in record["inputs"]


def test_an_hour_without_a_file_is_forecast_when_the_next_has_come(
    case, prior, hourly, tmp_path
) -> None:
    for k in (0, 3):
        deliver(hourly[k], tmp_path)
    service = Service(case, prior, tmp_path)
    assert service.run() == 4
    accounts = [line.split("00: ")[1] for line in service.said if line.startswith("2020")]
    assert [account.startswith("0 obs") for account in accounts] == [False, True, True, False]
    deliver(hourly[2], tmp_path)
    assert service.run() == 4
    assert re.search(r"2\.nc: 0 of \d+ observations used .*\d+ late", service.said[-1])


def test_the_newest_window_waits_as_long_as_asked(case, prior, hourly, tmp_path) -> None:
    deliver(hourly[0], tmp_path)
    service = Service(case, prior, tmp_path, patience=3600.0)
    looks = []
    assert follow(
        service.follower, service.inbox, poll=0.01,
        interrupted=lambda: looks.append(1) or len(looks) > 3,
    ) == 0  # fmt: skip
    deliver(hourly[1], tmp_path)
    looks.clear()
    follow(
        service.follower, service.inbox, poll=0.01,
        interrupted=lambda: looks.append(1) or len(looks) > 5,
    )  # fmt: skip
    assert service.follower.done == 1  # the first window is over, the second may grow


def test_what_cannot_be_used_is_named_and_does_not_stop_the_service(
    case, prior, hourly, tmp_path
) -> None:
    inbox = tmp_path / "inbox"
    (inbox / "0.nc").write_text("version https://git-lfs.github.com/spec/v1\n")
    (inbox / ".hidden.nc").write_text("half")
    (inbox / "half.nc.part").write_text("half")
    service = Service(case, prior, tmp_path, ahead=10)
    assert service.run() == 0
    assert [line.startswith(f"refused: {inbox}/0.nc: expected") for line in service.said] == [True]
    deliver(hourly[0], tmp_path)  # repaired
    far = observation_table(
        time="2120-01-02T06", lat=[51.0], lon=[1.0], value=[280.0], error=0.5, variable="t2m",
        units={"t2m": "K"},
    )  # fmt: skip
    write_observations(inbox / "far.nc", far)
    assert service.run() == 1
    assert any("far.nc: 0 of 1 observations used (1 too far ahead)" in s for s in service.said)
    (inbox / "0.nc").touch()
    assert service.run() == 1
    assert service.said[-1] == "0.nc: changed after it was read, not read again"


def test_the_end_is_the_end(case, prior, hourly, tmp_path) -> None:
    for path in hourly:
        deliver(path, tmp_path)
    config = replace(CONFIG, end=str(START + 2 * HOUR))
    service = Service(case, prior, tmp_path, config)
    assert service.run() == 3
    assert service.follower.complete


def test_analyses_of_another_run_are_refused(case, prior, hourly, tmp_path) -> None:
    for path in hourly[:3]:
        deliver(path, tmp_path)
    Service(case, prior, tmp_path).run()
    with pytest.raises(ValueError, match=r"out: expected analyses with the settings, prior and"):
        Service(case, prior, tmp_path, replace(CONFIG, seed=2))
    (tmp_path / "out" / "analysis_20200102T070000.nc").unlink()
    with pytest.raises(ValueError, match=r"out: expected analyses from .* on without a gap, got"):
        Service(case, prior, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folder": None}, "observations: expected a folder, got "),
        ({"patience": -1.0}, "patience: expected a number that is not negative, got -1.0"),
        ({"ahead": 0}, "ahead: expected at least 1 step, got 0"),
    ],
)
def test_sources_refuse_nonsense(tmp_path, changes, message: str) -> None:
    good = {"folder": tmp_path, "observed": {}}
    if "folder" in changes:
        changes = {"folder": tmp_path / "absent"}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Sources(**(good | changes))


@pytest.mark.slow
def test_a_service_that_is_killed_goes_on(case, prior, hourly, tmp_path) -> None:
    """Killed outright, then told to stop, then run once: the numbers are those of one run."""
    prior.save(tmp_path / "prior.safetensors")
    arguments = [
        *["follow", "--prior", str(tmp_path / "prior.safetensors"), "--device", "cpu"],
        *["--history", str(case.fields), "--observations", str(tmp_path / "inbox")],
        *["--out", str(tmp_path / "out"), "--set", "members=3", "--set", "seed=1"],
        *["--set", f"start={START}", "--set", "filter.steps=3", "--set", "filter.iterations=2"],
        *["--set", "filter.error_factor=1.0", "--set", "filter.cohesion=0.0"],
    ]

    def until(count: int, sent: signal.Signals) -> int:
        command = [sys.executable, "-m", "stormda", *arguments]
        service = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 300
        while len(list((tmp_path / "out").glob("analysis_*0.nc"))) < count:
            assert service.poll() is None, service.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        service.send_signal(sent)
        service.communicate(timeout=300)
        return service.returncode

    for path in hourly[:2]:
        deliver(path, tmp_path)
    assert until(2, signal.SIGKILL) == -signal.SIGKILL
    for path in hourly[2:4]:
        deliver(path, tmp_path)
    assert until(4, signal.SIGTERM) == 3
    for path in hourly[4:]:
        deliver(path, tmp_path)
    done = CliRunner().invoke(main, [*arguments, "--once", "--json"])
    assert done.exit_code == 0, done.output
    assert '"analyses": 6' in done.stdout
    whole = CliRunner().invoke(
        main,
        [
            *["assimilate", "--prior", str(tmp_path / "prior.safetensors"), "--device", "cpu"],
            *["--history", str(case.fields), "--observations", str(case.observations)],
            *["--out", str(tmp_path / "whole.nc")],
            *arguments[arguments.index("--set") :],
        ],
    )
    assert whole.exit_code == 0, whole.output
    np.testing.assert_array_equal(
        analyses(tmp_path), read_ensemble(tmp_path / "whole.nc").fields["t2m"]
    )
