"""The figures of a twin experiment: one cycle as maps, all cycles as curves, ranks and spectra.

Colours are told apart without red and green (Okabe and Ito), curves by their dashes as well. Every
function returns a figure that belongs to nobody: no window, no global state of matplotlib.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from torch import Tensor

from stormda.assimilation import rank_histogram
from stormda.storm.scores import Analyses, EnsembleRun

COLOURS: MappingProxyType[str, str] = MappingProxyType(
    {
        "storm": "#0072B2",
        "letkf": "#E69F00",
        "letkf-storm": "#56B4E9",
        "oi": "#009E73",
        "forecast": "#CC79A7",
        "climatology": "#999999",
        "truth": "#000000",
    }
)
"""The colour of each method in every figure (Okabe and Ito, 2008, Color universal design)."""

_OTHER = "#D55E00"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
}
_BOUNDARY = 0  # the lower one is drawn


@dataclass(frozen=True)
class Snapshot:
    """One cycle of one method, at both boundaries.

    Args:
        truth: theta [K], (2, rows, cols).
        mean: The analysis.
        std: The standard deviation that the method claims.
        index: Flat indices of the observed points.
        extent_km: Side of the domain [km].
    """

    truth: Tensor
    mean: Tensor
    std: Tensor
    index: Tensor
    extent_km: float


@mpl.rc_context(_STYLE)
def draw_maps(snapshot: Snapshot, title: str) -> Figure:
    """Draw truth, analysis, error and spread of the lower boundary, with the observed points."""
    truth, mean, std = (f[_BOUNDARY].numpy(force=True) for f in _fields(snapshot))
    largest, wrong = np.abs(truth).max(), np.abs(mean - truth).max()
    figure, axes = _panels(4, (11, 3.1))
    panels = (
        ("truth and observed points", truth, "PuOr_r", (-largest, largest)),
        (title, mean, "PuOr_r", (-largest, largest)),
        ("error: analysis - truth", mean - truth, "PuOr_r", (-wrong, wrong)),
        ("spread (1 sigma)", std, "cividis", (0, std.max())),
    )
    side = snapshot.extent_km / 1000
    extent = (0.0, side, 0.0, side)
    for ax, (name, field, colours, (low, high)) in zip(axes, panels, strict=True):
        image = ax.imshow(field, origin="lower", extent=extent, cmap=colours, vmin=low, vmax=high)
        figure.colorbar(image, ax=ax, orientation="horizontal", label="K", shrink=0.9)
        ax.set(title=name, xlabel="x [1000 km]")
    rows, cols = _observed(snapshot)
    cell = side / truth.shape[-1]
    axes[0].plot((cols + 0.5) * cell, (rows + 0.5) * cell, "k.", markersize=1.2)
    axes[0].set_ylabel("y [1000 km]")
    return figure


@mpl.rc_context(_STYLE)
def draw_cycles(runs: Mapping[str, Analyses], truth: Tensor, discarded: int) -> Figure:
    """Draw error and spread of every method against the cycle.

    Args:
        runs: By method.
        truth: At the cycles of the runs, (cycles, variables, rows, cols).
        discarded: First cycles that are not scored; they are shaded.
    """
    figure, (left, right) = _panels(2, (9, 3.4))
    cycles = np.arange(1, len(truth) + 1)
    for place, (method, run) in enumerate(runs.items()):
        style: dict[str, Any] = {
            "color": _colour(method),
            "dashes": _dashes(place),
            "label": method,
        }
        left.plot(cycles, _root_mean(run.mean - truth), **style)
        right.plot(cycles, _root_mean(run.variance.sqrt()), **style)
    for ax, title in ((left, "error of the mean"), (right, "spread")):
        ax.axvspan(0.5, discarded + 0.5, color="0.93", zorder=0)
        ax.set(title=title, xlabel="cycle", xlim=(0.5, len(truth) + 0.5), ylim=(0, None))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_ylabel("root mean square [K]")
    right.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@mpl.rc_context(_STYLE)
def draw_ranks(runs: Mapping[str, Analyses], truth: Tensor) -> Figure:
    """Draw how often the truth takes each rank among the members: flat where they are honest."""
    ensembles = {m: run for m, run in runs.items() if isinstance(run, EnsembleRun)}
    figure, axes = _panels(len(ensembles), (2.3 * len(ensembles), 2.4))
    for ax, (method, run) in zip(axes, ensembles.items(), strict=True):
        counts = rank_histogram(run.ensemble, truth).numpy(force=True)
        flat = counts.mean()
        ax.bar(np.arange(len(counts)), counts / flat, width=1.0, color=_colour(method))
        ax.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
        ax.set(title=method, xlabel="rank of the truth")
    axes[0].set_ylabel("frequency / flat")
    return figure


@mpl.rc_context(_STYLE)
def draw_spectra(runs: Mapping[str, Analyses], truth: Tensor) -> Figure:
    """Draw the variance of theta in each wavenumber: of the truth, of members and of means.

    A mean of an uncertain ensemble is smooth by right; its members should look like the truth.
    """
    figure, (left, right) = _panels(2, (9, 3.4))
    for ax in (left, right):
        _draw_spectrum(ax, truth, "truth", (1, 0), 2.5)
    for place, (method, run) in enumerate(runs.items()):
        dashes = _dashes(place)
        if isinstance(run, EnsembleRun):
            _draw_spectrum(left, run.ensemble, method, dashes)
        _draw_spectrum(right, run.mean, method, dashes)
    for ax, title in ((left, "members"), (right, "means")):
        ax.set(title=title, xlabel="waves per side", xscale="log", yscale="log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    left.set_ylabel("variance [K$^2$]")
    right.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def spectrum(fields: Tensor) -> Tensor:
    """Return the variance in each ring of whole wavenumbers, averaged over the other dimensions.

    The rings from 0 on add up to the mean square of the fields.

    Args:
        fields: (*batch, n, n).

    Returns:
        (rings,), from 0 to the corner of the spectral plane.

    Examples:
        >>> wave = torch.cos(2 * torch.pi * 3 * torch.arange(16) / 16).expand(16, 16)
        >>> spectrum(wave)[:5].abs().round(decimals=3)
        tensor([0.0000, 0.0000, 0.0000, 0.5000, 0.0000])
    """
    n = fields.shape[-1]
    power = torch.fft.fft2(fields).abs().square().reshape(-1, n, n).mean(0) / n**4
    waves = torch.fft.fftfreq(n, 1 / n, device=fields.device)
    ring = torch.hypot(waves[:, None], waves).round().long().flatten()
    rings: Tensor = power.new_zeros(int(ring.max()) + 1)
    return rings.index_add_(0, ring, power.flatten())


def to_png(figure: Figure) -> bytes:
    """Return a figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _panels(count: int, size: tuple[float, float]) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with a row of panels that share their vertical axis."""
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    axes = figure.subplots(1, count, squeeze=False, sharey=True)
    return figure, list(axes.flat)


def _draw_spectrum(
    ax: Axes, fields: Tensor, name: str, dashes: tuple[float, ...], width: float = 1.5
) -> None:
    resolved = slice(1, fields.shape[-1] // 2)
    power = spectrum(fields).numpy(force=True)
    waves = np.arange(len(power))
    ax.plot(
        waves[resolved], power[resolved], color=_colour(name), label=name, dashes=dashes, lw=width
    )


def _root_mean(error: Tensor) -> np.ndarray:
    return error.square().mean(dim=(1, 2, 3)).sqrt().numpy(force=True)


def _fields(snapshot: Snapshot) -> tuple[Tensor, Tensor, Tensor]:
    return snapshot.truth, snapshot.mean, snapshot.std


def _observed(snapshot: Snapshot) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = snapshot.truth.shape[-2:]
    boundary, place = np.divmod(snapshot.index.numpy(force=True), rows * cols)
    return np.divmod(place[boundary == _BOUNDARY], cols)


def _colour(method: str) -> str:
    return COLOURS.get(method, _OTHER)


def _dashes(place: int) -> tuple[float, ...]:
    return ((1, 0), (5, 1.5), (2, 1), (7, 1.5, 2, 1.5), (1, 1), (4, 1, 1, 1, 1, 1))[place % 6]
