import re

import pytest
import torch

from stormda.assimilation import gaspari_cohn, kalman_update, letkf
from stormda.assimilation.classical import Gaussian


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


def everywhere(columns: int, p: int) -> dict:
    return {"distance": torch.zeros(columns, p), "radius": 1.0}


def test_without_localisation_it_is_the_kalman_filter_of_the_sample() -> None:
    """Mean and covariance of the ensemble, with as many members as it takes to span the state."""
    x, h, y = draw(30, 4, 2), draw(5, 8, seed=1), draw(5, seed=2)
    variance = torch.tensor([0.1, 0.5, 1.0, 2.0, 0.3], dtype=torch.float64)
    flat = x.flatten(1)
    analysis = letkf(x, flat @ h.mT, y, variance, **everywhere(4, 5)).flatten(1)
    sample = Gaussian(flat.mean(0), flat.mT.cov())
    exact = kalman_update(sample, y - h @ sample.mean, h, variance)
    torch.testing.assert_close(analysis.mean(0), exact.mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(analysis.mT.cov(), exact.covariance, rtol=1e-10, atol=1e-10)


def test_equals_a_loop_over_columns() -> None:
    """The formulas of Hunt et al., one column and one matrix at a time."""
    m, columns, p, radius = 6, 7, 9, 3.0
    x, predicted, y = draw(m, columns, 3), draw(m, p, seed=1), draw(p, seed=2)
    variance, distance = draw(p, seed=3).square() + 0.1, 4 * draw(columns, p, seed=4).abs()
    inflation = 1.1
    out = torch.empty_like(x)
    for c in range(columns):
        deviation = inflation * (x[:, c] - x[:, c].mean(0))
        yb = inflation * (predicted - predicted.mean(0))
        precision = (gaspari_cohn(distance[c], radius) / variance).diag()
        p_tilde = torch.linalg.inv((m - 1) * torch.eye(m) + yb @ precision @ yb.mT)
        w = p_tilde @ yb @ precision @ (y - predicted.mean(0))
        values, vectors = torch.linalg.eigh((m - 1) * p_tilde)
        root = vectors @ values.sqrt().diag() @ vectors.mT
        out[:, c] = x[:, c].mean(0) + (w[:, None] + root).mT @ deviation
    analysis = letkf(
        x, predicted, y, variance, distance=distance, radius=radius, inflation=inflation
    )
    torch.testing.assert_close(analysis, out)


def test_the_mean_does_not_depend_on_the_root() -> None:
    """Symmetric weights have rows that sum to one: deviations stay deviations."""
    x, predicted = draw(5, 3, 1), draw(5, 4, seed=1)
    y, variance = draw(4, seed=2), torch.tensor(0.2)
    analysis = letkf(x, predicted, y, variance, **everywhere(3, 4))
    twin = letkf(x.flip(0), predicted.flip(0), y, variance, **everywhere(3, 4))
    torch.testing.assert_close(analysis, twin.flip(0))  # no order among the members


def test_far_from_observations_nothing_changes() -> None:
    x, predicted, y = draw(5, 3, 2), draw(5, 4, seed=1), draw(4, seed=2)
    distance = torch.full((3, 4), 9.0)
    distance[1] = 0.5
    analysis = letkf(x, predicted, y, torch.tensor(0.1), distance=distance, radius=9.0)
    torch.testing.assert_close(analysis[:, [0, 2]], x[:, [0, 2]])
    assert (analysis[:, 1] - x[:, 1]).abs().min() > 1e-6


def test_a_function_of_distances_is_asked_in_pieces() -> None:
    columns, asked = 2500, []
    x, predicted, y = draw(4, columns, 1), draw(4, 3, seed=1), draw(3, seed=2)
    distance = draw(columns, 3, seed=3).abs()

    def rows(piece: slice) -> torch.Tensor:
        asked.append(piece)
        return distance[piece]

    variance = torch.tensor(0.5)
    pieces = letkf(x, predicted, y, variance, distance=rows, radius=2.0)
    whole = letkf(x, predicted, y, variance, distance=distance, radius=2.0)
    torch.testing.assert_close(pieces, whole)
    assert [piece.start for piece in asked] == [0, 1024, 2048]


def test_relaxation_goes_all_the_way_to_the_prior_spread() -> None:
    x, predicted, y = draw(8, 3, 2), draw(8, 4, seed=1), draw(4, seed=2)
    settings = {"variance": torch.tensor(0.1), **everywhere(3, 4)}
    plain = letkf(x, predicted, y, **settings)
    half, full = (letkf(x, predicted, y, rtps=share, **settings) for share in (0.5, 1.0))
    torch.testing.assert_close(full.std(0), x.std(0))
    torch.testing.assert_close(half.std(0), (plain.std(0) + x.std(0)) / 2)
    torch.testing.assert_close(full.mean(0), plain.mean(0))


def test_a_point_without_spread_stays_without() -> None:
    x, predicted, y = draw(4, 2, 1), draw(4, 1, seed=1), draw(1)
    x[:, 0] = 3.0
    analysis = letkf(x, predicted, y, torch.tensor(1.0), rtps=0.5, **everywhere(2, 1))
    torch.testing.assert_close(analysis[:, 0], x[:, 0])


def test_single_precision_comes_back() -> None:
    x, predicted, y = draw(4, 2, 1).float(), draw(4, 1, seed=1).float(), draw(1).float()
    assert letkf(x, predicted, y, torch.tensor(1.0), **everywhere(2, 1)).dtype is torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"ensemble": torch.zeros(1, 2, 1)},
            "ensemble: expected shape (m, columns, k) with m >= 2, got (1, 2, 1)",
        ),
        (
            {"predicted": torch.zeros(3, 5)},
            "predicted: expected shape (m, p) = (3, 4), got (3, 5)",
        ),
        ({"inflation": 0.0}, "inflation: expected a positive number, got 0.0"),
        ({"rtps": 1.5}, "rtps: expected a number in [0, 1], got 1.5"),
        ({"radius": -1.0}, "radius: expected a positive number, got -1.0"),
    ],
)
def test_bad_arguments_are_refused(change, message) -> None:
    arguments = {
        "ensemble": torch.zeros(3, 2, 1),
        "predicted": torch.zeros(3, 4),
        "y": torch.zeros(4),
        "variance": torch.tensor(1.0),
        **everywhere(2, 4),
    }
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        letkf(**(arguments | change))
