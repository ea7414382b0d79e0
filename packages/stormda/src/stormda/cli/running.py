"""Runs that are shown step by step, and may be interrupted and go on."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Protocol, TypeVar

import click
import numpy as np
import torch

from stormda.cli import INTERRUPTED
from stormda.cli.options import parse_mesh
from stormda.cli.output import LOG, Steps, result
from stormda.parallel import Communicator, Interruption, StartedMesh, launch
from stormda.storm.training_mesh import SAMPLING_AXES

Outcome = TypeVar("Outcome", covariant=True)


class Run(Protocol[Outcome]):
    """Work in steps that returns None where it was interrupted."""

    def __call__(self, *, progress: Progress, interrupted: Interrupted) -> Outcome | None:
        """Do it."""


class Progress(Protocol):
    """Told after every step its number, how many there are, and its time."""

    def __call__(self, done: int, count: int, time: np.datetime64, /) -> None:
        """Take note of a step."""


class Interrupted(Protocol):
    """Asked after every step whether to stop."""

    def __call__(self) -> bool:
        """Return whether to stop."""


@contextmanager
def sharing_members(device: str, sizes: str | None) -> Iterator[StartedMesh]:
    """Start the processes of torchrun, mpirun or srun, if there are, to share an ensemble.

    The first speaks; the others are silent but for errors.

    Args:
        device: Of the option `--device`.
        sizes: Of the option `--mesh`.
    """
    chosen = torch.device("cpu") if device == "cpu" else None
    with launch(parse_mesh(sizes, SAMPLING_AXES), device=chosen) as mesh:
        if mesh.rank == 0:
            yield mesh
            return
        LOG.setLevel(logging.ERROR)
        with redirect_stdout(io.StringIO()):
            yield mesh


def run_in_steps(
    run: Run[Outcome], unit: str, *, as_json: bool, comm: Communicator | None = None
) -> Outcome:
    """Show the progress of a run; where it is interrupted, say so and exit.

    Args:
        run: The work.
        unit: What its steps are called.
        as_json: Whether an interruption is said as JSON.
        comm: The processes that stop together; None for one.
    """
    shown = comm is None or comm.rank == 0
    with Interruption(comm) as interrupted, Steps(1, unit, shown=shown) as steps:

        def report(done: int, count: int, time: np.datetime64) -> None:
            steps.to(done, str(time), total=count)

        outcome = run(progress=report, interrupted=interrupted)
    if outcome is None:
        text = "interrupted; the same command goes on from here"
        result(text, {"complete": False}, as_json=as_json)
        click.get_current_context().exit(INTERRUPTED)
    return outcome
