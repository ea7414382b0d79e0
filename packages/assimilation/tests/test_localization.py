import re

import pytest
import torch

from stormda.assimilation import gaspari_cohn, great_circle_distance, periodic_distance
from stormda.assimilation.classical import EARTH_RADIUS


def test_gaspari_cohn_in_its_published_form() -> None:
    z = torch.linspace(0, 2.5, 101, dtype=torch.float64)
    near = -(z**5) / 4 + z**4 / 2 + 5 * z**3 / 8 - 5 * z**2 / 3 + 1
    far = z**5 / 12 - z**4 / 2 + 5 * z**3 / 8 + 5 * z**2 / 3 - 5 * z + 4 - 2 / (3 * z)
    expected = torch.where(z <= 1, near, torch.where(z < 2, far, 0.0))
    torch.testing.assert_close(gaspari_cohn(3 * z, 6.0), expected)


def test_gaspari_cohn_is_a_correlation() -> None:
    x = torch.linspace(0, 1, 40, dtype=torch.float64)[:, None]
    distance = periodic_distance(x, x, torch.tensor([torch.inf]).double())
    correlation = gaspari_cohn(distance, 0.5)
    assert torch.linalg.eigvalsh(correlation).min() > -1e-12
    torch.testing.assert_close(correlation.diagonal(), torch.ones(40).double())


def test_gaspari_cohn_needs_a_radius() -> None:
    with pytest.raises(ValueError, match=r"^radius: expected a positive number, got 0\.0$"):
        gaspari_cohn(torch.ones(1), 0.0)


def test_periodic_distance_is_the_nearest_image() -> None:
    g = torch.Generator().manual_seed(0)
    periods = torch.tensor([4.0, 7.0], dtype=torch.float64)
    a, b = (periods * torch.rand(6, 2, dtype=torch.float64, generator=g) for _ in range(2))
    images = [b + torch.tensor([i, j]) * periods for i in (-1, 0, 1) for j in (-1, 0, 1)]
    nearest = torch.stack([torch.cdist(a, image) for image in images]).min(0).values
    torch.testing.assert_close(periodic_distance(a, b, periods), nearest)
    shifted = periodic_distance(a + 3 * periods, b, periods)
    torch.testing.assert_close(shifted, nearest)


def test_an_infinite_period_does_not_wrap() -> None:
    a, b = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 9.0]])
    distance = periodic_distance(a, b, torch.tensor([torch.inf, 10.0]))
    torch.testing.assert_close(distance, torch.tensor([[10.0]]).sqrt())


def test_great_circle_distance_is_the_angle_between_unit_vectors() -> None:
    g = torch.Generator().manual_seed(0)
    lat, other_lat = (180 * torch.rand(5, dtype=torch.float64, generator=g) - 90 for _ in "ab")
    lon, other_lon = (720 * torch.rand(5, dtype=torch.float64, generator=g) - 360 for _ in "ab")

    def vectors(lat, lon):
        lat_rad, lon_rad = lat.deg2rad(), lon.deg2rad()
        flat = torch.stack([lon_rad.cos(), lon_rad.sin()]) * lat_rad.cos()
        return torch.cat([flat, lat_rad.sin()[None]]).mT

    angle = (vectors(lat, lon) @ vectors(other_lat, other_lon).mT).acos()
    distance = great_circle_distance(lat, lon, other_lat, other_lon)
    torch.testing.assert_close(distance, EARTH_RADIUS * angle)


def test_great_circle_distance_between_antipodes_is_half_the_circumference() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    distance = great_circle_distance(zero + 30, zero + 10, zero - 30, zero + 190)
    torch.testing.assert_close(distance, torch.pi * EARTH_RADIUS + zero[None])
    assert re.match("6371", str(EARTH_RADIUS))
