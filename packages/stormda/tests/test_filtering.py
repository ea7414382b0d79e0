"""The filter draws its samples to the observations by the guidance it is given."""

import torch
from torch import Tensor
from torch.testing import assert_close

from stormda.assimilation import DiagonalError, Guidance, Observation, dps, mmps, select
from stormda.grid import PlaneGrid
from stormda.storm import Storm, StormConfig, StormNetwork
from stormda.storm.filtering import FilterSettings, run_storm
from stormda.storm.normalization import Normalization

CONFIG = StormConfig(variables=("a",), width=16, heads=2, encoder_depth=1, depth=1)
SETTINGS = FilterSettings(steps=4, tolerance=1e-3, iterations=3)
SEEN = torch.tensor([0, 9, 40])


def analyse(observed: bool = True, guidance: Guidance | None = None) -> Tensor:
    torch.manual_seed(0)
    one = torch.ones(1, 1, 1)
    network = StormNetwork(CONFIG, PlaneGrid((8, 8), spacing_m=(1e5, 1e5)))
    prior = Storm(network.eval().requires_grad_(False), Normalization(0 * one, one, one), 6.0)
    value = Observation(torch.full((3,), 2.0), select(SEEN), DiagonalError(0.1))
    generator = torch.Generator().manual_seed(1)
    initial = torch.randn(4, 1, 8, 8, generator=generator)
    observations = iter([value if observed else None] * 2)
    analyses = run_storm(
        prior, initial, observations, settings=SETTINGS, generator=generator, guidance=guidance
    )
    return torch.stack(list(analyses))


def test_moment_matching_with_the_settings_is_the_default() -> None:
    assert_close(analyse(), analyse(guidance=mmps(tolerance=1e-3, max_iterations=3)))


def test_a_push_of_no_length_is_a_forecast() -> None:
    assert_close(analyse(guidance=dps(zeta=0.0)), analyse(observed=False))


def test_a_push_brings_analyses_nearer_to_what_is_observed() -> None:
    def misfit(analyses: Tensor) -> Tensor:
        return (analyses.flatten(2)[..., SEEN] - 2).square().mean()

    assert misfit(analyse(guidance=dps(zeta=1.0))) < 0.5 * misfit(analyse(observed=False))
