import math

import pytest
import torch

from stormda.attention import softmax_attention

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def qkv(batch=(2, 3), n=7, m=9, d=8, e=5):
    return tokens(*batch, n, d), tokens(*batch, m, d, seed=1), tokens(*batch, m, e, seed=2)


def test_equals_the_definition():
    q, k, v = qkv((3,), n=2, m=4)
    y = softmax_attention(q, k, v)
    for h in range(3):
        for i in range(2):
            p = [math.exp(float(q[h, i] @ k[h, j]) / math.sqrt(8)) for j in range(4)]
            expected = sum(p[j] * v[h, j] for j in range(4)) / sum(p)
            torch.testing.assert_close(y[h, i], expected, **EXACT)


def test_equals_torch_with_a_mask_and_with_logarithms_of_weights():
    q, k, v = qkv()
    weight, mask = tokens(2, 9, seed=3).exp(), tokens(2, 9, seed=4) > 0
    bias = weight.log().masked_fill(~mask, -math.inf)[:, None, None]
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    got = softmax_attention(q, k, v, weight=weight, mask=mask)
    torch.testing.assert_close(got, expected, **EXACT)


def test_a_weight_of_two_equals_a_second_key():
    q, k, v = qkv()
    weight = torch.ones(9, dtype=torch.float64)
    weight[4] = 2
    twice = (torch.cat([x, x[..., 4:5, :]], -2) for x in (k, v))
    torch.testing.assert_close(
        softmax_attention(q, k, v, weight=weight), softmax_attention(q, *twice), **EXACT
    )


def test_gradients_of_first_and_second_order():
    q, k, v = (x.requires_grad_() for x in qkv((1,), n=3, m=4, d=3, e=2))
    weight = torch.tensor([1.0, 0.5, 2.0, 0.1], dtype=torch.float64).requires_grad_()

    def attend(q, k, v, weight):
        return softmax_attention(q, k, v, weight=weight)

    assert torch.autograd.gradcheck(attend, (q, k, v, weight))
    assert torch.autograd.gradgradcheck(attend, (q, k, v, weight))


@pytest.mark.parametrize("by", ["mask", "weight"])
def test_keys_that_do_not_count_have_no_influence_and_no_gradient(by):
    q, k, v = qkv()
    counts = torch.arange(9) % 3 > 0
    option = {by: counts if by == "mask" else counts.double()}
    alone = softmax_attention(q, k[..., counts, :], v[..., counts, :])
    k[..., ~counts, :], v[..., ~counts, :] = 1e3, -1e6
    k.requires_grad_()
    v.requires_grad_()
    y = softmax_attention(q, k, v, **option)
    torch.testing.assert_close(y, alone, **EXACT)
    for gradient in torch.autograd.grad(y.square().sum(), (k, v)):
        assert gradient[..., ~counts, :].abs().max() == 0


def test_no_key_at_all_gives_zero_and_no_gradient():
    q, k, v = (x.requires_grad_() for x in qkv())
    y = softmax_attention(q, k, v, mask=torch.zeros(1, dtype=torch.bool))
    assert y.abs().max() == 0
    for gradient in torch.autograd.grad(y.sum(), (q, k, v)):
        assert gradient.abs().max() == 0


def test_autocast_does_not_reach_the_sums():
    q, k, v = (x.float() for x in qkv())
    with torch.autocast("cpu", torch.bfloat16):
        y = softmax_attention(q, k, v)
    torch.testing.assert_close(y, softmax_attention(q, k, v), rtol=0, atol=0)


def test_errors():
    q, k, v = qkv()
    with pytest.raises(ValueError, match=r"^q: expected \(\.\.\., h, n, d\), got \(7, 8\)$"):
        softmax_attention(q[0, 0], k, v)
    with pytest.raises(ValueError, match=r"^mask: expected dtype torch\.bool, got torch\.int64$"):
        softmax_attention(q, k, v, mask=torch.ones(9, dtype=torch.int64))
