"""Forecasts: the sampler of analyses with nothing observed, step after step.

    x_k^m ~ p(x_k | x_{k-K:k-1}^m)

or, with a prior of several targets, frame after frame of a window at once.

A member begins with its own past where the history is an ensemble, such as the analyses of
`stormda assimilate`; where it is one field, all begin alike and noise parts them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stormda.io import ObservationTable, Store, observation_table
from stormda.parallel import StartedMesh
from stormda.storm.assimilation_config import AssimilationConfig
from stormda.storm.assimilation_inputs import (
    begun,
    check_history,
    initial_past,
    step_of,
)
from stormda.storm.cycler import Cycler
from stormda.storm.ensemble_output import named_fields, run_writer
from stormda.storm.filtering import FilterSettings
from stormda.storm.prior import Storm


@dataclass(frozen=True, kw_only=True)
class ForecastConfig:
    """How far and with how many members a prior looks ahead."""

    steps: int = 24
    """Frames that are forecast."""

    members: int = 16
    """Size of the ensemble; at most that of the history if that is one."""

    seed: int = 0
    """Seed of all noise."""

    start: str | None = None
    """Time of the first forecast; None for one step after the history ends."""

    history_error: float = 0.0
    """Error that every member's history is given at the start, white in space, in standard
    deviations of each variable."""

    filter: FilterSettings = field(
        default_factory=lambda: FilterSettings(
            error_factor=0.8, cohesion=0.0, steps=30, sigma_max=80.0
        )
    )
    """How every frame is sampled; members are not drawn together, as nothing is."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: expected at least 1, got {self.steps}")

    def cycling(self, first: np.datetime64, step: np.timedelta64) -> AssimilationConfig:
        """Return the same as the settings of a run of cycles that begins at a time."""
        return AssimilationConfig(
            members=self.members,
            seed=self.seed,
            start=str(first),
            end=str(first + (self.steps - 1) * step),
            history_error=self.history_error,
            filter=self.filter,
        )


def forecast_files(
    prior: Storm,
    history: Store,
    out: Path,
    config: ForecastConfig,
    *,
    inputs: Mapping[str, str],
    overwrite: bool = False,
    mesh: StartedMesh | None = None,
    progress: Callable[[int, int, np.datetime64], None] | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> int | None:
    """Forecast from the end of a history, and write the ensemble.

    Args:
        prior: The trained prior.
        history: Frames before the first forecast, of one field or of an ensemble.
        out: The CF file to write; frames are kept in `<out>.parts` until it is complete.
        config: The settings.
        inputs: SHA-256 of the input files by path, for the record.
        overwrite: Whether an existing output may be replaced.
        mesh: The processes that share the members (axis `member`) and the network of `prior` (its
            other axes), all of which call this; the first writes. None for one.
        progress: Called after every frame with its number, their count and its time.
        interrupted: Polled after every frame, or window of frames.

    Returns:
        How many frames there are, or None where `interrupted` stopped the run.

    Raises:
        FileExistsError: Where the output is there already.
        ValueError: Where history and prior do not fit together.
    """
    check_history(prior, history)
    step = step_of(prior)
    first = history.times[-1] + step if config.start is None else config.start
    times = np.datetime64(first, "s") + np.arange(config.steps) * step
    settings = config.cycling(times[0], step)
    mesh = StartedMesh.alone(axis="member") if mesh is None else mesh
    cycler = Cycler(prior, _nothing(prior), times, settings, mesh.comm("member"))
    writer = None
    if mesh.rank == 0:
        title = "STORM forecast"
        writer = run_writer(prior, history, out, config, inputs, title=title, overwrite=overwrite)
    initial = initial_past(prior, history, times[0], settings)
    done, cycler.past = begun(prior, writer, initial, mesh.world)
    for first in range(done, len(times), prior.config.targets):
        window = cycler.window(first)
        cycles = range(first, min(first + len(window), len(times)))
        for cycle, (frame, *_) in zip(cycles, window, strict=False):
            if writer is not None:
                writer.write(cycle, times[cycle], named_fields(prior, frame))
            if progress is not None:
                progress(cycle + 1, len(times), times[cycle])
        if interrupted() and cycles.stop < len(times):
            return None
    if writer is not None:
        writer.finish()
    return len(times)


def _nothing(prior: Storm) -> ObservationTable:
    """Return a table of observations without a row, on the coordinates of a prior's grid."""
    places = {name: np.zeros(1) for name in prior.grid.dims}
    one = observation_table(time="2000-01-01", value=np.zeros(1), error=1.0, **places)  # type: ignore[arg-type]
    return one.where(np.zeros(1, bool), "nothing is observed")
