"""The published sizes and the modes are networks."""

from dataclasses import replace

import pytest
import torch

from stormda.grid import PlaneGrid, grid
from stormda.storm import FILE_RECIPES, StormNetwork, ladder
from stormda.storm.ladder import MODES
from stormda.storm.network import parameter_count


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("10M", 9_915_872), ("200M", 192_573_280), ("10B", 9_944_135_520)],
)
def test_the_ladder_has_the_sizes_of_its_names(size: str, parameters: int) -> None:
    """On the meta device, where nothing is allocated."""
    config = replace(ladder(size, ("a", "b", "c")), clock=False)
    with torch.device("meta"):
        network = StormNetwork(config, PlaneGrid((8, 8), spacing_m=(1e5, 1e5)))
    assert parameter_count(network) == parameters


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_a_network(mode: str) -> None:
    config = replace(ladder("10M", ("a",), mode=mode), patch=(1, 1), width=16, heads=2)
    network = StormNetwork(config, grid("15deg"))
    past = network.encode(torch.zeros(1, 2, 1, 12, 24), torch.ones(1, 1), torch.zeros(1, 6))
    answer = network(torch.randn(1, 1, 12, 24), torch.tensor(1.0), past)
    assert answer.shape == (1, 1, 12, 24)
    assert (network.tiles is not None) == (mode == "storm")


def test_the_sizes_are_recipes() -> None:
    recipe = FILE_RECIPES["200M"](("t2m",))
    assert recipe.network == ladder("200M", ("t2m",))
    assert recipe.training.recompute


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "1T"}, "size: expected one of 10M, 200M, 10B, got '1T'"),
        (
            {"size": "10M", "mode": "magic"},
            "mode: expected one of linear, hybrid, full, storm, got 'magic'",
        ),
    ],
)
def test_there_are_no_other_rungs(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        ladder(variables=("a",), **arguments)
