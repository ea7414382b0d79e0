"""The mean and spread that fields are normalised by, and those of their change in time.

Statistics are gathered frame by frame, weighted by cell area, without the missing values, in
float64; parts of a data set merge into those of the whole. They know their variables and units and
refuse others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormda.io.atomic import atomic_path
from stormda.io.gathering import (
    GatheredBlock,
    VariableStatistics,
    gather_blocks,
    merge,
    merge_blocks,
)
from stormda.io.moments import Floats, Moments
from stormda.io.selection import TimeSelection
from stormda.io.store import Store


@dataclass(frozen=True, eq=False, kw_only=True)
class Statistics:
    """The statistics of some variables; made by `Statistics.from_store`.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from stormda.grid import LatLonGrid
        >>> from stormda.io import open_store, write_fields
        >>> x = np.array([280.0, 282.0]).reshape(2, 1, 1) + np.zeros((2, 2, 3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_fields(Path(folder, "t.nc"), {"t2m": x}, attributes={"t2m": {"units": "K"}},
        ...                  times=np.array(["2019-03-01", "2019-03-02"], "datetime64[s]"),
        ...                  grid=LatLonGrid([50.0, 51.0], [0.0, 1.0, 2.0]))
        ...     statistics = Statistics.from_store(open_store(Path(folder, "t.nc")), ["t2m"])
        >>> round(float(statistics.mean("t2m")), 9), round(float(statistics.std("t2m")), 9)
        (281.0, 1.0)
    """

    variables: Mapping[str, VariableStatistics]
    """The statistics of each variable."""

    @classmethod
    def from_store(
        cls,
        store: Store,
        names: Sequence[str],
        *,
        time: TimeSelection = None,
        max_missing: float = 1.0,
    ) -> Statistics:
        """Gather statistics over frames of a store.

        Changes are counted between neighbouring frames that are as far apart as most are, so that
        a gap in the data is not taken for a jump.

        Args:
            store: The fields.
            names: The variables.
            time: The frames, as in `Store.read`; those of training only.
            max_missing: The share of missing values, from 0 to 1, above which a variable is
                refused.

        Raises:
            ValueError: If a variable has no valid value, or too few, or cannot be read.
        """
        return cls.from_blocks([gather_blocks(store, names, time)], max_missing=max_missing)

    @classmethod
    def from_blocks(
        cls, parts: Sequence[Sequence[GatheredBlock]], *, max_missing: float = 1.0
    ) -> Statistics:
        """Put together what several ranks gathered with `gather_blocks`.

        Blocks are merged in their own order, whoever gathered them: any number of ranks gives the
        same numbers, bit by bit.

        Args:
            parts: What each rank gathered.
            max_missing: As in `from_store`.

        Raises:
            ValueError: If a block is missing or comes twice, the ranks read other data, or a
                variable has no valid value, or too few.
        """
        variables = merge_blocks([block for part in parts for block in part])
        for name, found in variables.items():
            _require_values(name, found, max_missing)
        return cls(variables=variables)

    def save(self, path: str | Path) -> None:
        """Write the statistics as JSON, complete or not at all; an existing file is replaced."""
        content = {"stormda_statistics": _VERSION, "variables": self.to_dict()}
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_text(json.dumps(content, indent=1), "utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Statistics:
        """Read statistics that `save` wrote.

        Raises:
            ValueError: If the file is of something else.
        """
        try:
            content = json.loads(Path(path).read_bytes())
            if content["stormda_statistics"] != _VERSION:
                raise KeyError
            return cls.from_dict(content["variables"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: expected statistics that `Statistics.save` wrote, got another file"
            ) from error

    def mean(self, name: str) -> Floats:
        """Return the mean, shape () or (level,)."""
        return self._variable(name).values.mean

    def std(self, name: str) -> Floats:
        """Return the standard deviation, shape () or (level,).

        Raises:
            ValueError: If the variable never varies, so that it cannot be divided by.
        """
        return _positive(name, self._variable(name).values)

    def tendency_std(self, name: str) -> Floats:
        """Return the standard deviation of the change between frames, shape () or (level,).

        Raises:
            ValueError: If the variable never changes.
        """
        return _positive(name, self._variable(name).tendency)

    def normalise(
        self, name: str, values: NDArray[Any], mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return `(values - mean) / std`, and 0 where the mask is False.

        Args:
            name: The variable.
            values: Shape (..., [level,] rows, columns).
            mask: Which values are valid, of the same shape.
        """
        cells = self._variable(name).cell_dims
        mean, std = _per_field(self.mean(name), cells), _per_field(self.std(name), cells)
        return np.where(mask, (values - mean) / std, 0.0).astype(np.float32)

    def denormalise(self, name: str, z: NDArray[Any]) -> NDArray[np.float32]:
        """Return normalised values, shape (..., [level,] rows, columns), in their own units."""
        cells = self._variable(name).cell_dims
        mean, std = _per_field(self.mean(name), cells), _per_field(self.std(name), cells)
        return (np.asarray(z) * std + mean).astype(np.float32)

    def require_match(self, store: Store, names: Sequence[str] | None = None) -> None:
        """Raise unless a store has these variables in these units.

        Args:
            store: The fields that are to be normalised.
            names: Which variables; all by default.

        Raises:
            ValueError: If a variable is missing or has other units.
        """
        wanted = self.variables if names is None else {n: self._variable(n) for n in names}
        for name, mine in wanted.items():
            if name not in store.variables:
                raise ValueError(
                    f"store: expected the variables {sorted(self.variables)}, "
                    f"got {sorted(store.variables)}"
                )
            if store.variables[name].units != mine.units:
                raise ValueError(
                    f"store: expected {name!r} in {mine.units!r}, "
                    f"got {store.variables[name].units!r}"
                )

    def merge(self, other: Statistics) -> Statistics:
        """Return the statistics of both samples together.

        The change from the last frame of one to the first of the other is not counted.

        Raises:
            ValueError: If variables, units or time steps differ.
        """
        if self.variables.keys() != other.variables.keys():
            raise ValueError(
                f"statistics: expected those of {sorted(self.variables)}, "
                f"got those of {sorted(other.variables)}"
            )
        pairs = ((name, one, other.variables[name]) for name, one in self.variables.items())
        return Statistics(variables={name: merge(name, one, two) for name, one, two in pairs})

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics as JSON can hold them, exactly."""
        return {
            name: {
                "units": v.units,
                "step_seconds": v.step_seconds,
                "dataset": v.dataset,
                "start": v.start,
                "end": v.end,
                "cell_dims": v.cell_dims,
                "values": v.values.to_dict(),
                "tendency": v.tendency.to_dict(),
            }
            for name, v in self.variables.items()
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Statistics:
        """Return the statistics that `to_dict` gave."""
        return cls(
            variables={
                name: VariableStatistics(
                    units=v["units"],
                    step_seconds=v["step_seconds"],
                    dataset=v.get("dataset", ""),  # not told by those of 0.1
                    start=v.get("start", ""),
                    end=v.get("end", ""),
                    cell_dims=v.get("cell_dims", 2),
                    values=Moments.from_dict(v["values"]),
                    tendency=Moments.from_dict(v["tendency"]),
                )
                for name, v in stored.items()
            }
        )

    def _variable(self, name: str) -> VariableStatistics:
        if name not in self.variables:
            raise ValueError(f"name: expected one of {sorted(self.variables)}, got {name!r}")
        return self.variables[name]


_VERSION = 1


def _require_values(name: str, found: VariableStatistics, max_missing: float) -> None:
    """Raise where a variable has no valid value at some level, or too few."""
    count, missing = np.sum(found.values.count), np.sum(found.values.missing)
    if not np.all(found.values.count):
        raise ValueError(
            f"variable {name!r}: expected at least one valid value, got none from {found.start} "
            f"to {found.end}"
        )
    if missing > max_missing * (count + missing):
        raise ValueError(
            f"variable {name!r}: expected at most {max_missing:.1%} missing values, got "
            f"{missing / (count + missing):.1%}"
        )


def _positive(name: str, sample: Moments) -> Floats:
    """Return the standard deviation, refusing that of a constant."""
    if not (sample.maximum > sample.minimum).all():
        raise ValueError(
            f"name: expected a variable that varies, got {name!r} with minimum {sample.minimum} "
            f"and maximum {sample.maximum}"
        )
    return sample.std


def _per_field(per_level: Floats, cell_dims: int) -> Floats:
    """Return a statistic shaped to combine with (..., [level,] rows, columns)."""
    return per_level.reshape(-1, *(1,) * cell_dims) if per_level.ndim else per_level
