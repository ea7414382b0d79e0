import pytest
import torch

from stormda.attention import elu1, focused, relu


@pytest.mark.parametrize("feature", [relu, elu1, focused])
def test_features_are_not_negative_and_keep_the_shape(feature):
    x = torch.randn(3, 50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = feature(10 * x)
    assert y.shape == x.shape
    assert y.min() >= 0


@pytest.mark.parametrize("feature", [relu, elu1, focused])
def test_gradients(feature):
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x.requires_grad_()
    assert torch.autograd.gradcheck(feature, x)
    assert torch.autograd.gradgradcheck(feature, x)


def test_focused_keeps_the_length_and_the_order():
    x = torch.tensor([0.5, 1.0, 2.0, -3.0], dtype=torch.float64)
    y = focused(x)
    # The offset of 1e-6 that keeps lengths from zero is in both.
    torch.testing.assert_close(y.norm(), relu(x).norm(), rtol=2e-6, atol=0)
    torch.testing.assert_close(
        y[:3] / y[2], (x[:3] / x[2]) ** 3, rtol=1e-5, atol=0
    )  # the same offset


def test_focused_of_nothing_positive_is_small_and_finite():
    y = focused(torch.full((4,), -1.0))
    torch.testing.assert_close(y, torch.full((4,), 1e-6))
