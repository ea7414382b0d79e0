"""What a cycled assimilation is given, and whether it fits together.

start - K steps ... start - 1 step     the history, from a file
start, start + 1 step, ...             the analyses; each has the observations in
                                       (t - step / 2, t + step / 2]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormda.grid import describe_difference
from stormda.io import EnsembleWriter, ObservationTable, Store
from stormda.parallel import Communicator
from stormda.storm.assimilation_config import AssimilationConfig
from stormda.storm.frames import Times, read_frames, span
from stormda.storm.level_fields import holds, units_of
from stormda.storm.prior import Storm
from stormda.storm.streams import stream

START = 1
"""What random numbers are for."""


def prior_units(prior: Storm) -> dict[str, str]:
    """Return the units of a prior's variables, as its training recorded them."""
    return dict(prior.provenance["variables"])


def step_of(prior: Storm) -> np.timedelta64:
    """Return the time between the frames of a prior."""
    return np.timedelta64(round(3600 * prior.step_hours), "s")


def check_history(prior: Storm, store: Store) -> None:
    """Refuse a history that the prior was not trained for.

    Raises:
        ValueError: Where the prior does not forecast, or the grid, a variable or its units are
            others.
    """
    if prior.provenance["settings"].get("coarsening", 1) > 1:
        raise ValueError(
            "prior: expected one that forecasts, got one trained with the recipe downscaling"
        )
    path = store.paths[0]
    difference = describe_difference(prior.grid, store.grid)
    if difference:
        raise ValueError(f"{path}: expected the grid of the prior: {difference}")
    for name, units in prior_units(prior).items():
        if not holds(store, name):
            raise ValueError(
                f"{path}: expected the variables of the prior {list(prior.config.variables)}, "
                f"got {sorted(store.variables)}"
            )
        found = units_of(store, name)
        if found != units:
            raise ValueError(f"{path}: expected {name} in {units!r} as in training, got {found!r}")


def require_errors(table: ObservationTable) -> None:
    """Refuse a table in which an error of observation is not stated.

    Raises:
        ValueError: Where one is not.
    """
    unknown = int(np.isnan(table.error).sum())
    if unknown:
        raise ValueError(
            f"error: expected the error of every observation, got {unknown} of {len(table)} "
            "without one (pass --error)"
        )


def cycle_times(
    config: AssimilationConfig, history: Times, table: ObservationTable, step: np.timedelta64
) -> Times:
    """Return the times of the analyses.

    Raises:
        ValueError: Where there is none.

    Examples:
        >>> from stormda.io import observation_table
        >>> hour = np.timedelta64(3600, "s")
        >>> past = np.array(["2019-03-01T00", "2019-03-01T01"], "datetime64[s]")
        >>> table = observation_table(time="2019-03-01T03:20", lat=[50.0], lon=[0.0], value=[1.0])
        >>> cycle_times(AssimilationConfig(), past, table, hour).astype("datetime64[h]").tolist()
        [datetime.datetime(2019, 3, 1, 2, 0), datetime.datetime(2019, 3, 1, 3, 0)]
    """
    start = history[-1] + step if config.start is None else np.datetime64(config.start, "s")
    if config.end is None:
        last = table.time[-1] - start
        count = -((step / 2 - last) // step) if len(table) else 0
        end = start + max(0, int(count)) * step
    else:
        end = np.datetime64(config.end, "s")
    if end < start:
        raise ValueError(f"end: expected a time at or after the start {start}, got {end}")
    return np.arange(start, end + np.timedelta64(1, "s"), step)


def initial_past(
    prior: Storm, store: Store, start: np.datetime64, config: AssimilationConfig
) -> Tensor:
    """Return the history of every member before the first analysis.

    All members share a history of one field; of an ensemble each has its own.

    Returns:
        Physical fields, (members, history, variables, rows, cols).

    Raises:
        ValueError: Where a frame or a value is missing.
    """
    count, step = prior.config.history, step_of(prior)
    wanted = start - step * np.arange(count, 0, -1)
    values, valid = _read_pasts(prior, store, wanted, config.members)
    mask, device = prior.network.valid, prior.normalization.std.device
    needed = valid if mask is None else valid | ~mask.cpu()
    if not bool(needed.all()):
        raise ValueError(
            f"{store.paths[0]}: expected values wherever the prior was trained, "
            f"got {int((~needed).sum())} missing ones"
        )
    generator = stream(config.seed, START)
    noise = torch.randn(config.members, *values.shape[2:], generator=generator)[:, None]
    error = config.history_error * prior.normalization.std * noise.to(device)
    return filled(prior, values.to(device) + error)


def _read_pasts(prior: Storm, store: Store, wanted: Times, members: int) -> tuple[Tensor, Tensor]:
    """Return fields at some times and where they exist, (members or 1, time, variables, ...)."""
    there = np.isin(store.times, wanted)
    if not np.array_equal(store.times[there], wanted):
        near = store.times[(store.times >= wanted[0]) & (store.times <= wanted[-1])]
        got = ", ".join(map(str, near)) if len(near) else span(store.times)
        raise ValueError(
            f"{store.paths[0]}: expected frames at {', '.join(map(str, wanted))} before the first "
            f"analysis, got {got}"
        )
    if not len(store.members):
        frames = read_frames(store, prior.config.variables, start=wanted[0], end=wanted[-1])
        return frames.values[None], frames.valid[None]
    if len(store.members) < members:
        raise ValueError(
            f"members: expected at most the {len(store.members)} of {store.paths[0]}, "
            f"got {members}"
        )
    chosen = np.flatnonzero(there).tolist()
    pairs = [store.read(name, time=chosen) for name in prior.config.variables]
    values, valid = (
        torch.stack([torch.from_numpy(one[:members]) for one in part], 2)
        for part in zip(*pairs, strict=True)
    )
    return values, valid


def begun(
    prior: Storm, writer: EnsembleWriter | None, initial: Tensor, comm: Communicator
) -> tuple[int, Tensor]:
    """Return how many cycles of a run are done, in whole windows, and every member's past then.

    Args:
        prior: For the length of a past.
        writer: Of the run, on the first process; None on the others.
        initial: The past before the first cycle, (members, history, variables, *grid.shape).
        comm: The processes that share the ensemble.
    """
    stored = 0 if writer is None else len(writer.completed())
    done = stored - stored % prior.config.targets
    done = int(comm.broadcast(torch.tensor(done, device=comm.device)))
    cycles = range(done)[-prior.config.history :]
    newest = [] if writer is None else [writer.read(cycle).fields for cycle in cycles]
    return done, comm.broadcast(continued_past(prior, initial, newest).contiguous())


def continued_past(
    prior: Storm, initial: Tensor, stored: Sequence[Mapping[str, NDArray[np.float32]]]
) -> Tensor:
    """Return the past of every member after some analyses: the newest of these and the initial.

    Args:
        prior: The prior, which says how many frames are needed.
        initial: The past before the first analysis, (members, history, variables, rows, cols).
        stored: The newest analyses, oldest first, each variable (members, rows, cols), NaN where
            the prior knows no value.
    """
    names = prior.config.variables
    frames = [torch.stack([torch.from_numpy(one[n]) for n in names], dim=1) for one in stored]
    newest = [*initial.unbind(1), *(frame.to(initial.device) for frame in frames)][
        -prior.config.history :
    ]
    return filled(prior, torch.stack(newest, dim=1))


def filled(prior: Storm, fields: Tensor) -> Tensor:
    """Return fields with their mean wherever the prior knows no value, as on land for waves.

    Args:
        prior: The prior.
        fields: Physical fields, (..., variables, rows, cols).
    """
    mask = prior.network.valid
    return fields if mask is None else torch.where(mask, fields, prior.normalization.mean)
