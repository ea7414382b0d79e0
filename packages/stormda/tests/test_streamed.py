"""Samples that are read when they are needed are those of frames that are held in memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from torch.testing import assert_close

from stormda.grid import Patching
from stormda.io import Store, open_store
from stormda.parallel import Mesh, planned
from stormda.storm import FILE_RECIPES, FileRecipe, Normalization, StormConfig
from stormda.storm.field_share import FieldShare
from stormda.storm.files import FileHistories, Split, fit_normalization
from stormda.storm.filtering import FilterSettings
from stormda.storm.frames import read_frames
from stormda.storm.prior_training import PRIOR, fit_prior
from stormda.storm.real_recipes import small
from stormda.storm.streamed import OwnFrames, StreamedHistories, fit_streamed
from stormda.storm.training_config import TrainingConfig
from stormda.storm.training_data import load_training_data
from stormda.storm.trial import TrialConfig

CPU = torch.device("cpu")
NAMES = ("t2m", "d2m")


def write_fields_with_gaps(path: Path, side: int, *, missing: float) -> Store:
    """Write chunks of 16 x 16 cells and one frame, uncompressed, with two hours left out."""
    rng = np.random.default_rng(0)
    hours = np.delete(np.arange(42), [11, 30])
    fields = 280 + rng.normal(size=(2, len(hours), side, side)).cumsum(1)
    fields[rng.random(fields.shape) < missing] = np.nan
    fields[:, :, 3, 5] = np.nan if missing else 280 + rng.normal(size=len(hours))
    dims = ("time", "lat", "lon")
    dataset = xr.Dataset(
        {name: (dims, fields[i].astype("f4"), {"units": "K"}) for i, name in enumerate(NAMES)},
        {
            "time": np.datetime64("2020-01-01", "ns") + hours.astype("timedelta64[h]"),
            "lat": ("lat", np.linspace(0, 60, side), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 60, side), {"units": "degrees_east"}),
        },
    )
    chunks = {name: {"chunksizes": (1, 16, 16)} for name in NAMES}
    dataset.to_netcdf(path, engine="h5netcdf", encoding=chunks)
    return open_store(path)


@pytest.fixture(scope="module", params=[0.0, 0.2])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("streamed") / "fields.nc"
    return write_fields_with_gaps(path, 16, missing=request.param)


def recipe_of(targets: int = 2) -> FileRecipe:
    start = small(NAMES)
    network = replace(start.network, targets=targets, width=16, heads=2, encoder_depth=1, depth=1)
    training = TrainingConfig(steps=2, batch=4, warmup=1, checkpoint_every=2, seed=3)
    return replace(start, network=network, training=training)


def share_on(store: Store, **sizes: int) -> FieldShare:
    patching = Patching(store.grid, patch=(2, 2))
    return FieldShare(patching, planned(Mesh(sizes), 0) if sizes else None)


def test_statistics_of_one_pass_are_those_of_all_frames(store: Store) -> None:
    frames = read_frames(store, NAMES)
    expected = fit_normalization(frames, 1.0)
    index = np.arange(len(store.times))
    found = fit_streamed(OwnFrames(store, NAMES, index, share_on(store)), 1.0)
    for name in ("mean", "std", "increment"):
        assert_close(
            getattr(found.normalization, name), getattr(expected, name), rtol=1e-6, atol=0
        )
    if bool(frames.valid.all()):
        assert found.always is None
    else:
        assert found.always is not None
        assert torch.equal(found.always, frames.valid.all(0))
        assert not frames.valid[:, :, 3, 5].any()


@pytest.mark.parametrize("sizes", [{}, {"lat": 2}, {"lon": 2}])
def test_parts_are_cut_out_of_whole_batches(store: Store, sizes: dict[str, int]) -> None:
    frames, share = read_frames(store, NAMES), share_on(store, **sizes)
    normalization = fit_normalization(frames, 1.0)
    recipe = recipe_of()
    common = {"error": recipe.error, "step_hours": 1.0, "clock": True, "season": False, "seed": 3,
              "targets": 2}  # fmt: skip
    held = FileHistories(frames, 2, normalization, **common)
    own = OwnFrames(store, NAMES, np.arange(len(store.times)), share)
    complete = bool(frames.valid.all())
    read = StreamedHistories(own, 2, normalization, complete=complete, **common)
    assert torch.equal(read.targets, held.targets)
    for step, samples in ((0, [0, 3, 4]), (9, [1])):
        part = read.part(step, 6, torch.tensor(samples))
        whole = held.batch(step, 6).select(torch.tensor(samples)).cut(share)
        for name in ("history", "target", "level", "clock"):
            assert_close(getattr(part, name), getattr(whole, name))
        assert (part.valid is None) == complete
        assert part.valid is None or torch.equal(part.valid, whole.valid)


def test_a_process_reads_its_part_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that leave the store are counted; chunks are of 16 x 16 cells and one frame."""
    path = tmp_path / "fields.nc"
    write_fields_with_gaps(path, 64, missing=0.0)
    chunks = {name: {"chunks": (1, 16, 16), "compressors": None} for name in NAMES}
    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        for variable in dataset.variables.values():
            variable.encoding.clear()
        dataset.to_zarr(tmp_path / "fields.zarr", zarr_format=2, encoding=chunks)
    store = open_store(tmp_path / "fields.zarr")
    read, get = [0], zarr.storage.LocalStore.get

    async def counted(self: object, key: str, *arguments: object, **named: object) -> object:
        found = await get(self, key, *arguments, **named)
        read[0] += len(found) if found is not None and key.startswith(NAMES) else 0
        return found

    monkeypatch.setattr(zarr.storage.LocalStore, "get", counted)

    def bytes_of_batch(samples: list[int], **sizes: int) -> tuple[int, int]:
        """Return what was read, and what frames and cells of the samples are."""
        own = OwnFrames(store, NAMES, np.arange(len(store.times)), share_on(store, **sizes))
        one = torch.ones(2, 1, 1)
        source = StreamedHistories(
            own, 2, Normalization(280 * one, one, one), error=recipe_of().error, step_hours=1.0,
            clock=False, season=False, complete=True, seed=3, targets=2,
        )  # fmt: skip
        source.part(0, 8, torch.tensor(samples))  # with what describes the arrays
        read[0] = 0
        batch = source.part(1, 8, torch.tensor(samples))
        return read[0], batch.history.nbytes + batch.target.nbytes

    everything = 2 * 40 * 64 * 64 * 4
    part, wanted = bytes_of_batch([0, 4], lat=4)
    assert wanted == 2 * 4 * 2 * 16 * 64 * 4
    assert 0 < part <= wanted  # a frame that two samples have in common is read once
    assert part < everything / 15
    across, wanted = bytes_of_batch([0, 4], lat=2, lon=2)
    assert 0 < across <= wanted
    whole, _ = bytes_of_batch(list(range(8)))
    assert whole > 4 * part


def numbers(path: Path) -> np.ndarray:
    return np.array([row.split(",") for row in path.read_text().splitlines()[1:]], float)


def test_a_streamed_run_is_that_of_frames_in_memory(store: Store, tmp_path: Path) -> None:
    """Its losses, those on the validation period, and the scores of assimilations of it."""
    trial = TrialConfig(every=2, cycles=2, runs=1, members=3, filter=FilterSettings(steps=3))
    split = Split(validation_hours=11.0, embargo_hours=2.0)
    recipe = replace(recipe_of(), split=split, trial=trial)
    for name, one in (("held", recipe), ("read", replace(recipe, streamed=True))):
        assert fit_prior(one, store, tmp_path / name, device=CPU)
        assert (tmp_path / name / PRIOR).is_file()
    for name in ("training.csv", "validation.csv", "trials.csv"):
        held, read = numbers(tmp_path / "held" / name), numbers(tmp_path / "read" / name)
        assert len(held) == (2 if name == "training.csv" else 1)
        np.testing.assert_allclose(read, held, rtol=1e-3 if name == "trials.csv" else 1e-5)


def test_errors(store: Store) -> None:
    message = "streamed: expected False with network.modes, superposition.share, which need all"
    with pytest.raises(ValueError, match=f"^{message} frames$"):
        replace(FILE_RECIPES["era5-uk"](NAMES), streamed=True)
    with pytest.raises(ValueError, match=r"^streamed: expected False with coarsening, "):
        replace(FILE_RECIPES["downscaling"](NAMES), streamed=True)
    recipe = replace(recipe_of(), streamed=True)
    long = replace(recipe, network=StormConfig(variables=NAMES, history=30, patch=(2, 2)))
    with pytest.raises(ValueError, match=r"^history: expected at least 31 frames 1 h apart in "):
        load_training_data(long, store, CPU)
    early = replace(recipe, split=replace(recipe.split, train_end="2019-01-01"))
    with pytest.raises(ValueError, match=r"^split: expected frames in the training period, got "):
        load_training_data(early, store, CPU)
    late = Split(train_end="2021-01-01", embargo_hours=0.0, validation_hours=5.0)
    with pytest.raises(ValueError, match=r"^split: expected frames in the validation period, "):
        load_training_data(replace(recipe, split=late), store, CPU)
