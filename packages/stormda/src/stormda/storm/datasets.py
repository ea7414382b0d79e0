"""xarray objects in, xarray objects out: training and assimilation for notebooks and scripts.

A dataset passes through a file in a temporary folder, so that it is checked, decoded and converted
exactly as a file would be; an analysis comes back as the CF dataset that the command writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from stormda.storm.assimilation_config import AssimilationConfig
from stormda.storm.prior import Storm
from stormda.storm.real_recipes import FileRecipe

if TYPE_CHECKING:
    import xarray as xr

    from stormda.io import ObservationTable

_FIELDS = "fields.nc"


def train_on_dataset(
    fields: xr.Dataset, recipe: FileRecipe, *, folder: Path | None = None
) -> Storm:
    """Train a prior on fields in memory.

    Args:
        fields: Variables (time, lat, lon) with CF attributes: units of the variables, lat and lon.
        recipe: The settings; see `FILE_RECIPES`.
        folder: Keeps prior, settings and losses as `stormda train --out` does; None keeps nothing.

    Raises:
        ValueError: Where the dataset does not hold what the recipe asks for.

    Examples:
        See `docs/start.md`, which runs as a test.
    """
    from stormda.io import open_store  # with its readers, long to import
    from stormda.storm.prior_training import train_on_files

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with TemporaryDirectory() as scratch:
        store = open_store(_stored(fields, Path(scratch)))
        out = Path(scratch, "prior") if folder is None else folder
        prior = train_on_files(recipe, store, out, device=device)
    assert prior is not None  # nothing interrupts it
    return prior


def assimilate_dataset(
    prior: Storm,
    history: xr.Dataset,
    observations: ObservationTable,
    config: AssimilationConfig | None = None,
    *,
    observed: Mapping[str, str] | None = None,
) -> xr.Dataset:
    """Cycle a prior through observations.

    Args:
        prior: A trained prior.
        history: Frames before the first analysis, as the prior was trained on.
        observations: With their errors; `stormda.io.observation_table` makes one from arrays.
        config: Members, seed, period, sampler; the defaults of `stormda assimilate`.
        observed: What a variable is called among the observations, if not the same.

    Returns:
        The ensemble of analyses (realization, time, lat, lon), as `stormda assimilate` writes it.

    Raises:
        ValueError: Where history, observations and prior do not fit together.

    Examples:
        See `docs/start.md`, which runs as a test.
    """
    import xarray as xr  # long to import, and so are the readers

    from stormda.io import open_store
    from stormda.storm.assimilation_run import assimilate_files

    names = {name: name for name in prior.config.variables} | dict(observed or {})
    with TemporaryDirectory() as scratch:
        store = open_store(_stored(history, Path(scratch)))
        out = Path(scratch, "analysis.nc")
        assimilate_files(
            prior,
            store,
            observations,
            out,
            config or AssimilationConfig(),
            observed=names,
            inputs=store.sha256(),
        )
        with xr.open_dataset(out, engine="h5netcdf") as analysis:
            return analysis.load()


def _stored(fields: xr.Dataset, folder: Path) -> Path:
    path = folder / _FIELDS
    fields.to_netcdf(path, engine="h5netcdf")
    return path
