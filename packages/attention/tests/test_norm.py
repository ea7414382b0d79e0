import torch

from stormda.attention import HeadNorm, rms_norm


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def test_equals_torch():
    x, gain = tokens(2, 3, 5, 8), tokens(8, seed=1)
    expected = torch.nn.functional.rms_norm(x, (8,), gain, eps=1e-6)
    torch.testing.assert_close(rms_norm(x, gain), expected, rtol=1e-12, atol=1e-12)


def test_the_root_mean_square_is_the_gain():
    x = 100 * tokens(2, 3, 5, 8)
    norm = HeadNorm(8).double()
    size = norm(x).square().mean(-1).sqrt()
    # The constant beside the mean square of 1e4.
    torch.testing.assert_close(size, torch.ones_like(size), rtol=1e-8, atol=0)


def test_half_types_are_squared_in_float32():
    x = 300 * torch.ones(1, 8, dtype=torch.float16)  # squares overflow float16
    y = rms_norm(x, torch.ones(8))
    torch.testing.assert_close(y, torch.ones_like(x))


def test_gradients():
    x, gain = tokens(3, 4).requires_grad_(), tokens(4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(rms_norm, (x, gain))
    assert torch.autograd.gradgradcheck(rms_norm, (x, gain))
