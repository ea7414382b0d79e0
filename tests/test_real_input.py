"""Real input as a whole: killed runs end with the same numbers, many processes equal one."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stormda.grid import LatLonGrid
from stormda.io import observation_table, read_ensemble, write_fields, write_observations

HOURS = np.datetime64("2020-01-01T00", "s") + 3600 * np.arange(40)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
STORMDA = [sys.executable, "-c", "from stormda.cli import main; main()"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone",
            "--nproc-per-node", "2", "-m", "--", "stormda"]  # fmt: skip
TRAIN = shlex.split(
    "--variables t2m --recipe era5-uk --train-end 2020-01-02T06 "
    "--set network.width=16 --set network.heads=2 --set network.modes=9 "
    "--set network.history=2 --set network.depth=1 "
    "--set network.encoder_depth=1 --set training.batch=4 --set training.checkpoint_every=5 "
    "--set split.validation_hours=6 --set split.embargo_hours=2 --set validate_every=5"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two waves that travel over a small grid, and observations of the last hours."""
    folder = tmp_path_factory.mktemp("files")
    grid = LatLonGrid(np.linspace(50, 53, 7), np.linspace(0, 4, 9))
    y, x = np.meshgrid(np.arange(7), np.arange(9), indexing="ij")
    hour = np.arange(len(HOURS))[:, None, None]
    fields = 280 + 3 * np.sin(0.5 * x + 0.3 * hour) + np.cos(0.7 * y - 0.2 * hour)
    write_fields(folder / "t2m.nc", {"t2m": fields}, times=HOURS, grid=grid,
                 attributes={"t2m": {"units": "K"}})  # fmt: skip
    rng = np.random.default_rng(0)
    table = observation_table(
        time=HOURS[rng.integers(30, 39, 90)],
        lat=rng.uniform(50, 53, 90),
        lon=rng.uniform(0, 4, 90),
        value=280 + rng.normal(size=90),
        error=0.5,
        variable="t2m",
        units={"t2m": "K"},
    )
    write_observations(folder / "obs.nc", table)
    return folder


def train(files: Path, out: Path, steps: int) -> list[str]:
    return ["train", str(files / "t2m.nc"), "--out", str(out), *TRAIN,
            "--set", f"training.steps={steps}"]  # fmt: skip


def assimilate(files: Path, prior: Path, out: Path) -> list[str]:
    return ["assimilate", "--prior", str(prior), "--history", str(files / "t2m.nc"),
            "--observations", str(files / "obs.nc"), "--out", str(out), "--members", "3",
            "--start", "2020-01-02T06", "--set", "filter.steps=4"]  # fmt: skip


def finish(arguments: list[str], launcher: list[str] = STORMDA) -> None:
    done = subprocess.run(
        [*launcher, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def kill_once(arguments: list[str], reached: Path, pattern: str, ranks: int = 1) -> None:
    """Start a command, and kill it without warning as soon as it has written something."""
    meeting = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    processes = [
        subprocess.Popen(
            [*STORMDA, *arguments],
            env=ENVIRONMENT | ({"RANK": str(rank)} | meeting if ranks > 1 else {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for rank in range(ranks)
    ]
    deadline = time.monotonic() + 300
    while not any(reached.glob(pattern)):
        assert all(p.poll() is None for p in processes), "it ended before it could be killed"
        assert time.monotonic() < deadline, f"{reached}/{pattern} was never written"
        time.sleep(0.005)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        process.wait(300)
    assert processes[0].returncode == -signal.SIGKILL


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.slow
def test_killed_runs_end_with_the_same_numbers(files: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(train(files, whole, 60))
    kill_once(train(files, killed, 60), killed / "checkpoints", "step-*[0-9]")
    assert not (killed / "prior.safetensors").exists()
    finish(train(files, killed, 60))
    expected = load_file(whole / "prior.safetensors")
    for name, tensor in load_file(killed / "prior.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
    for name in ("training.csv", "validation.csv"):
        assert (killed / name).read_text() == (whole / name).read_text()

    finish(assimilate(files, whole, tmp_path / "whole.nc"))
    kill_once(
        assimilate(files, whole, tmp_path / "killed.nc"), tmp_path / "killed.nc.parts", "*.npz"
    )
    assert not (tmp_path / "killed.nc").exists()
    finish(assimilate(files, whole, tmp_path / "killed.nc"))
    one, other = (read_ensemble(tmp_path / f"{n}.nc").fields["t2m"] for n in ("whole", "killed"))
    np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_two_processes_train_the_prior_of_one(files: Path, tmp_path: Path) -> None:
    """They share the batches; then, killed, two others the heads; then one goes on alone."""
    finish(train(files, tmp_path / "one", 30))
    two, saved = train(files, tmp_path / "two", 30), tmp_path / "two" / "checkpoints"
    kill_once([*two, "--mesh", "replica=2"], saved, "step-*[0-9]", ranks=2)
    kill_once([*two, "--mesh", "tensor=2"], saved, "step-*[12][05]", ranks=2)
    assert not (tmp_path / "two" / "prior.safetensors").exists()
    finish(two)
    expected = load_file(tmp_path / "one" / "prior.safetensors")
    for name, tensor in load_file(tmp_path / "two" / "prior.safetensors").items():
        # sums of gradients in float32 in another order, through 30 steps of AdamW
        torch.testing.assert_close(tensor, expected[name], rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_two_processes_sample_the_members_of_one(files: Path, tmp_path: Path) -> None:
    finish(train(files, tmp_path / "prior", 6))
    finish(assimilate(files, tmp_path / "prior", tmp_path / "one.nc"))
    one = read_ensemble(tmp_path / "one.nc").fields["t2m"]
    assert len(one) == 3  # members, which two do not share evenly
    for mesh in ("member=2", "tensor=2"):
        out = tmp_path / f"{mesh}.nc"
        finish([*assimilate(files, tmp_path / "prior", out), "--mesh", mesh], TORCHRUN)
        np.testing.assert_allclose(read_ensemble(out).fields["t2m"], one, rtol=1e-5)
