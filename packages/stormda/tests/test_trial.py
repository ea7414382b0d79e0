"""Trials: assimilations of held-back frames that choose the weights and end a training."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stormda.io import open_store
from stormda.storm import FileRecipe, StormNetwork, Trainer
from stormda.storm.prior_training import fit_prior, train_on_files
from stormda.storm.real_recipes import downscaling
from stormda.storm.training_data import TrainingData, load_training_data
from stormda.storm.trial import Trial, TrialConfig
from stormda.storm.validation import Validation

TRIAL = TrialConfig(every=2, cycles=3, runs=2, members=4, observed=0.5)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(case, recipe: FileRecipe) -> TrainingData:
    return load_training_data(recipe, open_store(case.fields), CPU)


def trial_of(config: TrialConfig, recipe: FileRecipe, data: TrainingData) -> Trial:
    torch.manual_seed(0)
    network = StormNetwork(recipe.network, data.grid)
    assert data.validation is not None
    return Trial(config, network, data.validation, step_hours=data.step_hours, seed=1)


def test_a_trial_is_a_function_of_the_weights(recipe: FileRecipe, data: TrainingData) -> None:
    trial = trial_of(TRIAL, recipe, data)
    first, again = trial(), trial()
    assert first == again
    with torch.no_grad():
        for parameter in trial.network.parameters():
            parameter.add_(0.05)
    assert trial() != first
    assert all(p.requires_grad for p in trial.network.parameters())


def test_good_observations_make_good_analyses(recipe: FileRecipe, data: TrainingData) -> None:
    """Where everything is seen nearly exactly, hardly anything is left to be wrong about."""
    poor = trial_of(replace(TRIAL, observed=0.02, error=0.5), recipe, data)()
    good = trial_of(replace(TRIAL, observed=1.0, error=0.01), recipe, data)()
    assert good[1] < 0.05 < 0.2 < poor[1]
    assert good[0] < 0.2 * poor[0]


def test_scores_are_those_of_the_analyses(recipe: FileRecipe, data: TrainingData) -> None:
    """The slow twin: a number for every cell, added up one by one."""
    trial = trial_of(replace(TRIAL, runs=1), recipe, data)
    crps, rmse, spread = trial()
    std, area = data.training.normalization.std.item(), trial.area.double()
    squares, variances, absolute = [], [], []
    for frame, analysis in trial._run(trial.starts[0]):
        members = analysis.detach().double() / std
        truth = (trial._truth(frame) / std).double()
        share = area / area.sum()
        squares.append(((members.mean(0) - truth) ** 2 * share).sum())
        variances.append((members.var(0) * share).sum())
        pairs = (members[:, None] - members[None]).abs().sum((0, 1)) / (2 * 4 * 3)
        absolute.append((((members - truth).abs().mean(0) - pairs) * share).sum())
    found = [torch.stack(x).mean().item() for x in (absolute, squares, variances)]
    expected = (found[0], found[1] ** 0.5, found[2] ** 0.5)
    assert (crps, rmse, spread) == pytest.approx(expected, rel=1e-4)


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def test_the_best_trial_chooses_the_weights(case, recipe: FileRecipe, tmp_path: Path) -> None:
    tried = replace(recipe, trial=TRIAL)
    prior = train_on_files(tried, open_store(case.fields), tmp_path, device=CPU)
    header, *rows = rows_of(tmp_path / "trials.csv")
    assert header == ["step", "crps", "rmse", "spread"]
    assert [row[0] for row in rows] == ["2", "4"]
    assert rows_of(tmp_path / "validation.csv")[0] == ["step", "loss"]
    best = min(float(row[1]) for row in rows)
    data = load_training_data(tried, open_store(case.fields), CPU)
    assert prior is not None
    assert data.validation is not None
    judged = Trial(TRIAL, prior.network, data.validation, step_hours=1.0, seed=3)
    assert judged()[0] == pytest.approx(best, rel=1e-5)


def test_training_ends_where_trials_bring_nothing_better(
    case, recipe: FileRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first trial, at step 2, is best; with a patience of 2 a run of 20 steps ends at 6."""
    scores = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(Trial, "__call__", lambda self: (next(scores), 0.0, 0.0))
    long = replace(
        recipe, trial=replace(TRIAL, patience=2), training=replace(recipe.training, steps=20)
    )
    store = open_store(case.fields)
    stops = iter([False, False, True])
    assert not fit_prior(long, store, tmp_path, device=CPU, interrupted=lambda: next(stops))
    assert fit_prior(long, store, tmp_path, device=CPU)
    assert [row[0] for row in rows_of(tmp_path / "trials.csv")[1:]] == ["2", "4", "6"]
    assert len(rows_of(tmp_path / "training.csv")) == 1 + 6
    assert not list(scores)


def test_a_run_that_had_enough_stays_done(
    recipe: FileRecipe, data: TrainingData, tmp_path: Path
) -> None:
    """Killed between its last trial and the result, it does not train on."""
    record = tmp_path / "trials.csv"
    record.write_text("step,crps,rmse,spread\n1,1.0,0,0\n2,2.0,0,0\n3,3.0,0,0\n9,0.5,0,0\n")
    trial = trial_of(TRIAL, recipe, data)
    trainer = Trainer(trial.network, data.training, recipe.training)
    trainer.step = 3
    noted = Validation(trial, trainer, record, every=1)
    assert noted.scores == [1.0, 2.0, 3.0]
    assert [noted.stale(patience) for patience in (0, 1, 2, 3)] == [False, True, True, False]
    assert record.read_text().splitlines()[-1] == "3,3.0,0,0"
    with pytest.raises(FileNotFoundError, match=r"^best: expected a folder with weights"):
        noted.checkpoint()


def test_errors(recipe: FileRecipe, data: TrainingData) -> None:
    for change, message in [
        ({"every": -1}, r"^every: expected a number that is not negative, got -1$"),
        ({"members": 1}, r"^members: expected at least 2, got 1$"),
        ({"observed": 0.0}, r"^observed: expected a share in \(0, 1\], got 0.0$"),
        ({"error": 0.0}, r"^error: expected a positive number, got 0.0$"),
    ]:
        with pytest.raises(ValueError, match=message):
            TrialConfig(**change)
    with pytest.raises(ValueError, match=r"^split.validation_hours: expected some for trials"):
        replace(recipe, trial=TRIAL, split=replace(recipe.split, validation_hours=0.0))
    start = downscaling(("t2m",))
    with pytest.raises(ValueError, match=r"^trial.every: expected 0 for downscaling"):
        replace(start, trial=TRIAL, split=recipe.split)
    with pytest.raises(ValueError, match=r"^trial.cycles: expected at most the frames in a row"):
        trial_of(replace(TRIAL, cycles=50), recipe, data)
