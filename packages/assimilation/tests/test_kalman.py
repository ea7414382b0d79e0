import torch

from stormda.assimilation import Gaussian, kalman_forecast, kalman_update


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


def test_the_filter_equals_one_large_gaussian() -> None:
    """Conditioning the whole trajectory at once gives the filter's last state."""
    n, p, steps = 3, 2, 4
    model, root = 0.5 * draw(n, n), draw(n, n, seed=1)
    q, h, y = root @ root.mT + 0.1 * torch.eye(n), draw(p, n, seed=2), draw(steps, p, seed=3)
    r = torch.tensor([0.3, 0.8], dtype=torch.float64)
    state = Gaussian(draw(n, seed=4), torch.eye(n, dtype=torch.float64))
    # the trajectory, as a linear map of independent normal numbers
    mean, spread = state.mean, torch.cat([torch.eye(n).double(), torch.zeros(n, n * steps)], 1)
    means, spreads = [], []
    for k in range(steps):
        state = kalman_forecast(state, model, q)
        state = kalman_update(state, y[k] - h @ state.mean, h, r)
        mean, spread = model @ mean, model @ spread
        spread[:, n * (k + 1) : n * (k + 2)] = torch.linalg.cholesky(q)
        means.append(h @ mean)
        spreads.append(h @ spread)
    everything = torch.cat(spreads)
    total = everything @ everything.mT + r.repeat(steps).diag()
    gain = spread @ everything.mT @ torch.linalg.inv(total)
    torch.testing.assert_close(state.mean, mean + gain @ (y.flatten() - torch.cat(means)))
    exact = spread @ spread.mT - gain @ everything @ spread.mT
    torch.testing.assert_close(state.covariance, exact)


def test_a_perfect_observation_leaves_a_valid_covariance() -> None:
    state = Gaussian(torch.zeros(2), torch.tensor([[1.0, 0.9], [0.9, 1.0]]))
    after = kalman_update(state, torch.ones(1), torch.tensor([[1.0, 0.0]]), torch.tensor(1e-8))
    assert torch.linalg.eigvalsh(after.covariance).min() >= 0
    torch.testing.assert_close(after.mean, torch.tensor([1.0, 0.9]))
