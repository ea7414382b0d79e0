"""What became of the observations of a run, from cycle to cycle and then as one file.

The columns of each cycle are stored beside its analysis, so that a run that was killed and goes on
writes the same file as one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stormda.grid import Grid
from stormda.io import EnsembleWriter, Feedback, ObservationTable, write_feedback
from stormda.storm.real_observations import GROSS, cells_of

FeedbackColumn = NDArray[np.float64] | NDArray[np.bool_]


def feedback_columns(
    table: ObservationTable,
    grid: Grid,
    variables: Sequence[str],
    background: Tensor,
    analysis: Tensor,
) -> dict[str, FeedbackColumn]:
    """Return means and spreads of two ensembles where they were observed, each (p).

    Args:
        table: The observations of a cycle.
        grid: Where the fields live.
        variables: The fields' names.
        background: The ensemble before, (members, variables, rows, cols).
        analysis: The ensemble after.
    """
    columns: dict[str, FeedbackColumn] = {}
    for name, ensemble in (("background", background), ("analysis", analysis)):
        operator = cells_of(table, grid, variables, ensemble.device)
        there = operator(ensemble).double().cpu().numpy()
        columns[name] = there.mean(0)
        columns[f"{name}_spread"] = there.std(0, ddof=1)
    return columns


def feedback_path(out: Path) -> Path:
    """Return the feedback file that lies beside a file of analyses."""
    return out.with_name(f"{out.stem}_feedback.nc")


def write_run_feedback(
    writer: EnsembleWriter, table: ObservationTable, cycles: int, provenance: Mapping[str, Any]
) -> None:
    """Write the feedback of all stored cycles beside the analyses.

    Args:
        writer: That of the analyses, with all cycles stored.
        table: The observations of the run, in the order of the cycles.
        cycles: How many there are.
        provenance: Where the numbers come from.
    """
    stored = [writer.read(cycle).state for cycle in range(cycles)]
    columns = {name: np.concatenate([part[name] for part in stored]) for name in stored[0]}
    refused = np.where(columns.pop("credible"), "", GROSS)
    path = feedback_path(Path(writer.path))
    feedback = Feedback(**columns, refused=refused)
    write_feedback(path, table, feedback, provenance=provenance, overwrite=True)
