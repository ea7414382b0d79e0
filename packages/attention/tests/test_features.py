import pytest
import torch

from stormda.attention import (
    elu1,
    focused,
    hedgehog,
    linear_attention,
    relu,
    softmax_feature,
    spherical_cosine,
)

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def directions(n, seed=3):
    return torch.nn.functional.normalize(tokens(n, 3, seed=seed), dim=-1)


@pytest.mark.parametrize("feature", [relu, elu1, focused, softmax_feature])
def test_features_are_not_negative_and_keep_the_shape(feature):
    x = torch.randn(3, 50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = feature(10 * x)
    assert y.shape == x.shape
    assert y.min() >= 0


@pytest.mark.parametrize("feature", [relu, elu1, focused, softmax_feature, hedgehog])
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


def test_softmax_features_of_a_token_sum_to_one():
    total = softmax_feature(tokens(3, 8)).sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), **EXACT)


def test_hedgehog_is_the_softmax_of_both_signs():
    x, weight = tokens(2, 5, 4), tokens(2, 4, 4, seed=1)
    y = hedgehog(x, weight)
    projected = torch.einsum("hnd,hfd->hnf", x, weight)
    torch.testing.assert_close(y[..., :4], projected.softmax(-1), **EXACT)
    torch.testing.assert_close(y[..., 4:], (-projected).softmax(-1), **EXACT)


def test_spherical_cosine_multiplies_the_matches_by_a_kernel_of_the_angle():
    q, k, n, a = tokens(2, 5, 4), tokens(2, 5, 4, seed=1), directions(5), 0.7
    matches = spherical_cosine(q, n, strength=a) @ spherical_cosine(k, n, strength=a).mT
    kernel = (1 + a * n @ n.T) / (1 + a)
    torch.testing.assert_close(matches, relu(q) @ relu(k).mT * kernel, **EXACT)
    assert kernel.min() > 0


def test_spherical_cosine_is_the_same_on_a_turned_sphere():
    turn, _ = torch.linalg.qr(tokens(3, 3))
    q, k, v, n = tokens(2, 6, 4), tokens(2, 6, 4, seed=1), tokens(2, 6, 3, seed=2), directions(6)
    strength = torch.tensor([0.2, 0.9], dtype=torch.float64)[:, None, None]  # one a head
    y, turned = (
        linear_attention(q, k, v, feature=lambda x, n=n: spherical_cosine(x, n, strength=strength))
        for n in (n, n @ turn)
    )
    torch.testing.assert_close(turned, y, **EXACT)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_constant_values_stay_constant_under_a_kernel_of_position(strength):
    q, k, n, v = (
        tokens(2, 6, 4),
        tokens(2, 6, 4, seed=1),
        directions(6),
        torch.full((2, 6, 3), 7.0),
    )
    y = linear_attention(
        q, k, v.double(), feature=lambda x: spherical_cosine(x, n, strength=strength)
    )
    torch.testing.assert_close(y, v.double(), **EXACT)


def test_gradients_of_spherical_cosine():
    x, n = tokens(2, 3, 2).requires_grad_(), directions(3)
    strength = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, a: spherical_cosine(x, n, strength=a), (x, strength))


def test_errors():
    with pytest.raises(
        ValueError,
        match=r"^direction: expected \(\.\.\., n, 3\) with the n of x \(2, 5, 4\), got \(4, 3\)$",
    ):
        spherical_cosine(tokens(2, 5, 4), directions(4))
    with pytest.raises(
        ValueError, match=r"^strength: expected a number between 0 and 1, got 1\.5$"
    ):
        spherical_cosine(tokens(2, 5, 4), directions(5), strength=1.5)
