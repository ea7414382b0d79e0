"""Packages that know nothing of each other, put together."""

from pathlib import Path

import numpy as np
import torch

from stormda.assimilation import (
    DiagonalError,
    GaussianPrior,
    Observation,
    assimilate,
    dpmpp_2m,
    interpolate,
)
from stormda.grid import LatLonGrid, locate
from stormda.io import observation_table, open_store, read_observations, write_ensemble
from stormda.io import write_observations as write_table

GRID = LatLonGrid(np.linspace(50, 53, 7), np.linspace(0, 4, 9))


def test_a_stencil_of_the_grid_is_an_operator_of_assimilation() -> None:
    """The gather of `interpolate` equals the sparse matrix of the stencil, and so its adjoint."""
    rng = np.random.default_rng(0)
    stencil = locate(GRID, rng.uniform(50, 53, 20), rng.uniform(0, 4, 20))
    operator = interpolate(torch.from_numpy(stencil.cells), torch.from_numpy(stencil.weights))
    x = torch.from_numpy(rng.normal(size=(3, 1, 7, 9))).requires_grad_()
    y = operator(x)
    matrix = stencil.matrix(63).toarray()
    np.testing.assert_allclose(y.detach().numpy(), x.detach().numpy().reshape(3, -1) @ matrix.T)
    r = torch.from_numpy(rng.normal(size=(3, 20)))
    (adjoint,) = torch.autograd.grad(y, x, r)
    np.testing.assert_allclose(adjoint.numpy().reshape(3, -1), r.numpy() @ matrix)


def test_from_a_file_of_observations_to_a_file_of_analyses(tmp_path: Path) -> None:
    """Grid, files and posterior sampling, without the umbrella; checked against Kalman."""
    when = np.datetime64("2020-01-01T00", "s")
    table = observation_table(
        time=np.array([when, when]),
        lat=np.array([51.0, 52.2]),
        lon=np.array([1.0, 3.1]),
        value=np.array([281.0, 279.5]),
        error=0.5,
        variable="t2m",
        units={"t2m": "K"},
    )
    write_table(tmp_path / "observations.nc", table)
    seen = read_observations(tmp_path / "observations.nc")
    stencil = locate(GRID, seen.lat, seen.lon)
    operator = interpolate(torch.from_numpy(stencil.cells), torch.from_numpy(stencil.weights))
    rows, cols = np.meshgrid(GRID.lat, GRID.lon, indexing="ij")
    place = torch.from_numpy(np.stack([rows.ravel(), cols.ravel()], 1))
    covariance = torch.exp(-(torch.cdist(place, place) ** 2) / 2) + 1e-6 * torch.eye(63)
    mean = torch.full((63,), 280.0, dtype=torch.float64)
    observation = Observation(
        torch.from_numpy(seen.value), lambda x: operator(x[:, None]), DiagonalError(0.5)
    )
    members = assimilate(
        GaussianPrior(0 * mean, covariance),  # of departures: samplers start about zero
        observation,
        members=400,
        generator=torch.Generator().manual_seed(0),
        sampler=dpmpp_2m(steps=24),
        transform=lambda departure: mean + departure,
    )
    members = mean + members
    h = torch.from_numpy(stencil.matrix(63).toarray())
    gain = covariance @ h.T @ torch.linalg.inv(h @ covariance @ h.T + 0.25 * torch.eye(2))
    exact = mean + gain @ (observation.y - h @ mean)
    # 400 draws of unit variance: a standard error of 0.05.
    torch.testing.assert_close(members.mean(0), exact, atol=0.2, rtol=0)
    write_ensemble(
        tmp_path / "analysis.nc",
        {"t2m": members.reshape(400, 1, 7, 9).numpy()},
        times=np.array([when]),
        grid=GRID,
        attributes={"t2m": {"units": "K", "standard_name": "air_temperature"}},
    )
    back, mask = open_store(tmp_path / "analysis.nc").read("t2m", member=3)
    np.testing.assert_allclose(back.reshape(-1), members[3].numpy(), rtol=1e-6)
    assert mask.all()
