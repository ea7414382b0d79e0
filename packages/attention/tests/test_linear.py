import pytest
import torch
from einops import rearrange

from stormda.attention import LinearState, elu1, focused, linear_attention, relu
from stormda.attention.state import EPSILON

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def qkv(batch=(2, 3), n=7, m=9, d=8, e=5):
    return tokens(*batch, n, d), tokens(*batch, m, d, seed=1), tokens(*batch, m, e, seed=2)


def quadratic(q, k, v, *, feature=relu, w=None):
    """The same as a weighted mean over all pairs; `w` is `(*batch, m)`."""
    w = torch.ones(k.shape[-2], dtype=k.dtype) if w is None else w[..., None, None, :]
    p = (feature(q) @ feature(k).mT + EPSILON) * w
    return (p / p.sum(-1, keepdim=True)) @ v


@pytest.mark.parametrize("feature", [relu, elu1, focused])
@pytest.mark.parametrize("batch", [(3,), (2, 3), (2, 1, 3)])
def test_equals_the_quadratic_form(feature, batch):
    q, k, v = qkv(batch)
    expected = quadratic(q, k, v, feature=feature)
    torch.testing.assert_close(linear_attention(q, k, v, feature=feature), expected, **EXACT)


def test_weight_and_mask_equal_the_quadratic_form():
    q, k, v = qkv()
    weight, mask = tokens(2, 9, seed=3).exp(), tokens(2, 9, seed=4) > 0
    expected = quadratic(q, k, v, w=weight * mask)
    y = linear_attention(q, k, v, weight=weight, mask=mask)
    torch.testing.assert_close(y, expected, **EXACT)


def test_gradients_equal_those_of_the_quadratic_form():
    q, k, v = (x.requires_grad_() for x in qkv())
    weight = tokens(2, 9, seed=3).exp().requires_grad_()
    inputs, ybar = (q, k, v, weight), tokens(2, 3, 7, 5, seed=5)
    got = torch.autograd.grad(linear_attention(q, k, v, weight=weight), inputs, ybar)
    expected = torch.autograd.grad(quadratic(q, k, v, w=weight), inputs, ybar)
    torch.testing.assert_close(got, expected, **EXACT)


def test_gradients_of_first_and_second_order():
    q, k, v = (x.requires_grad_() for x in qkv((1,), n=3, m=4, d=3, e=2))
    weight = tokens(4, seed=3).exp().requires_grad_()

    def attend(q, k, v, weight):
        return linear_attention(q, k, v, feature=elu1, weight=weight)

    assert torch.autograd.gradcheck(attend, (q, k, v, weight))
    assert torch.autograd.gradgradcheck(attend, (q, k, v, weight))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own, in jvp
def test_function_transforms():
    q, k, v = qkv()
    y, pull = torch.func.vjp(linear_attention, q, k, v)
    dq, dk, dv = tokens(*q.shape, seed=6), tokens(*k.shape, seed=7), tokens(*v.shape, seed=8)
    _, push = torch.func.jvp(linear_attention, (q, k, v), (dq, dk, dv))
    ybar = tokens(*y.shape, seed=9)
    pulled = sum((a * b).sum() for a, b in zip(pull(ybar), (dq, dk, dv), strict=True))
    torch.testing.assert_close((ybar * push).sum(), pulled)
    torch.testing.assert_close(torch.func.vmap(linear_attention)(q, k, v), y)


def test_constant_values_stay_constant():
    q, k, _ = qkv()
    v = torch.full((2, 3, 9, 5), 273.15, dtype=torch.float64)
    weight = tokens(2, 9, seed=3).exp()
    y = linear_attention(q, k, v, weight=weight)
    torch.testing.assert_close(y, v[..., :7, :], **EXACT)


def test_a_query_that_matches_nothing_gets_the_weighted_mean():
    _, k, v = qkv()
    q, weight = -torch.ones(2, 3, 1, 8, dtype=torch.float64), tokens(2, 9, seed=3).exp()
    expected = torch.einsum("bm,bhme->bhe", weight / weight.sum(-1, keepdim=True), v)
    y = linear_attention(q, k, v, weight=weight)
    torch.testing.assert_close(y, expected[:, :, None], **EXACT)


def test_every_key_twice_changes_nothing():
    q, k, v = qkv()
    twice = (torch.cat([x, x], -2) for x in (k, v))
    torch.testing.assert_close(linear_attention(q, *twice), linear_attention(q, k, v), **EXACT)


def test_a_weight_of_two_equals_a_second_key():
    q, k, v = qkv()
    weight = torch.ones(9, dtype=torch.float64)
    weight[4] = 2
    twice = (torch.cat([x, x[..., 4:5, :]], -2) for x in (k, v))
    torch.testing.assert_close(
        linear_attention(q, k, v, weight=weight), linear_attention(q, *twice), **EXACT
    )


def test_the_scale_of_the_weights_cancels():
    q, k, v = qkv()
    weight = tokens(2, 9, seed=3).exp()
    torch.testing.assert_close(
        linear_attention(q, k, v, weight=1e-9 * weight),
        linear_attention(q, k, v, weight=weight),
        **EXACT,
    )


def test_permuted_keys_change_nothing_and_permuted_queries_permute():
    q, k, v = qkv()
    keys, queries = tokens(9, seed=3).argsort(), tokens(7, seed=4).argsort()
    y = linear_attention(q[..., queries, :], k[..., keys, :], v[..., keys, :])
    torch.testing.assert_close(y, linear_attention(q, k, v)[..., queries, :], **EXACT)


def test_a_rolled_field_gives_the_rolled_answer():
    def roll(x):
        field = rearrange(x, "... (y x) d -> ... y x d", y=3)
        return field.roll(2, dims=-2).flatten(-3, -2)

    q, k, v = qkv(n=12, m=12)
    torch.testing.assert_close(
        linear_attention(roll(q), roll(k), roll(v)), roll(linear_attention(q, k, v)), **EXACT
    )


@pytest.mark.parametrize("by", ["mask", "weight"])
def test_keys_that_do_not_count_have_no_influence_and_no_gradient(by):
    q, k, v = qkv()
    counts = torch.arange(9) % 3 > 0
    option = {by: counts if by == "mask" else counts.double()}
    alone = linear_attention(q, k[..., counts, :], v[..., counts, :])
    k[..., ~counts, :], v[..., ~counts, :] = 1e6, -1e6
    k.requires_grad_()
    v.requires_grad_()
    y = linear_attention(q, k, v, **option)
    torch.testing.assert_close(y, alone, **EXACT)
    for gradient in torch.autograd.grad(y.square().sum(), (k, v)):
        assert gradient[..., ~counts, :].abs().max() == 0


def test_no_key_at_all_gives_zero_and_no_gradient():
    q, k, v = (x.requires_grad_() for x in qkv())
    y = linear_attention(q, k, v, mask=torch.zeros(1, dtype=torch.bool))
    assert y.abs().max() == 0
    for gradient in torch.autograd.grad(y.sum(), (q, k, v)):
        assert gradient.abs().max() == 0


def test_chunks_add_to_the_whole():
    q, k, v = qkv()
    weight = tokens(2, 9, seed=3).exp()
    cuts = [slice(0, 1), slice(1, 6), slice(6, 9)]
    first, *rest = (
        LinearState.from_tokens(relu(k[..., cut, :]), v[..., cut, :], weight=weight[..., cut])
        for cut in cuts
    )
    y = sum(rest, first).apply(relu(q))
    torch.testing.assert_close(y, linear_attention(q, k, v, weight=weight), **EXACT)


def test_reduce_sums_over_shards_in_one_call_of_one_tensor():
    q, k, v = qkv()
    shards = [(k[..., :4, :], v[..., :4, :]), (k[..., 4:, :], v[..., 4:, :])]
    packed = []
    for shard in shards:
        linear_attention(q, *shard, reduce=lambda x: packed.append(x) or x)
    assert [tuple(x.shape) for x in packed] == 2 * [(2, 3, 8 * 5 + 8 + 5 + 1)]
    y = linear_attention(q, *shards[0], reduce=lambda x: x + packed[1])
    torch.testing.assert_close(y, linear_attention(q, k, v), **EXACT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_summed_in_float32(dtype):
    q, k, v = (x.to(dtype) for x in qkv((2,), n=16, m=4096, d=16, e=4))
    state = LinearState.from_tokens(relu(k), v)
    assert {x.dtype for x in (state.kv, state.z, state.s, state.c)} == {torch.float32}
    y = linear_attention(q, k, v)
    assert y.dtype == dtype
    expected = linear_attention(q.double(), k.double(), v.double())
    # Only the answer is rounded: half a unit in the last place.
    torch.testing.assert_close(y.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_autocast_does_not_reach_the_sums():
    q, k, v = (x.float() for x in qkv())
    with torch.autocast("cpu", torch.bfloat16):
        y = linear_attention(q, k, v)
    torch.testing.assert_close(y, linear_attention(q, k, v), rtol=0, atol=0)


def test_shapes_are_known_without_data():
    q, k, v = (x.to("meta") for x in qkv())
    assert linear_attention(q, k, v).shape == (2, 3, 7, 5)


def test_errors():
    q, k, v = qkv()
    with pytest.raises(ValueError, match=r"^q: expected \(\.\.\., h, n, d\), got \(7, 8\)$"):
        linear_attention(q[0, 0], k, v)
    with pytest.raises(
        ValueError,
        match=r"^k: expected \(\.\.\., h, m, d\) with the d of q \(2, 3, 7, 8\), "
        r"got \(2, 3, 9, 4\)$",
    ):
        linear_attention(q, k[..., :4], v)
    with pytest.raises(
        ValueError,
        match=r"^v: expected \(\.\.\., h, m, e\) with the m of k \(2, 3, 9, 8\), "
        r"got \(2, 3, 4, 5\)$",
    ):
        linear_attention(q, k, v[..., :4, :])
    with pytest.raises(
        ValueError, match=r"^weight: expected \(\*batch, m\) with m=9 keys, got \(2, 7\)$"
    ):
        linear_attention(q, k, v, weight=torch.ones(2, 7))
    with pytest.raises(
        ValueError, match=r"^mask: expected \(\*batch, m\) with m=9 keys, got \(\)$"
    ):
        linear_attention(q, k, v, mask=torch.tensor(True))
    with pytest.raises(ValueError, match=r"^mask: expected dtype torch\.bool, got torch\.int64$"):
        linear_attention(q, k, v, mask=torch.ones(9, dtype=torch.int64))
    state = LinearState.from_tokens(relu(k), v)
    with pytest.raises(
        ValueError, match=r"^q: expected \(\.\.\., n, d\) with d=8, got \(2, 3, 7, 4\)$"
    ):
        state.apply(q[..., :4])
