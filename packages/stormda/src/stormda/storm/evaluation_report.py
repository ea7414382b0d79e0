"""The page of an evaluation: scores with intervals, innovations, maps, ranks, errors in time."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stormda.assimilation import rank_histogram
from stormda.grid import locate
from stormda.storm.comparison import FieldComparison, PointComparison
from stormda.storm.evaluation import Scored
from stormda.storm.figures import COLOURS, to_png
from stormda.storm.maps import Panel, draw_fields
from stormda.storm.report import Picture, Section, Table
from stormda.storm.uncertainty import interval, root_mean

LEAST_TIMES = 5
"""Times without which no interval is given."""

NOTES = {
    "rmse": "Root mean square error of the ensemble mean, weighted by area.",
    "crps": "Continuous ranked probability score, fair to the number of members; lower is better.",
    "spread/skill": "The spread that is claimed over the error that is made: 1 is honest.",
    "coverage90": "How often the truth is in the central 90 % interval.",
    "innovation": "Observation minus ensemble mean, at the place and time of the observation.",
}
"""Words on the page."""

_BLUE = COLOURS["storm"]


def section_of_fields(name: str, scored: Scored, compared: FieldComparison) -> Section:
    """Return what a comparison with a truth gave, for the page.

    Args:
        name: The variable.
        scored: Its scores.
        compared: What they were taken from.
    """
    area = compared.area
    error = np.where(compared.valid, compared.ensemble.mean(0) - compared.truth, 0.0)
    squares = (area * error**2).sum((1, 2)) / area.sum((1, 2))
    spread = (area * compared.ensemble.var(0, ddof=1)).sum((1, 2)) / area.sum((1, 2))
    pictures = [
        Picture(png=to_png(_maps(compared)), caption=_caption(name, compared)),
        Picture(
            png=to_png(
                _in_time(compared.times, np.sqrt(squares), np.sqrt(spread), compared.units)
            ),
            caption="Error of the mean and spread of the members at each time.",
        ),
        Picture(png=to_png(_ranks(compared)), caption=RANKS),
    ]
    return Section(
        title=f"{name} against the truth",
        verdict=_verdict(scored, compared.units),
        rows=[scored.row],
        tables=[_intervals(squares, error, area, compared.units)],
        pictures=pictures,
    )


def section_of_points(name: str, scored: Scored, compared: PointComparison, grid: Any) -> Section:  # noqa: ANN401
    """Return what a comparison with observations gave, for the page.

    Args:
        name: The variable.
        scored: Its scores.
        compared: What they were taken from.
        grid: Of the analysis, for the map.
    """
    units = compared.table.units.get(name, "")
    departures = (compared.truth - compared.predicted.mean(0)).numpy()
    believed = (compared.predicted.var(0) + compared.error.square()).sqrt().numpy()
    return Section(
        title=f"{name} against observations",
        verdict=_verdict(scored, units),
        rows=[scored.row],
        tables=[_innovations(departures, believed, compared, units)],
        pictures=[
            Picture(
                png=to_png(_coverage(compared, grid, departures)),
                caption="How many observations lie in each cell, and their mean innovation.",
            ),
            Picture(
                png=to_png(_histogram(departures / believed)),
                caption="Innovations over what is believed of them, beside the normal "
                "distribution that an honest ensemble gives.",
            ),
        ],
    )


RANKS = (
    "Rank of the truth among the members: flat where the spread is honest, a bowl where it is too "
    "small, a hill where it is too large."
)
"""How to read the histogram."""


def _verdict(scored: Scored, units: str) -> str:
    row = scored.row
    judged = "honest" if 0.9 <= row.spread_skill <= 1.1 else "too small"
    judged = "too large" if row.spread_skill > 1.1 else judged
    return (
        f"The mean is off by {row.rmse:.3g} {units} (bias {scored.bias:+.2g}); the spread is "
        f"{row.spread_skill:.2f} times the error, which is {judged}; {100 * row.coverage90:.0f} % "
        f"of {scored.count} values are in the 90 % interval."
    )


def _intervals(
    squares: NDArray[Any], error: NDArray[Any], area: NDArray[Any], units: str
) -> Table:
    bias = (area * error).sum((1, 2)) / area.sum((1, 2))
    enough = len(squares) >= LEAST_TIMES
    note = (
        f"From blocks of the {len(squares)} times, drawn with replacement (Wilks, 1997)."
        if enough
        else f"{len(squares)} times are too few for intervals."
    )
    rows = (
        [
            ("RMSE", str(interval(root_mean, squares))),
            ("bias", str(interval(lambda x: x.mean(-1), bias))),
        ]
        if enough
        else [("RMSE", f"{root_mean(squares):.3f}"), ("bias", f"{bias.mean():+.3f}")]
    )
    header = ("score", f"value (95 %) [{units}]")
    return Table(title="How well this is known", header=header, rows=rows, note=note)


def _innovations(
    departures: NDArray[Any], believed: NDArray[Any], compared: PointComparison, units: str
) -> Table:
    rows = []
    for platform in ["all", *dict.fromkeys(compared.table.platform.tolist())]:
        mine = (compared.table.platform == platform) | (platform == "all")
        if not platform or mine.all() != (platform == "all"):
            continue
        found, expected = departures[mine], believed[mine]
        ratio = np.sqrt((found**2).mean() / (expected**2).mean())
        rows.append(
            (
                platform,
                f"{mine.sum()}",
                f"{found.mean():+.3f}",
                f"{found.std():.3f}",
                f"{np.sqrt((expected**2).mean()):.3f}",
                f"{ratio:.2f}",
            )
        )
    return Table(
        title="Innovations",
        header=("platform", "count", f"mean [{units}]", "std", "believed", "found / believed"),
        rows=rows,
        note="Observation minus ensemble mean. Believed is the root of the members' variance plus "
        "the variance of the observation's stated error; a ratio above 1 is an ensemble too sure "
        "of itself, or errors of observation stated too small.",
    )


def _maps(compared: FieldComparison) -> Figure:
    shown = np.where(compared.valid[-1], compared.truth[-1], np.nan)
    mean = np.where(compared.valid[-1], compared.ensemble[:, -1].mean(0), np.nan)
    spread = np.where(compared.valid[-1], compared.ensemble[:, -1].std(0, ddof=1), np.nan)
    panels = [
        Panel("truth", shown),
        Panel("analysis: ensemble mean", mean),
        Panel("error: analysis - truth", mean - shown, centred=True),
        Panel("spread of the members", spread, own=True),
    ]
    return draw_fields(compared.grid, panels, compared.units)


def _caption(name: str, compared: FieldComparison) -> str:
    return (
        f"{name} at {compared.times[-1]}: the truth, the mean of the members, its error, and the "
        "spread of the members."
    )


def _in_time(times: Any, error: NDArray[Any], spread: NDArray[Any], units: str) -> Figure:  # noqa: ANN401
    with mpl.rc_context({"font.size": 10}):
        figure = Figure(figsize=(9, 3), dpi=110, layout="constrained")
        ax = figure.subplots()
        when = times.astype("datetime64[s]").astype(object)
        ax.plot(when, error, "o-", color=_BLUE, markersize=3, label="error of the mean")
        ax.plot(when, spread, "s--", color=COLOURS["letkf"], markersize=3, label="spread")
        ax.set(ylim=(0, None), ylabel=f"root mean square [{units}]")
        ax.tick_params(axis="x", rotation=20)
        ax.legend(frameon=False)
    return figure


def _ranks(compared: FieldComparison) -> Figure:
    where = compared.valid
    ensemble = torch.from_numpy(compared.ensemble[:, where])
    counts = rank_histogram(ensemble, torch.from_numpy(compared.truth[where])).numpy()
    figure = Figure(figsize=(9, 2.8), dpi=110, layout="constrained")
    ax = figure.subplots()
    ax.bar(np.arange(len(counts)), counts / counts.mean(), width=1.0, color=_BLUE)
    ax.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    ax.set(xlabel="rank of the truth", ylabel="frequency / flat")
    return figure


def _coverage(compared: PointComparison, grid: Any, departures: NDArray[Any]) -> Figure:  # noqa: ANN401
    stencil = locate(grid, *compared.table.position.T)
    nearest = stencil.weights.argmax(1)
    flat = stencil.cells[np.arange(len(departures)), nearest]
    count = np.bincount(flat, minlength=grid.shape[0] * grid.shape[1]).astype(float)
    total = np.bincount(flat, weights=departures, minlength=len(count))
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    shape = grid.shape
    return draw_fields(
        grid,
        [
            Panel("observations in a cell", np.where(count > 0, count, np.nan).reshape(shape)),
            Panel("mean innovation", mean.reshape(shape), centred=True),
        ],
        "",
    )


def _histogram(scaled: NDArray[Any]) -> Figure:
    figure = Figure(figsize=(9, 2.8), dpi=110, layout="constrained")
    ax = figure.subplots()
    ax.hist(np.clip(scaled, -5, 5), bins=41, range=(-5, 5), density=True, color=_BLUE)
    x = np.linspace(-5, 5, 201)
    ax.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), "k--", linewidth=1)
    ax.set(xlabel="innovation / believed", ylabel="density")
    return figure
