"""What runs of cycles write: ensembles of named fields, with the record of their origin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from stormda.io import EnsembleWriter, Store
from stormda.storm.assimilation_inputs import prior_units
from stormda.storm.config import to_dict
from stormda.storm.level_fields import attributes_of
from stormda.storm.prior import Storm
from stormda.storm.provenance import provenance
from stormda.storm.settings import plain


class EnsembleSettings(Protocol):
    """Settings of a run, as far as its output cares."""

    @property
    def members(self) -> int:
        """Size of the ensemble."""

    @property
    def seed(self) -> int:
        """Seed of all noise."""


def run_writer(
    prior: Storm,
    history: Store,
    out: Path,
    config: EnsembleSettings,
    inputs: Mapping[str, str],
    *,
    title: str,
    overwrite: bool,
) -> EnsembleWriter:
    """Return what writes the ensemble of a run, cycle by cycle, with its settings and inputs.

    Args:
        prior: Whose grid and variables they are.
        history: Whose variables say their names in CF.
        out: The file.
        config: A dataclass of settings.
        inputs: SHA-256 of the input files by path.
        title: What the file holds.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: Where the file is there and may not be replaced.
    """
    run = plain({"settings": to_dict(config), "inputs": dict(inputs)})
    record = provenance(
        config,
        title=title,
        member_seeds=[f"{config.seed}/{member}" for member in range(config.members)],
        inputs=dict(inputs),
        prior=dict(prior.provenance),
    )
    attributes = {
        name: attributes_of(history, name, units) for name, units in prior_units(prior).items()
    }
    return EnsembleWriter(
        path=out,
        grid=prior.grid,  # type: ignore[arg-type]
        attributes=attributes,
        run=run,
        provenance=record,
        overwrite=overwrite,
    )


def named_fields(prior: Storm, analysis: Tensor) -> dict[str, Any]:
    """Return each variable of an ensemble, NaN where the prior knows no value."""
    mask = prior.network.valid
    if mask is not None:
        analysis = torch.where(mask, analysis, torch.nan)
    return {name: analysis[:, i].cpu().numpy() for i, name in enumerate(prior.config.variables)}
