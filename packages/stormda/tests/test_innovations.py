"""Laws of the factor that follows the innovations."""

import numpy as np
import pytest
import torch

from stormda.grid import LatLonGrid
from stormda.io import ObservationTable, observation_table
from stormda.storm.innovations import LARGEST, followed, innovation_ratio
from stormda.storm.real_observations import Expected

GRID = LatLonGrid(np.linspace(50, 53, 7), np.linspace(0, 4, 9))


def observed(departure: np.ndarray, error: float) -> ObservationTable:
    """Return observations of 280 K + departure at random places."""
    rng = np.random.default_rng(0)
    return observation_table(
        time="2020-01-01",
        lat=rng.uniform(50, 53, len(departure)),
        lon=rng.uniform(0, 4, len(departure)),
        value=280.0 + departure,
        error=error,
        variable="t2m",
    )


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_ratio_is_that_of_the_variances(factor: float) -> None:
    """Departures of `factor` times the expected size have chi^2 = factor^2."""
    spread, doubt, error = 0.6, 0.8, 0.5
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(4000, 1, 1, 1, generator=generator)
    ensemble = (280 + spread * field).expand(-1, 1, 7, 9)
    ensemble = ensemble - ensemble.mean(0) + 280
    expected = Expected(ensemble, torch.full((1, 7, 9), doubt))
    size = factor * np.sqrt(spread**2 + doubt**2 + error**2)
    departure = size * np.random.default_rng(1).standard_normal(5000)
    ratio = innovation_ratio(observed(departure, error), GRID, ("t2m",), expected)
    assert ratio == pytest.approx(factor**2, rel=0.05)  # 5000 draws


def test_without_observations_nothing_is_learned() -> None:
    expected = Expected(torch.full((2, 1, 7, 9), 280.0), torch.ones(1, 7, 9))
    assert innovation_ratio(observed(np.zeros(0), 0.5), GRID, ("t2m",), expected) == 1.0


def test_the_factor_settles_where_innovations_are_as_expected_and_keeps_its_bounds() -> None:
    factor = 1.0
    for _ in range(200):  # chi^2 falls as the factor grows: it is 1 at a factor of 1.7
        factor = followed(factor, 1.7**2 / factor**2, 0.2)
    assert factor == pytest.approx(1.7)
    assert followed(3.0, 100.0, 1.0) == LARGEST
    assert followed(0.5, 0.01, 1.0) == 1 / LARGEST
    assert followed(1.3, 7.0, 0.0) == pytest.approx(1.3)
