"""An ensemble file that grows cycle by cycle, and goes on where a killed run stopped.

Cycles are kept as parts in `<output>.parts`. Started again, a run asks which are `completed`,
reads back the states it needs, and goes on; `finish` puts the parts together, frame by frame, into
the file that `write_ensemble` would have written, and removes them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid import LatLonGrid, PlaneGrid
from stormda.io.atomic import refuse_existing
from stormda.io.cf_file import CFLayout, create_cf
from stormda.io.index import LevelAxis
from stormda.io.layout import (
    FieldAxes,
    VariableAttributes,
    field_layout,
    increasing_times,
    require_storable,
)
from stormda.io.parts import Parts
from stormda.io.whole_chunks import write_part

_FIELD, _STATE = "field/", "state/"


@dataclass(frozen=True, eq=False, kw_only=True)
class Cycle:
    """One cycle of a run, as it was written."""

    time: np.datetime64
    """The valid time of the fields."""

    fields: dict[str, NDArray[np.float32]]
    """Each variable, shape (realization, [level,] rows, columns)."""

    state: dict[str, NDArray[np.generic]]
    """What the run needs to go on, in its own types."""

    metadata: dict[str, Any]
    """What else was noted."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EnsembleWriter:
    """Writes an ensemble one cycle at a time.

    Examples:
        >>> import tempfile
        >>> from stormda.io import read_ensemble
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     writer = EnsembleWriter(
        ...         path=Path(folder, "analysis.nc"), grid=PlaneGrid((4, 4), (1e5, 1e5)),
        ...         attributes={"theta": {"units": "K"}}, run={"seed": 1})
        ...     done = writer.completed()
        ...     for cycle in range(3):
        ...         if cycle not in done:
        ...             theta = np.full((2, 4, 4), float(cycle))
        ...             writer.write(cycle, np.datetime64("2000-01-01") + cycle, {"theta": theta})
        ...     writer.finish()
        ...     ensemble = read_ensemble(writer.path)
        >>> ensemble.fields["theta"][0, :, 0, 0]
        array([0., 1., 2.], dtype=float32)
    """

    path: str | Path
    """The file that `finish` writes."""

    grid: LatLonGrid | PlaneGrid
    """The horizontal grid."""

    attributes: VariableAttributes
    """The CF attributes of each variable; `units` is required."""

    run: Mapping[str, Any]
    """What makes the run what it is (settings, seed, inputs), as JSON can hold it: a run that
    differs is not resumed."""

    levels: LevelAxis | None = None
    """The vertical axis, if a variable has one."""

    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the numbers come from; `run` is added to it."""

    compression: int = 0
    """The level of gzip of the file, 1 to 9; 0 for none."""

    overwrite: bool = False
    """Whether an existing file may be replaced."""

    def __post_init__(self) -> None:
        """Refuse an existing output before anything is computed."""
        refuse_existing(Path(self.path), overwrite=self.overwrite)

    @property
    def parts(self) -> Parts:
        """The cycles written so far."""
        path = Path(self.path)
        return Parts(path.with_name(f"{path.name}.parts"), self.run)

    def write(
        self,
        cycle: int,
        time: np.datetime64,
        fields: Mapping[str, ArrayLike],
        state: Mapping[str, ArrayLike] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a cycle: it is on the disk when this returns.

        Args:
            cycle: Its number, from 0.
            time: The valid time.
            fields: Each variable, shape (realization, [level,] rows, columns), NaN for missing.
            state: Arrays that a resumed run needs to go on, kept in their own types.
            metadata: Anything that JSON can hold.

        Raises:
            ValueError: If a field does not fit the grid, is infinite, or the parts are of another
                run.
        """
        arrays = {name: np.asarray(values) for name, values in fields.items()}
        stamp = np.atleast_1d(np.asarray(time, "datetime64[s]"))
        self._layout(stamp, arrays)  # raises where the fields do not fit
        stored = {f"{_FIELD}{n}": require_storable(n, values) for n, values in arrays.items()}
        kept = {f"{_STATE}{n}": np.asarray(values) for n, values in (state or {}).items()}
        note = {"time": str(stamp[0]), "metadata": dict(metadata or {})}
        self.parts.write(cycle, {**stored, **kept}, note)

    def completed(self) -> list[int]:
        """Return the numbers of the cycles that are stored and intact, rising."""
        return self.parts.completed()

    def read(self, cycle: int) -> Cycle:
        """Return a stored cycle.

        Raises:
            ValueError: If it is not there or is damaged.
        """
        arrays, note = self.parts.read(cycle)
        return Cycle(
            time=np.datetime64(note["time"], "s"),
            fields={
                name.removeprefix(_FIELD): array.astype(np.float32, copy=False)
                for name, array in arrays.items()
                if name.startswith(_FIELD)
            },
            state={
                name.removeprefix(_STATE): array
                for name, array in arrays.items()
                if name.startswith(_STATE)
            },
            metadata=note["metadata"],
        )

    def finish(self) -> None:
        """Put the cycles together into the file, one at a time, and remove the parts.

        Raises:
            FileExistsError: If the file exists and may not be replaced.
            ValueError: If no cycle is stored, one between is missing, they hold different fields,
                or their times do not increase.
        """
        cycles = self.completed()
        if not cycles or cycles != list(range(len(cycles))):
            raise ValueError(f"{self.path}: expected cycles 0, 1, ... without a gap, got {cycles}")
        layout = self._layout(self._common_times(cycles), self.read(0).fields)
        with create_cf(self.path, layout, overwrite=self.overwrite) as file:
            for cycle in cycles:
                for name, values in self.read(cycle).fields.items():
                    write_part(file[name], (slice(None), cycle), values)
        shutil.rmtree(self.parts.folder)

    def _common_times(self, cycles: list[int]) -> NDArray[np.datetime64]:
        """Return the time of each cycle, checked to hold what the first one holds."""
        times, shapes = [], {name: a.shape for name, a in self.read(0).fields.items()}
        for cycle in cycles:
            stored = self.read(cycle)
            its = {name: array.shape for name, array in stored.fields.items()}
            if its != shapes:
                raise ValueError(
                    f"{self.path}: expected fields of shape {shapes} in cycle {cycle}, got {its}"
                )
            times.append(stored.time)
        return np.array(times, "datetime64[s]")

    def _layout(
        self, times: NDArray[np.datetime64], arrays: Mapping[str, NDArray[Any]]
    ) -> CFLayout:
        """Describe the file for fields of one cycle, given `times` of all of them."""
        members = next((array.shape[0] for array in arrays.values() if array.ndim), 0)
        axes = FieldAxes(
            times=increasing_times(times),
            grid=self.grid,
            members=np.arange(members),
            levels=self.levels,
        )
        shapes = {n: (*a.shape[:1], len(times), *a.shape[1:]) for n, a in arrays.items()}
        provenance = {**self.provenance, "run": dict(self.run)}
        return field_layout(axes, shapes, self.attributes, provenance, self.compression)
