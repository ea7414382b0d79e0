import re

import pytest
import torch

from stormda.assimilation import Spread, inflate, relax_deviations, relax_spread, rotate


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


def test_all_treatments_keep_the_mean() -> None:
    x, before, g = draw(6, 3, 2), draw(6, 3, 2, seed=1), torch.Generator().manual_seed(0)
    for treated in (
        inflate(x, 1.3),
        relax_spread(x, before, 0.4),
        relax_deviations(x, before, 0.4),
        rotate(x, g),
        Spread(inflation=1.1, rtps=0.2, rtpp=0.3, rotate=True)(x, before, g),
    ):
        torch.testing.assert_close(treated.mean(0), x.mean(0))


def test_a_rotation_keeps_the_covariance_and_moves_the_members() -> None:
    x = draw(7, 4)
    turned = rotate(x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned.mT.cov(), x.mT.cov())
    assert (turned - x).abs().min() > 1e-3


def test_rotations_are_uniform() -> None:
    """The expected square of each entry of a rotation of m - 1 dimensions is 1 / (m - 1)."""
    g = torch.Generator().manual_seed(0)
    eye = torch.eye(4).double()
    turns = torch.stack([rotate(eye, g) for _ in range(4000)])
    torch.testing.assert_close(turns.mean(0), torch.full((4, 4), 0.25).double(), rtol=0, atol=0.03)


def test_relaxation_is_in_proportion() -> None:
    x, before = draw(6, 3), 4 * draw(6, 3, seed=1)
    spread = (x.std(0) + 3 * before.std(0)) / 4
    torch.testing.assert_close(relax_spread(x, before, 0.75).std(0), spread)
    torch.testing.assert_close(
        relax_deviations(x, before, 1.0) - x.mean(0), before - before.mean(0)
    )


def test_by_default_nothing_is_done() -> None:
    x = draw(3, 2)
    assert Spread()(x, draw(3, 2, seed=1)) is x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Spread(inflation=0.0), "inflation: expected a positive number, got 0.0"),
        (lambda: Spread(rtps=-0.1), "rtps: expected a number in [0, 1], got -0.1"),
        (lambda: Spread(rtpp=1.1), "rtpp: expected a number in [0, 1], got 1.1"),
        (
            lambda: Spread(rotate=True)(torch.zeros(2, 1), torch.zeros(2, 1)),
            "generator: expected one for the rotation, got None",
        ),
    ],
)
def test_bad_settings_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
