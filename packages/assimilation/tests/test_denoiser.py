import torch
from torch import Tensor, nn

from stormda.assimilation import GaussianPrior, linearize


class Net(nn.Module):
    """A small nonlinear denoiser, conditioned on a field and a constant."""

    shape, dtype, device = (2, 3), torch.float64, torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6, dtype=torch.float64)

    def forward(self, x: Tensor, sigma: Tensor, *, past: Tensor, scale: float) -> Tensor:
        hidden = self.layer((x / (1 + sigma)).flatten(1)).tanh()
        return hidden.reshape(x.shape) * scale + past


def test_the_product_is_that_of_the_transposed_jacobian() -> None:
    g = torch.Generator().manual_seed(0)
    net, sigma = Net(), torch.tensor(0.7, dtype=torch.float64)
    x, past, v = torch.randn(3, 4, 2, 3, dtype=torch.float64, generator=g)
    context = {"past": past, "scale": 2.0}
    x_hat, vjp = linearize(net, x, sigma, context)
    expected, exact = torch.func.vjp(lambda x: net(x, sigma, **context), x)
    torch.testing.assert_close(x_hat, expected)
    torch.testing.assert_close(vjp(v), exact(v)[0])
    torch.testing.assert_close(vjp(2 * v), 2 * vjp(v))  # the graph is still there


def test_parameters_accumulate_nothing_and_results_carry_no_graph() -> None:
    net = Net()
    x = torch.ones(1, 2, 3, dtype=torch.float64)
    with torch.no_grad():  # as inside an analysis
        x_hat, vjp = linearize(net, x, torch.tensor(1.0), {"past": x, "scale": 1.0})
        product = vjp(x)
    assert not x_hat.requires_grad
    assert not product.requires_grad
    assert not x.requires_grad
    assert all(p.grad is None for p in net.parameters())


def test_a_denoisers_own_product_is_preferred() -> None:
    class Own(GaussianPrior):
        def linearize(self, x, sigma):
            return self(x, sigma), lambda v: 7 * v

    prior = Own(torch.zeros(2), torch.eye(2))
    _, vjp = linearize(prior, torch.zeros(1, 2), torch.tensor(1.0), {})
    torch.testing.assert_close(vjp(torch.ones(1, 2)), torch.full((1, 2), 7.0))
