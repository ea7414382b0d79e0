"""What the demonstration shows: figures, the verdict on the table, the words of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

from stormda.assimilation.systems import SQGConfig
from stormda.storm import figures
from stormda.storm.figures import Snapshot, to_png
from stormda.storm.report import Picture, Report, Section, Table
from stormda.storm.scores import Analyses, EnsembleRun, Row
from stormda.storm.twin.case import NETWORKS, Case, Network, TwinConfig
from stormda.storm.uncertainty import interval, root_mean, root_ratio

OWN = "storm"
"""The method that the demonstration is about."""

LEAST_CYCLES = 5
"""Scored cycles without which no interval is given."""

NOTES: MappingProxyType[str, str] = MappingProxyType(
    {
        "storm": "STORM: each member samples the present from its own past and the observations "
        "in one stage, with a trained prior; there is no forecast step.",
        "letkf": "Local ensemble transform Kalman filter that forecasts with the true model, "
        "which is more than STORM knows: the strongest classical filter here.",
        "letkf-storm": "The same filter on STORM's own forecasts (guidance off): the same "
        "information as STORM.",
        "oi": "Optimal interpolation with the climate's covariance: no model.",
        "forecast": "The true model from the initial ensemble, without observations.",
        "climatology": "The climate's mean and variance, whatever the day.",
        "rmse [K]": "Root mean square error of the mean over all scored cycles, points and both "
        "boundaries.",
        "crps [K]": "Continuous ranked probability score, fair to the number of members: the "
        "error of the whole distribution. Lower is better.",
        "spread/skill": "The spread that is claimed over the error that is made: 1 is honest, "
        "less is too sure.",
        "coverage90": "How often the truth is in the central 90 % interval.",
        "members": "Size of the ensemble; 0 where the method gives a Gaussian.",
        "seconds": "Time that the method took for all cycles on the machine named below.",
    }
)
"""What stands in the table, for the page."""


def draw(case: Case, runs: Mapping[str, Analyses], model: SQGConfig) -> dict[str, Picture]:
    """Draw an experiment.

    Args:
        case: The experiment.
        runs: All cycles of every method.
        model: The flow, for the size of the domain.

    Returns:
        Figures by the name of their file.
    """
    discarded, truth = case.config.discarded, case.truth[1:]
    own, last = runs[OWN], case.config.cycles - 1
    snapshot = Snapshot(
        truth=truth[last],
        mean=own.mean[last],
        std=own.variance[last].sqrt(),
        index=case.observed[last].index,
        extent_km=model.length / 1000,
    )
    scored = {name: run.after(discarded) for name, run in runs.items()}
    return {
        "maps": Picture(
            png=to_png(figures.draw_maps(snapshot, f"{OWN}: mean of the ensemble")),
            caption=f"Cycle {last + 1} at the lower boundary: the truth with the points observed "
            "in this cycle, STORM's analysis, its error, and the spread of its members.",
        ),
        "cycles": Picture(
            png=to_png(figures.draw_cycles(runs, truth, discarded)),
            caption="Error and spread of every method at each cycle; the first ones (grey) are "
            "not scored.",
        ),
        "ranks": Picture(
            png=to_png(figures.draw_ranks(scored, truth[discarded:])),
            caption="Rank of the truth among the members: flat where the spread is honest, a bowl "
            "where it is too small, a hill where it is too large.",
        ),
        "spectra": Picture(
            png=to_png(figures.draw_spectra(scored, truth[discarded:])),
            caption="Variance of theta in each wavenumber. Members should look like the truth at "
            "all scales; a mean is smooth where the method is unsure.",
        ),
    }


def intervals(runs: Mapping[str, Analyses], truth: Tensor) -> Table:
    """Return how well the errors are known, and their ratios to STORM's.

    Args:
        runs: The scored cycles of every method.
        truth: At the same cycles, (cycles, variables, rows, cols).
    """
    squares = {
        name: (run.mean - truth).square().double().mean(dim=(1, 2, 3)).numpy(force=True)
        for name, run in runs.items()
    }
    cycles = len(truth)
    known = cycles >= LEAST_CYCLES
    rows = [
        (
            name,
            str(interval(root_mean, mine)) if known else "too few cycles",
            "" if name == OWN or not known else str(interval(root_ratio, squares[OWN], mine)),
        )
        for name, mine in squares.items()
    ]
    return Table(
        title="How well this is known",
        header=("method", "RMSE [K] (95 %)", "RMSE of storm / of this (95 %)"),
        rows=rows,
        note=f"Intervals of 95 % from blocks of the {cycles} scored cycles, drawn with "
        "replacement and long enough for the correlation between cycles (Wilks, 1997). A ratio "
        "whose interval holds 1 is no difference. They speak of this one truth; "
        "other seeds differ by more.",
    )


def residuals(case: Case, runs: Mapping[str, Analyses]) -> Table:
    """Return what the analyses leave of the observations, found and believed.

    Args:
        case: The experiment.
        runs: All cycles of every method.
    """
    rows = []
    for name, run in runs.items():
        if isinstance(run, EnsembleRun):
            found, believed = _residual(case, run)
            rows.append((name, f"{found:.3f}", f"{believed:.3f}", f"{found / believed:.2f}"))
    return Table(
        title="Observations minus analysis",
        header=("method", "found", "believed", "found / believed"),
        rows=rows,
        note="Root mean square of y - H(x), in errors of observation, over the scored cycles. An "
        "optimal linear analysis leaves sqrt(R - H A H') with A its covariance: what is believed "
        "(Desroziers et al., 2005). Much less found than believed is a fit to noise.",
    )


def _residual(case: Case, run: EnsembleRun) -> tuple[float, float]:
    """Return the residuals found and those believed, in errors of observation."""
    found, believed, count = 0.0, 0.0, 0
    for cycle in range(case.config.discarded, case.config.cycles):
        seen = case.observation(cycle)
        predicted = seen.operator(run.ensemble[:, cycle])
        scale = case.network.std**2
        found += float((seen.y - predicted.mean(0)).square().sum()) / scale
        believed += float((1 - predicted.var(0) / scale).clamp(min=0).sum())
        count += len(seen.y)
    return (found / count) ** 0.5, (believed / count) ** 0.5


def verdict(rows: Sequence[Row]) -> str:
    """Say how STORM compares with every other method on one network.

    Args:
        rows: The table of the network, STORM's row in it.

    Examples:
        >>> def row(method, rmse):
        ...     return Row(network="n", method=method, members=4, rmse=rmse, crps=rmse / 2,
        ...                spread_skill=1.0, coverage90=0.9, seconds=1.0)
        >>> verdict([row("storm", 2.0), row("letkf", 1.6), row("oi", 4.0)])
        'n: storm has 1.25 x the RMSE of letkf and 0.50 x that of oi; it loses to letkf'
    """
    own = next(row for row in rows if row.method == OWN)
    others = [row for row in rows if row.method != OWN]
    if not others:
        return f"{own.network}: storm has nothing beside it to be compared with"
    return f"{own.network}: storm has {_ratios(own, others)}; it loses to {_winners(own, others)}"


def describe(name: str, network: Network) -> str:
    """Return a network in words.

    Examples:
        >>> describe("arctan-sparse", NETWORKS["arctan-sparse"])
        'arctan-sparse: arctan(theta / 12.25 K) at 10 % of the points, error 0.1'
    """
    quantity = "arctan(theta / 12.25 K)" if network.saturating else "theta"
    unit = "" if network.saturating else " K"
    where = "all points" if network.density == 1 else f"{100 * network.density:g} % of the points"
    shocks = f", shocks of {network.shock:g} K" if network.shock else ""
    return f"{name}: {quantity} at {where}, error {network.std:g}{unit}{shocks}"


def make_report(
    config: TwinConfig,
    rows: Sequence[Row],
    pictures: Mapping[str, Sequence[Picture]],
    provenance: Mapping[str, Any],
    tables: Mapping[str, Sequence[Table]] = MappingProxyType({}),
) -> Report:
    """Return the page of a demonstration.

    Args:
        config: The first experiment.
        rows: The table of all networks.
        pictures: Figures by network, in the order in which the page shows them.
        provenance: Settings, versions, seeds.
        tables: Further tables by network.
    """
    sections = []
    for name, shown in pictures.items():
        mine = [row for row in rows if row.network == name]
        title = describe(name, NETWORKS[name])
        sections.append(
            Section(
                title=title,
                verdict=verdict(mine),
                rows=mine,
                tables=tables.get(name, ()),
                pictures=tuple(shown),
            )
        )
    lead = (
        "A twin experiment with surface quasi-geostrophic turbulence. Every method starts from "
        f"the truth + {config.initial_error:g} K white noise and sees the same observations every "
        f"{config.hours:g} hours, at points drawn anew each time. Scores are over cycles "
        f"{config.discarded + 1} to {config.cycles}; seed {config.seed}."
    )
    return Report(
        title="STORM on a twin experiment",
        lead=lead,
        sections=sections,
        notes=NOTES,
        provenance=provenance,
    )


def _ratios(own: Row, others: Sequence[Row]) -> str:
    first, *more = (f"{own.rmse / row.rmse:.2f} x" for row in others)
    names = [row.method for row in others]
    phrases = [f"{first} the RMSE of {names[0]}"]
    phrases += [f"{ratio} that of {name}" for ratio, name in zip(more, names[1:], strict=True)]
    return _listed(phrases)


def _winners(own: Row, others: Sequence[Row]) -> str:
    """Name the methods that are better in RMSE or in CRPS."""
    lost = []
    for row in others:
        scores = {"RMSE": (own.rmse, row.rmse), "CRPS": (own.crps, row.crps)}
        worse = [name for name, (mine, other) in scores.items() if not mine < other]
        if len(worse) == 1:
            lost.append(f"{row.method} ({worse[0]})")
        elif worse:
            lost.append(row.method)
    return _listed(lost) if lost else "none"


def _listed(phrases: Sequence[str]) -> str:
    *first, last = phrases
    return f"{', '.join(first)} and {last}" if first else last
