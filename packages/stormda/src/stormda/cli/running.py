"""Runs that are shown step by step, and may be interrupted and go on."""

from __future__ import annotations

from typing import Protocol, TypeVar

import click
import numpy as np

from stormda.cli import INTERRUPTED
from stormda.cli.output import Steps, result
from stormda.parallel import Interruption

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


def run_in_steps(run: Run[Outcome], unit: str, *, as_json: bool) -> Outcome:
    """Show the progress of a run; where it is interrupted, say so and exit.

    Args:
        run: The work.
        unit: What its steps are called.
        as_json: Whether an interruption is said as JSON.
    """
    with Interruption() as interrupted, Steps(1, unit) as steps:

        def report(done: int, count: int, time: np.datetime64) -> None:
            steps.to(done, str(time), total=count)

        outcome = run(progress=report, interrupted=interrupted)
    if outcome is None:
        text = "interrupted; the same command goes on from here"
        result(text, {"complete": False}, as_json=as_json)
        click.get_current_context().exit(INTERRUPTED)
    return outcome
