"""A case as CF files, so that any other filter can be run on it, and its analyses beside them.

| file | holds |
|---|---|
| truth.nc | theta at the initial time and at every analysis, (time, level, y, x) |
| observations.nc | every observation with its error, a row for each |
| initial_ensemble.nc | the ensemble to start from, (realization, time, level, y, x) |
| analysis.nc | the analyses of one method, (realization, time, level, y, x) |

theta is the departure from 300 K, as in the model's equations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from stormda.assimilation.systems import SQGConfig
from stormda.grid import PlaneGrid
from stormda.io import (
    LevelAxis,
    ObservationTable,
    observation_table,
    write_ensemble,
    write_fields,
    write_observations,
)
from stormda.storm.twin.case import THETA_STD, Case

EPOCH = np.datetime64("2000-01-01T00:00:00", "s")
"""The initial time in the files; the flow has no calendar."""

_THETA = {
    "units": "K",
    "units_metadata": "temperature: difference",
    "long_name": "departure of potential temperature from 300 K at the boundary",
}
_BOUNDARIES = ("lower", "upper")


@dataclass(frozen=True)
class CaseFiles:
    """Writes a case into a folder.

    Args:
        folder: An existing folder.
        case: The case.
        model: The flow, for the geometry.
        provenance: Stored in every file.
    """

    folder: Path
    case: Case
    model: SQGConfig
    provenance: Mapping[str, Any]

    @property
    def grid(self) -> PlaneGrid:
        """Return the doubly periodic plane."""
        return PlaneGrid((self.model.points,) * 2, spacing_m=(self.model.spacing,) * 2)

    @property
    def levels(self) -> LevelAxis:
        """Return the heights of the boundaries."""
        heights = np.array([0.0, self.model.depth])
        return LevelAxis(
            name="level", values=heights, units="m", standard_name="height", positive="up"
        )

    @property
    def times(self) -> NDArray[np.datetime64]:
        """Return the initial time and the times of the analyses."""
        steps = np.arange(self.case.config.cycles + 1)
        return EPOCH + (3600 * self.case.config.hours * steps).astype("timedelta64[s]")

    def write_case(self) -> None:
        """Write truth.nc, observations.nc and initial_ensemble.nc."""
        write_fields(
            self.folder / "truth.nc",
            {"theta": self.case.truth.numpy(force=True)},
            times=self.times,
            grid=self.grid,
            levels=self.levels,
            attributes={"theta": _THETA},
            provenance=self._record("truth of a twin experiment"),
        )
        write_observations(
            self.folder / "observations.nc",
            self.observations(),
            provenance=self._record("observations of a twin experiment"),
        )
        start = rearrange(self.case.initial, "m v y x -> m 1 v y x")
        self._write_ensemble(
            "initial_ensemble.nc", start, self.times[:1], "initial ensemble of a twin experiment"
        )

    def write_analysis(self, ensemble: Tensor, method: str) -> None:
        """Write analysis.nc.

        Args:
            ensemble: (members, cycles, 2, rows, cols) [K].
            method: What made it, for the title.
        """
        title = f"analyses of a twin experiment by {method}"
        self._write_ensemble("analysis.nc", ensemble, self.times[1:], title)

    def observations(self) -> ObservationTable:
        """Return the observations of all cycles as one table."""
        cols = self.model.points
        counts = [len(seen.y) for seen in self.case.observed]
        index = np.concatenate([seen.index.numpy(force=True) for seen in self.case.observed])
        boundary, place = np.divmod(index, cols * cols)
        names = np.array([f"{self._quantity}_{boundary}" for boundary in _BOUNDARIES])
        return observation_table(
            time=np.repeat(self.times[1:], counts),
            y=self.grid.y[place // cols],
            x=self.grid.x[place % cols],
            value=np.concatenate([seen.y.numpy(force=True) for seen in self.case.observed]),
            error=self.case.network.std,
            variable=names[boundary],
            units=dict.fromkeys(names, "1" if self.case.network.saturating else "K"),
        )

    @property
    def _quantity(self) -> str:
        return "arctan_theta" if self.case.network.saturating else "theta"

    def _write_ensemble(
        self, name: str, ensemble: Tensor, times: NDArray[np.datetime64], title: str
    ) -> None:
        write_ensemble(
            self.folder / name,
            {"theta": ensemble.numpy(force=True)},
            times=times,
            grid=self.grid,
            levels=self.levels,
            attributes={"theta": _THETA},
            provenance=self._record(title),
        )

    def _record(self, title: str) -> dict[str, Any]:
        operator = f"arctan(theta / {THETA_STD} K)" if self.case.network.saturating else "theta"
        comment = f"observed: {operator} + N(0, {self.case.network.std}^2)"
        return {**self.provenance, "title": title, "comment": comment}
