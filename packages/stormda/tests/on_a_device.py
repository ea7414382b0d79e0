"""What the commands do with a prior on a device, for `test_device.py`: the numbers of the CPU.

python on_a_device.py DIRECTORY
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from elsewhere import NAME, Elsewhere, install
from torch import Tensor
from whole_run import FILTER, GRID, HOURS, RECIPE, write_case

from stormda.io import Store, open_store, read_ensemble, read_observations, write_fields
from stormda.storm import AssimilationConfig, FileRecipe, Storm
from stormda.storm.assimilation_run import assimilate_files
from stormda.storm.downscaling import Coarsening, DownscalingConfig, downscale_files
from stormda.storm.following import Follower, follow
from stormda.storm.forecasting import ForecastConfig, forecast_files
from stormda.storm.inbox import Inbox, Sources
from stormda.storm.prior_training import PRIOR, fit_prior
from stormda.storm.real_recipes import downscaling
from stormda.storm.trial import TrialConfig

NETWORK = replace(RECIPE.network, mixer="linear", network_tiles=(1, 1))
FORECASTER = replace(RECIPE, network=NETWORK, trial=TrialConfig())
REFINER = replace(
    downscaling(("t2m",)),
    network=replace(NETWORK, history=1, modes=4),
    training=RECIPE.training,
    split=RECIPE.split,
    validate_every=2,
)
CONFIG = AssimilationConfig(members=3, filter=FILTER, start=str(HOURS[30]), history_error=0.1)
CPU = torch.device("cpu")


def with_land(store: Store, path: Path) -> Store:
    """Write the same fields with cells that never have a value."""
    values = np.array(store.read("t2m")[0])
    values[:, :2, :3] = np.nan
    attributes = {"t2m": {"units": "K"}}
    write_fields(path, {"t2m": values}, times=store.times, grid=GRID, attributes=attributes)
    return open_store(path)


def assimilated(prior: Storm, store: Store, folder: Path) -> Path:
    """Assimilate, interrupted after the first cycle and gone on with."""
    out, stops = folder / "analyses.nc", iter([True, False, False])
    for _ in range(2):
        assimilate_files(
            prior, store, read_observations(folder.parent / "observations.nc"), out, CONFIG,
            observed={"t2m": "t2m"}, inputs={}, interrupted=lambda: next(stops),
        )  # fmt: skip
    return out


def forecast(prior: Storm, store: Store, folder: Path) -> Path:
    """Forecast two frames."""
    out, config = folder / "forecast.nc", ForecastConfig(steps=2, members=2, filter=FILTER)
    forecast_files(prior, store, out, config, inputs={})
    return out


def followed(prior: Storm, store: Store, folder: Path) -> Path:
    """Follow a folder with one file; started anew, it is done."""
    (folder / "inbox").mkdir()
    shutil.copy(folder.parent / "observations.nc", folder / "inbox")
    sources = Sources(folder=folder / "inbox", observed={"t2m": "t2m"})
    for _ in range(2):
        service = Follower(prior, store, folder / "out", CONFIG, inputs={})
        follow(service, Inbox(prior, sources, print), once=True, poll=0.01)
    return sorted(p for p in (folder / "out").glob("*.nc") if "feedback" not in p.name)[-1]


def refined(prior: Storm, store: Store, folder: Path) -> Path:
    """Refine the block means of two fields."""
    blocks, out = Coarsening(GRID, 4), folder / "fine.nc"
    fields = torch.from_numpy(store.read("t2m", time=slice(0, 2))[0])
    write_fields(
        folder / "coarse.nc", {"t2m": blocks.means(fields).numpy()}, times=HOURS[:2],
        grid=blocks.grid(), attributes={"t2m": {"units": "K"}},
    )  # fmt: skip
    config = DownscalingConfig(members=2, filter=FILTER)
    downscale_files(prior, open_store(folder / "coarse.nc"), out, config, inputs={})
    return out


def check(
    name: str,
    does: Callable[[Storm, Store, Path], Path],
    trained: Path,
    store: Store,
    folder: Path,
) -> None:
    """Do the same on the CPU and on the device."""
    found: list[Tensor] = []
    for device in ("cpu", NAME):
        own = folder / f"{name}-{device}"
        own.mkdir()
        with Elsewhere():
            out = does(Storm.load(trained / PRIOR).to(device), store, own)
        found.append(torch.from_numpy(read_ensemble(out).fields["t2m"]))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0, equal_nan=True)


def train(recipe: FileRecipe, store: Store, folder: Path) -> Path:
    """Train on the CPU."""
    assert fit_prior(recipe, store, folder, device=CPU)
    return folder


def main(folder: Path) -> None:
    """Check everything that takes a prior from a file."""
    install()
    write_case(folder)
    store = open_store(folder / "fields.nc")
    sea = with_land(store, folder / "sea.nc")
    everywhere, at_sea = (
        train(FORECASTER, store, folder / "a"),
        train(FORECASTER, sea, folder / "b"),
    )
    for name, does in (("assimilate", assimilated), ("forecast", forecast), ("follow", followed)):
        check(name, does, everywhere, store, folder)
        check(f"{name} at sea", does, at_sea, sea, folder)
    check("downscale", refined, train(REFINER, store, folder / "c"), store, folder)
    with Elsewhere():
        assert fit_prior(FORECASTER, store, folder / "d", device=torch.device(NAME))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
