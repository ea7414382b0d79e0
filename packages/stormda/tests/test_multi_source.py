"""Several sources with one trunk: what is shared, what is not, and runs that go on."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from stormda.cli import main
from stormda.grid import LatLonGrid, PlaneGrid, grid
from stormda.io import Store, open_store, write_fields
from stormda.parallel import module_parts, open_parts
from stormda.storm import (
    Normalization,
    Storm,
    StormConfig,
    StormNetwork,
    Trainer,
    TrainingConfig,
    ladder,
)
from stormda.storm.filtering import FilterSettings
from stormda.storm.multi_source import fit_priors
from stormda.storm.network import parameter_count
from stormda.storm.objective import Batch, denoising_loss
from stormda.storm.prior_training import PRIOR, new_network
from stormda.storm.real_recipes import FileRecipe, small
from stormda.storm.shared_trunk import SHARED, SharedTrunk
from stormda.storm.source_recipes import MultiSourceRecipe, multi_source
from stormda.storm.training_data import load_training_data
from stormda.storm.training_mesh import fill_whole
from stormda.storm.trial import TrialConfig

CPU = torch.device("cpu")
HOURS = np.datetime64("2020-01-01T00", "s") + 3600 * np.arange(30)
CONFIG = StormConfig(
    variables=("a",), patch=(2, 2), width=16, heads=2, encoder_depth=1, depth=2, clock=True
)
PLANE, FINE = (PlaneGrid((n, n), spacing_m=(1.0, 1.0)) for n in (8, 16))
FINER = replace(CONFIG, variables=("b", "c"), patch=(4, 4), history=1)


def both() -> SharedTrunk:
    torch.manual_seed(0)
    return SharedTrunk({"a": StormNetwork(CONFIG, PLANE), "b": StormNetwork(FINER, FINE)})


def test_the_parameters_are_those_of_the_heads_and_one_trunk() -> None:
    networks = StormNetwork(CONFIG, PLANE), StormNetwork(FINER, FINE)
    trunk = sum(parameter_count(getattr(networks[0], part)) for part in SHARED)
    heads = [parameter_count(network) - trunk for network in networks]
    assert parameter_count(both()) == trunk + sum(heads)
    assert trunk > 0.5 * (trunk + sum(heads))


def test_a_checkpoint_holds_the_trunk_once() -> None:
    networks = both()
    parts = module_parts(networks)
    assert sum(part.data.numel() for name, part in parts.items()) == parameter_count(networks)
    assert not [name for name in parts if name.startswith("networks.of_b.trunk")]
    assert [name for name in parts if name.startswith("networks.of_b.fields")]


@pytest.mark.parametrize(
    ("size", "parameters", "trunk"),
    [("10M", 11_058_496, 9_434_752), ("200M", 205_030_848, 185_905_920)],
)
def test_two_sources_of_the_ladder(size: str, parameters: int, trunk: int) -> None:
    """ERA5 and HRRR as in the paper: six and four variables, on the meta device."""
    coarse = ladder(size, tuple("abcdef"))
    fine = replace(ladder(size, tuple("ghij")), patch=(8, 8))
    with torch.device("meta"):
        networks = SharedTrunk({"a": StormNetwork(coarse, PLANE), "b": StormNetwork(fine, FINE)})
    assert parameter_count(networks) == parameters
    assert sum(parameter_count(getattr(networks.first, part)) for part in SHARED) == trunk


class Fields:
    """Noise of some shape; a batch is a function of its step."""

    def __init__(self, variables: int, history: int, side: int) -> None:
        one = torch.ones(variables, 1, 1)
        self.normalization = Normalization(0 * one, one, 0.5 * one)
        self.shape = (history + 1, variables, side, side)

    def batch(self, step: int, size: int) -> Batch:
        g = torch.Generator().manual_seed(step)
        fields = torch.randn(size, *self.shape, generator=g)
        level, clock = torch.rand(size, self.shape[1], generator=g), torch.zeros(size, 6)
        return Batch(fields[:, :-1], fields[:, -1], level, clock)

    def state_dict(self) -> dict[str, object]:
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        assert state == {}


SOURCES = {"a": (Fields(1, 2, 8), 4), "b": (Fields(2, 1, 16), 2)}
TRAINING = TrainingConfig(steps=4, batch=6, warmup=1, checkpoint_every=2, passes=2)


def test_the_gradient_is_that_of_all_sources() -> None:
    """The slow twin: one loss of all samples, and one backward pass."""
    trainer = Trainer(both(), SOURCES, TRAINING)
    for number, task in enumerate(trainer.tasks):
        trainer._backward(*trainer._part(number), task)
    found = {name: p.grad for name, p in trainer.module.named_parameters()}
    networks, loss = both(), torch.zeros(())
    for number, (name, network) in enumerate(networks.each.items()):
        source, size = SOURCES[name]
        batch = source.batch(0, size)
        sigma, noise = trainer._noise(number)
        loss = loss + denoising_loss(network, source.normalization, batch, sigma, noise).sum() / 6
    loss.backward()
    for name, p in networks.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-6)


def test_a_run_that_stops_goes_on(tmp_path: Path) -> None:
    whole = Trainer(both(), SOURCES, TRAINING)
    assert whole.run()
    first = Trainer(both(), SOURCES, TRAINING, directory=tmp_path)
    assert not first.run(interrupted=lambda: first.step == 2)
    second = Trainer(both(), SOURCES, TRAINING, directory=tmp_path)
    assert second.resume() == 2
    assert second.run()
    for one, other in zip(second.average, whole.average, strict=True):
        assert torch.equal(one, other)


def write_waves(path: Path, names: tuple[str, ...], rows: int, cols: int) -> Path:
    on = LatLonGrid(np.linspace(50, 53, rows), np.linspace(0, 4, cols))
    y, x = np.meshgrid(np.linspace(0, 3, rows), np.linspace(0, 3, cols), indexing="ij")
    hour = np.arange(len(HOURS))[:, None, None]
    values = {n: 280 + i + np.sin(2 * x + y + 0.3 * hour) for i, n in enumerate(names)}
    attributes = {name: {"units": "K"} for name in names}
    write_fields(path, values, times=HOURS, grid=on, attributes=attributes)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    return {
        "coarse": write_waves(folder / "coarse.nc", ("t2m",), 8, 12),
        "fine": write_waves(folder / "fine.nc", ("t2m", "d2m"), 16, 24),
    }


TINY = ["--recipe", "small", "--set", "network.width=16", "--set", "network.heads=2",
        "--set", "network.encoder_depth=1", "--set", "network.depth=1",
        "--set", "training.steps=3", "--set", "training.batch=4",
        "--set", "fine:network.patch=4,4", "--share", "coarse=3"]  # fmt: skip


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def command(files: dict[str, Path], out: Path, *more: str) -> Result:
    given = [f"--source=coarse=t2m:{files['coarse']}", f"--source=fine=t2m,d2m:{files['fine']}"]
    return run("pretrain", *given, "--out", out, *TINY, *more)


def test_every_source_has_a_prior_of_its_own(files: dict[str, Path], tmp_path: Path) -> None:
    done = command(files, tmp_path / "priors")
    assert done.exit_code == 0, done.output
    assert "a batch is 3 of coarse, 1 of fine" in done.output
    coarse, fine = (Storm.load(tmp_path / "priors" / name / PRIOR) for name in files)
    assert coarse.grid.shape == (8, 12)
    assert fine.grid.shape == (16, 24)
    assert fine.config.variables == ("t2m", "d2m")
    for part in SHARED:
        mine, theirs = getattr(coarse.network, part), getattr(fine.network, part)
        for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(p, q)
    forecast = tmp_path / "forecast.nc"
    done = run("forecast", "--prior", tmp_path / "priors" / "fine", "--history", files["fine"],
               "--out", forecast, "--steps", 2, "--members", 2,
               "--set", "filter.steps=3")  # fmt: skip
    assert done.exit_code == 0, done.output
    again = command(files, tmp_path / "priors")
    assert again.exit_code == 2
    assert "expected a folder without a finished prior" in again.output
    other = command(files, tmp_path / "priors", "--share", "fine=9", "--overwrite")
    assert other.exit_code == 0, other.output


def test_a_run_of_files_goes_on_where_it_stopped(files: dict[str, Path], tmp_path: Path) -> None:
    start = multi_source({"coarse": ("t2m",), "fine": ("t2m", "d2m")}, start=small)
    recipe = replace(start, sources={
        name: replace(
            one,
            network=replace(one.network, width=16, heads=2, encoder_depth=1, depth=1),
            training=TrainingConfig(steps=4, batch=4, checkpoint_every=2),
        )
        for name, one in start.sources.items()
    })  # fmt: skip
    stores = {name: open_store(path) for name, path in files.items()}
    assert fit_priors(recipe, stores, tmp_path / "whole", device=CPU)
    stops = iter([False, True])
    halves = tmp_path / "halves"
    assert not fit_priors(recipe, stores, halves, device=CPU, interrupted=lambda: next(stops))
    other = replace(recipe, shares={"fine": 3.0})
    with pytest.raises(ValueError, match=r"expected the run that was begun there, with batch"):
        fit_priors(other, stores, halves, device=CPU)
    assert fit_priors(recipe, stores, halves, device=CPU)
    (halves / "coarse" / PRIOR).unlink()  # as if it had been killed while it wrote them
    assert fit_priors(recipe, stores, halves, device=CPU)
    for name in files:
        one, two = (Storm.load(tmp_path / run / name / PRIOR) for run in ("whole", "halves"))
        for p, q in zip(one.network.parameters(), two.network.parameters(), strict=True):
            assert torch.equal(p, q)


def test_networks_that_do_not_fit_together_are_refused() -> None:
    wider = replace(FINER, width=32)
    with pytest.raises(ValueError, match=r"^b: expected blocks like those of the first source"):
        SharedTrunk({"a": StormNetwork(CONFIG, PLANE), "b": StormNetwork(wider, FINE)})
    cells = StormNetwork(CONFIG, grid("healpix4"))
    with pytest.raises(ValueError, match=r"^a: expected a grid of rows and columns, got Healpix"):
        SharedTrunk({"a": cells})
    message = "sources: expected samples of a, b that make a batch of 6, got {'a': 4, 'b': 1}"
    few = {"a": SOURCES["a"], "b": (SOURCES["b"][0], 1)}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Trainer(both(), few, TRAINING)
    with pytest.raises(ValueError, match=r"passes of 1 ranks, got 4, 2$"):
        Trainer(both(), SOURCES, replace(TRAINING, passes=3))


def test_recipes_refuse_nonsense() -> None:
    two = multi_source({"a": ("x",), "b": ("y",)})
    for change, message in [
        ({"sources": {"a": two.sources["a"]}}, r"^sources: expected at least 2, got \['a'\]$"),
        ({"shares": {"c": 1.0}}, r"^shares: expected names of \['a', 'b'\], got \['c'\]$"),
        ({"shares": {"a": 0.0}}, r"^shares: expected positive numbers, got {'a': 0.0}$"),
    ]:
        with pytest.raises(ValueError, match=message):
            replace(two, **change)
    with pytest.raises(ValueError, match=r"^sources: expected names of letters, digits, - and _"):
        multi_source({"a/b": ("x",), "b": ("y",)})
    longer = replace(two.sources["b"], training=TrainingConfig(steps=1))
    with pytest.raises(ValueError, match=r"^b: expected the training of the first source"):
        MultiSourceRecipe(sources={"a": two.sources["a"], "b": longer})
    one_frame = replace(two.sources["b"].network, history=1)
    coarse = replace(two.sources["b"], coarsening=4, network=one_frame)
    with pytest.raises(ValueError, match=r"^b: expected no coarsening, got 4$"):
        MultiSourceRecipe(sources={"a": two.sources["a"], "b": coarse})
    judged = {name: with_trials(one, every=2) for name, one in two.sources.items()}
    for change, message in [
        ({"validate_every": 7}, r"^validate_every: expected one number for all sources, got {'a'"),
        ({"trial": TrialConfig(every=3)}, r"^trial.every: expected one number, or 0, for all"),
        ({"trial": TrialConfig(every=2, patience=1)}, r"^trial.patience: expected one number"),
    ]:
        with pytest.raises(ValueError, match=message):
            MultiSourceRecipe(sources=judged | {"b": replace(judged["b"], **change)})


def with_trials(recipe: FileRecipe, every: int, patience: int = 0) -> FileRecipe:
    """Return a recipe that holds back the last six hours, and assimilates in them."""
    filtering = FilterSettings(error_factor=0.8, steps=2)
    trial = TrialConfig(
        every=every, patience=patience, runs=1, cycles=2, members=2, filter=filtering
    )
    split = replace(recipe.split, validation_hours=6.0)
    return replace(recipe, split=split, trial=trial, validate_every=2)


def test_the_mean_of_the_sources_chooses_the_weights(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """One source is tried, both have a loss; what did best is what both priors are made of."""
    recipe = tiny({"coarse": 3, "fine": 0})
    stores = {name: open_store(path) for name, path in files.items()}
    stops = iter([False, False, True])
    assert not fit_priors(recipe, stores, tmp_path, device=CPU, interrupted=lambda: next(stops))
    assert fit_priors(recipe, stores, tmp_path, device=CPU)
    losses, trials, speeds = (
        noted(tmp_path / f"{name}.csv") for name in ("validation", "trials", "throughput")
    )
    assert [row["step"] for row in losses] == ["2", "4", "6"]
    for row in losses:
        mean = (float(row["coarse_loss"]) + float(row["fine_loss"])) / 2
        assert float(row["loss"]) == pytest.approx(mean, rel=1e-12)
    assert [row["step"] for row in trials] == ["3", "6"]
    assert set(trials[0]) == {"step", "crps", "coarse_crps", "coarse_rmse", "coarse_spread"}
    assert all(row["crps"] == row["coarse_crps"] for row in trials)
    assert speeds
    best = open_parts(tmp_path / "best").step
    assert best == min((float(row["crps"]), int(row["step"])) for row in trials)[1]
    prior = Storm.load(tmp_path / "coarse" / PRIOR)
    whole = fill_whole(both_of(recipe, stores), open_parts(tmp_path / "best"), "").each["coarse"]
    for p, q in zip(prior.network.parameters(), whole.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_run_ends_when_trials_bring_nothing_better(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """With a rate of nothing all trials are the same."""
    recipe = tiny({"coarse": 1, "fine": 1}, patience=2, rate=1e-30)
    stores = {name: open_store(path) for name, path in files.items()}
    assert fit_priors(recipe, stores, tmp_path, device=CPU)
    trials = noted(tmp_path / "trials.csv")
    assert [row["step"] for row in trials] == ["1", "2", "3"]


def noted(path: Path) -> list[dict[str, str]]:
    """Return the rows of a record."""
    return list(csv.DictReader(path.read_text().splitlines()))


def tiny(every: dict[str, int], patience: int = 0, rate: float = 1e-3) -> MultiSourceRecipe:
    """Return the recipe of both files with trials of the sources that `every` names."""
    start = multi_source({"coarse": ("t2m",), "fine": ("t2m", "d2m")}, start=small)
    training = TrainingConfig(steps=6, batch=4, checkpoint_every=3, learning_rate=rate)
    return replace(start, sources={
        name: replace(
            with_trials(one, every[name], patience),
            network=replace(one.network, width=16, heads=2, encoder_depth=1, depth=1),
            training=training,
        )
        for name, one in start.sources.items()
    })  # fmt: skip


def both_of(recipe: MultiSourceRecipe, stores: dict[str, Store]) -> SharedTrunk:
    """Return the networks of a recipe, whole."""
    return SharedTrunk(
        {
            name: new_network(one, load_training_data(one, stores[name], CPU))
            for name, one in recipe.sources.items()
        }
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--source=a:x.nc"], "--source: expected NAME=VARIABLES:FILE, got 'a:x.nc'"),
        (["--source=fine=t2m:x.nc"], "--source: expected distinct names, got ['coarse', 'fine', "),
        (["--set", "c:training.steps=1"], "--set: expected a source among"),
        (["--share", "coarse=many"], "--share: expected NAME=NUMBER, got"),
    ],
)
def test_the_command_refuses_nonsense(
    files: dict[str, Path], tmp_path: Path, words: list[str], message: str
) -> None:
    done = command(files, tmp_path / "out", *words)
    assert done.exit_code == 2
    assert message in done.output
