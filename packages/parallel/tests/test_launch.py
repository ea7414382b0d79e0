"""One process starts nothing; several start, find their groups, and end together."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
import torch
import torch.distributed as dist

from stormda.parallel import Mesh, Placement, SelfComm, StartedMesh, launch

PROGRAM = str(Path(__file__).with_name("launched.py"))
PLAIN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("SLURM_", "OMPI_", "PMI_"))
} | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}


def test_plain_python_is_one_process_without_torch_distributed() -> None:
    hook = sys.excepthook
    with launch(Mesh({"replica": -1, "lat": 1}), environment={}) as mesh:
        assert not dist.is_initialized()
        assert (mesh.rank, mesh.size("replica"), mesh.coordinate("lat")) == (0, 1, 0)
        assert isinstance(mesh.comm("replica", "lat"), SelfComm)
        assert mesh.world is mesh.comm("lat")
        assert sys.excepthook is hook
    mesh.close()


def test_the_device_is_the_caller_s() -> None:
    mesh = launch(Mesh({"replica": 1}), device=torch.device("meta"), environment={})
    assert mesh.device == mesh.world.device == torch.device("meta")


def test_the_description_says_where_this_process_is() -> None:
    mesh = launch(Mesh({"replica": 1, "lon": 1}), device=torch.device("cpu"), environment={})
    assert mesh.describe().splitlines() == [
        "axis     size  stride",
        "replica     1       1",
        "lon         1       1",
        "rank 0 of 1 on cpu, started by python: replica=0 lon=0",
    ]


def test_an_exception_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), launch(Mesh({"replica": 1}), environment={}):
        1 / 0  # noqa: B018


class Recording(SelfComm):
    """Writes down when ranks would have waited for each other."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def barrier(self) -> None:
        self.events.append("barrier")

    def close(self) -> None:
        self.events.append("let go")


class EndsInWords:
    """Writes down how a session would have ended."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    def close(self) -> None:
        self.events.append("close")

    def abort(self, status: int) -> NoReturn:
        self.events.append(f"abort {status}")
        raise SystemExit(status)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    noted: list[str] = []
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return noted


def started(events: list[str]) -> StartedMesh:
    placement = Placement(launcher="a test", rank=0, size=2, meeting="")
    comms = {("replica",): Recording(events)}
    session = EndsInWords(events)
    return StartedMesh(
        Mesh({"replica": 2}), placement, torch.device("cpu"), comms, session=session
    )


def test_closing_waits_for_all_ranks_once_and_restores_the_hook(events: list[str]) -> None:
    hook = sys.excepthook
    with started(events) as mesh:
        assert sys.excepthook is not hook
    mesh.close()
    assert events == ["barrier", "let go", "close"]
    assert sys.excepthook is hook


def test_after_an_exception_nobody_is_waited_for(events: list[str]) -> None:
    hook = sys.excepthook
    with pytest.raises(ZeroDivisionError), started(events):
        1 / 0  # noqa: B018
    assert events == []
    assert sys.excepthook is not hook


def test_an_exit_with_a_failure_ends_the_job(events: list[str]) -> None:
    with pytest.raises(SystemExit), started(events):
        sys.exit(3)
    assert events == ["abort 3"]


def test_the_reason_of_an_exit_is_printed(
    events: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit), started(events):
        sys.exit("no data")
    assert events == ["abort 1"]
    assert capsys.readouterr().err == "no data\n"


def test_an_exit_without_one_closes(events: list[str]) -> None:
    with pytest.raises(SystemExit), started(events):
        sys.exit()
    assert events == ["barrier", "let go", "close"]


def test_the_backend_is_one_that_exists() -> None:
    message = r"^backend: expected one of auto, torch, mpi, got 'smoke'$"
    with pytest.raises(ValueError, match=message):
        launch(Mesh({"replica": 1}), backend="smoke", environment={})


def test_a_mesh_that_does_not_fit_is_refused_before_anything_starts() -> None:
    environment = {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "nowhere"}
    message = (
        "mesh: expected sizes whose product is 4, the number of processes, got replica=3; "
        "what fits: replica=4 or 3 processes"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        launch(Mesh({"replica": 3}), environment=environment)
    assert not dist.is_initialized()


def test_a_device_without_a_backend_is_refused() -> None:
    environment = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "nowhere"}
    message = "device: expected cpu or cuda for 2 processes, got meta"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        launch(Mesh({"replica": 2}), device=torch.device("meta"), environment=environment)


def test_an_axis_that_does_not_exist_is_refused() -> None:
    mesh = launch(Mesh({"replica": 1}), environment={})
    with pytest.raises(ValueError, match=r"^axis: expected one of replica, got 'lon'$"):
        mesh.comm("lon")


@pytest.mark.slow
def test_torchrun_gives_every_rank_its_groups() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc-per-node=4", PROGRAM],
        env=PLAIN,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "rank 3 of 4 on cpu, started by torchrun: replica=1 lat=0 lon=1\n" in done.stdout


@pytest.mark.slow
def test_a_rank_that_fails_ends_the_job() -> None:
    """No launcher watches over these two, so the end is the work of the failing rank alone.

    The collective would wait for 1000 s, this test waits for 300 s.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [
        subprocess.Popen(
            [sys.executable, PROGRAM, "fail"],
            env={
                **PLAIN,
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [1, 1]
    assert "RuntimeError: the last rank fails" in errors[1]
    assert "Connection closed by peer" in errors[0] or "reset by peer" in errors[0]
