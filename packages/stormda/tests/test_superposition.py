"""Laws of superposed samples: moments kept, far covariances damped, untouched ones untouched."""

import math
import re

import numpy as np
import pytest
import torch

from stormda.grid import LatLonGrid
from stormda.storm.files import FileHistories, fit_normalization
from stormda.storm.frames import Frames
from stormda.storm.superposition import Superposition, superposed


def source(superposition: Superposition | None, days: int = 20) -> FileHistories:
    """Return histories of hourly white noise."""
    times = np.datetime64("2020-01-01", "s") + np.timedelta64(1, "h") * np.arange(24 * days)
    grid = LatLonGrid(np.linspace(60, 57, 4), np.linspace(0, 5, 6))
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(len(times), 1, 4, 6, generator=generator)
    frames = Frames(
        variables=("t2m",),
        units=("K",),
        grid=grid,
        times=times,
        values=values,
        valid=torch.ones_like(values, dtype=torch.bool),
    )
    return FileHistories(
        frames,
        2,
        fit_normalization(frames, 1.0),
        error=None,
        superposition=superposition,
        step_hours=1.0,
        clock=False,
        season=False,
        seed=1,
    )


@pytest.mark.parametrize("wander", [0.0, 1.0])
def test_the_moments_about_the_daily_course_are_kept(wander: float) -> None:
    made = source(Superposition(share=1.0, wander=wander, length=3.0))
    plain = made.z[made.targets] - made.climate[made.targets]
    batch = made.samples(made.targets, torch.Generator().manual_seed(0))
    mixed = batch.target - made.climate[made.targets]
    assert not torch.allclose(mixed, plain)
    torch.testing.assert_close(mixed.std(), plain.std(), rtol=0.05, atol=0)  # 11,000 draws
    assert abs(float((mixed * plain).mean())) < 0.1  # turned by a random angle


def test_without_a_share_every_sample_is_as_it_is() -> None:
    made = source(Superposition(share=1e-12, wander=1.0))  # the path, and no sample chosen
    batch = made.samples(torch.tensor([7, 20]), torch.Generator().manual_seed(0))
    torch.testing.assert_close(batch.target, made.z[[7, 20]])


def test_a_wandering_angle_damps_covariances_by_the_stated_factor() -> None:
    """Two fields that are constant in space: the covariance of the superposed is the factor."""
    superposition = Superposition(share=1.0, wander=1.2, length=3.0)
    generator = torch.Generator().manual_seed(0)
    angle = superposition.angles(20_000, (1, 24), generator)
    one = torch.randn(20_000, 1, 1, 1, 1, generator=generator).expand(-1, 1, 1, 1, 24)
    other = torch.randn(20_000, 1, 1, 1, 1, generator=generator).expand(-1, 1, 1, 1, 24)
    mixed = superposed(one, other, angle)[:, 0, 0, 0]
    seen = (mixed[:, :1] * mixed).mean(0)
    structure = (angle[:, 0, :1] - angle[:, 0]).square().mean(0) / 2  # s^2 (1 - r)
    torch.testing.assert_close(seen, torch.exp(-structure), atol=0.04, rtol=0)  # 20,000 draws
    assert math.exp(-(1.2**2)) - 0.05 < seen[-1] < 0.6 < 0.95 < seen[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 1.5}, "share: expected a share in [0, 1], got 1.5"),
        ({"wander": -1.0}, "wander: expected a number that is not negative, got -1.0"),
        ({"length": 0.0}, "length: expected a positive length, got 0.0"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Superposition(**arguments)
