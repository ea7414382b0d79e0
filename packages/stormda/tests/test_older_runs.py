"""A run that an older version began goes on; one of a version that knows more does not."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stormda.io import open_store
from stormda.storm import FileRecipe
from stormda.storm.files import Split
from stormda.storm.prior_training import PRIOR, fit_prior
from stormda.storm.settings import read_settings, write_settings

CPU = torch.device("cpu")


@pytest.fixture
def begun(case, recipe: FileRecipe, tmp_path: Path) -> tuple[FileRecipe, Path]:
    """Return a run that stopped after two of four steps."""
    whole = replace(recipe, split=Split(train_end="2020-01-02T06"))
    stops = iter([False, True])
    store = open_store(case.fields)
    assert not fit_prior(whole, store, tmp_path, device=CPU, interrupted=lambda: next(stops))
    return whole, tmp_path


def test_settings_that_are_newer_than_a_run_have_their_defaults(case, begun) -> None:
    recipe, folder = begun
    run = read_settings(folder / "config.toml")
    del run["recipe"]["network"]["targets"], run["recipe"]["training"]["area_weights"]
    del run["recipe"]["trial"]
    write_settings(folder / "config.toml", run)
    assert fit_prior(recipe, open_store(case.fields), folder, device=CPU)
    assert (folder / PRIOR).is_file()
    assert len((folder / "training.csv").read_text().splitlines()) == 1 + 4


def test_a_newer_setting_with_another_value_is_another_run(case, begun) -> None:
    recipe, folder = begun
    run = read_settings(folder / "config.toml")
    del run["recipe"]["training"]["area_weights"]
    write_settings(folder / "config.toml", run)
    weighted = replace(recipe, training=replace(recipe.training, area_weights=True))
    message = (
        f"{folder}: expected the run that was begun there, with recipe.training.area_weights = "
        "False, got True (pass --overwrite to train anew)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fit_prior(weighted, open_store(case.fields), folder, device=CPU)


@pytest.mark.parametrize(
    ("table", "change", "found"),
    [
        ("network", {"colour": "red"}, r"StormConfig: expected fields among .*, got \['colour'\]"),
        ("training", {"mood": 1}, r"TrainingConfig: expected fields among .*, got \['mood'\]"),
        ("network", {"variables": None}, r"StormConfig: expected the fields \['variables'\], got"),
    ],
)
def test_settings_of_another_version_are_refused_by_name(
    case, begun, table: str, change: dict[str, object], found: str
) -> None:
    recipe, folder = begun
    path = folder / "config.toml"
    run = read_settings(path)
    run["recipe"][table] |= change
    write_settings(path, run)
    end = r".* \(pass --overwrite to train anew\)$"
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: {found}{end}"):
        fit_prior(recipe, open_store(case.fields), folder, device=CPU)
