import pytest
import torch

from stormda.attention import LinearState, decay_scan, relu
from stormda.attention.decay import CHUNK

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


DECAY = torch.tensor([1.0, 0.9, 0.3, 0.0], dtype=torch.float64)


def kernel(frames, *, causal):
    """The weights of all pairs `(h, t, s)`."""
    lag = torch.arange(frames)[:, None] - torch.arange(frames)
    weights = DECAY[:, None, None] ** lag.abs()
    return weights * (lag >= 0) if causal else weights


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("frames", [1, 7, CHUNK, 2 * CHUNK + 5])
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_equals_the_sum_over_all_pairs(causal, frames, batch):
    x = tokens(*batch, frames, 4, 3)
    expected = torch.einsum("hts,...shf->...thf", kernel(frames, causal=causal), x)
    torch.testing.assert_close(decay_scan(x, DECAY, causal=causal), expected, **EXACT)


def test_obeys_the_recurrence():
    x = tokens(3 * CHUNK, 4, 2)
    y = decay_scan(x, DECAY, causal=True)
    torch.testing.assert_close(y[1:], x[1:] + DECAY[:, None] * y[:-1], **EXACT)


@pytest.mark.parametrize("causal", [True, False])
def test_the_adjoint_is_the_scan_the_other_way(causal):
    x = tokens(2 * CHUNK + 3, 4, 2).requires_grad_()
    ybar = tokens(*x.shape, seed=1)
    (xbar,) = torch.autograd.grad(decay_scan(x, DECAY, causal=causal), x, ybar)
    expected = decay_scan(ybar.flip(0), DECAY, causal=causal).flip(0)
    torch.testing.assert_close(xbar, expected, **EXACT)


@pytest.mark.parametrize("causal", [True, False])
def test_gradients_of_first_and_second_order(causal, monkeypatch):
    monkeypatch.setattr("stormda.attention.decay.CHUNK", 2)
    x = tokens(5, 2, 2).requires_grad_()
    decay = torch.tensor([0.5, 0.8], dtype=torch.float64, requires_grad=True)

    def scan(x, decay):
        return decay_scan(x, decay, causal=causal)

    assert torch.autograd.gradcheck(scan, (x, decay))
    assert torch.autograd.gradgradcheck(scan, (x, decay))


@pytest.mark.parametrize("causal", [True, False])
def test_gives_linear_attention_a_memory(causal):
    q, k, v = tokens(6, 4, 5, 3), tokens(6, 4, 5, 3, seed=1), tokens(6, 4, 5, 2, seed=2)
    state = LinearState.from_tokens(relu(k), v)  # one a frame, `(t, h, ...)`
    y = state.reduce(lambda packed: decay_scan(packed, DECAY, causal=causal)).apply(relu(q))
    matches = torch.einsum("thnd,shmd->htnsm", relu(q), relu(k)) + 1e-6
    p = matches * kernel(6, causal=causal)[:, :, None, :, None]
    expected = torch.einsum("htnsm,shme->thne", p / p.sum((-2, -1), keepdim=True), v)
    torch.testing.assert_close(y, expected, **EXACT)


def test_half_types_are_summed_in_float32():
    x = torch.full((1000, 1, 1), 0.01, dtype=torch.bfloat16)
    y = decay_scan(x, torch.ones(1), causal=True)
    expected = torch.arange(1, 1001) * x[0].double().squeeze()
    # Only the answer is rounded: half a unit in the last place.
    torch.testing.assert_close(y.squeeze().double(), expected, rtol=2**-8, atol=0)


def test_errors():
    with pytest.raises(ValueError, match=r"^x: expected \(\.\.\., t, h, f\), got \(4, 3\)$"):
        decay_scan(tokens(4, 3), DECAY)
    with pytest.raises(
        ValueError, match=r"^decay: expected \(h,\) with the h of x \(5, 4, 3\), got \(3,\)$"
    ):
        decay_scan(tokens(5, 4, 3), DECAY[:3])
