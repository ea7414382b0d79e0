import math

import pytest
import torch
from einops import rearrange
from torch.utils._python_dispatch import TorchDispatchMode

from stormda.attention import absorbed_attention, softmax_attention, temporal_attention

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def qkv(frames=5, batch=(2, 3), n=4, d=6, e=3):
    k, v = tokens(*batch, frames, n, d, seed=1), tokens(*batch, frames, n, e, seed=2)
    return tokens(*batch, n, d), k, v


def by_location(q, k, v, mask=None):
    """The same by full attention of one query a location; `mask` is `(b, K, n)`."""
    q = rearrange(q, "b h n d -> b n h 1 d")
    k, v = (rearrange(x, "b h t n d -> b n h t d") for x in (k, v))
    mask = None if mask is None else rearrange(mask, "b t n -> b n t")
    return rearrange(softmax_attention(q, k, v, mask=mask), "b n h 1 d -> b h n d")


@pytest.mark.parametrize("chunk", [None, 1, 2, 5, 9])
def test_equals_softmax_attention_at_each_location(chunk):
    q, k, v = qkv()
    torch.testing.assert_close(
        temporal_attention(q, k, v, chunk=chunk), by_location(q, k, v), **EXACT
    )


@pytest.mark.parametrize("chunk", [None, 1, 2])
def test_masked_frames_have_no_influence_and_no_gradient(chunk):
    q, k, v = qkv()
    mask = tokens(2, 5, 4, seed=3) > 0
    mask[0, :, 0] = False  # no frame at all: zero
    out = ~mask[:, None, :, :, None].expand_as(v)
    v = v.masked_fill(out, 1e6).requires_grad_()
    k = k.masked_fill(~mask[:, None, :, :, None], 1e3).requires_grad_()
    y = temporal_attention(q, k, v, mask=mask, chunk=chunk)
    torch.testing.assert_close(y, by_location(q, k, v, mask), **EXACT)
    assert y[0, :, 0].abs().max() == 0
    of_k, of_v = torch.autograd.grad(y.square().sum(), (k, v))
    assert of_v[out].abs().max() == 0
    assert of_k[out[..., :1].expand_as(k)].abs().max() == 0
    assert of_k.isfinite().all()


@pytest.mark.parametrize("chunk", [None, 2])
def test_a_bias_is_the_logarithm_of_a_number_of_frames(chunk):
    q, k, v = qkv(frames=3)
    twice = (torch.cat([x, x[:, :, 1:2]], 2) for x in (k, v))
    bias = torch.tensor([0.0, math.log(2), 0.0], dtype=torch.float64)[:, None]
    y = temporal_attention(q, k, v, bias=bias, chunk=chunk)
    torch.testing.assert_close(y, temporal_attention(q, *twice), **EXACT)


def test_one_mask_and_one_bias_hold_for_all_frames():
    q, k, v = qkv()
    mask, bias = torch.ones(1, 1, dtype=torch.bool), torch.full((1, 1), 3.0).double()
    y = temporal_attention(q, k, v, mask=mask, bias=bias, chunk=2)
    torch.testing.assert_close(y, temporal_attention(q, k, v), **EXACT)


@pytest.mark.parametrize("chunk", [None, 2])
def test_gradients_of_first_and_second_order(chunk):
    q, k, v = (x.requires_grad_() for x in qkv(frames=3, batch=(1, 1), n=2, d=2, e=2))
    bias = tokens(3, 2, seed=4).requires_grad_()

    def attend(q, k, v, bias):
        return temporal_attention(q, k, v, bias=bias, chunk=chunk)

    assert torch.autograd.gradcheck(attend, (q, k, v, bias))
    assert torch.autograd.gradgradcheck(attend, (q, k, v, bias))


def test_logits_of_any_size_stay_finite():
    q, k, v = qkv()
    y = temporal_attention(1e4 * q, 1e4 * k, v, chunk=2)
    torch.testing.assert_close(y, by_location(1e4 * q, 1e4 * k, v), **EXACT)


class LargestResult(TorchDispatchMode):
    """Note the size of the largest tensor that any operation returns."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.numbers = max(self.numbers, result.numel())
        return result


def test_working_memory_is_that_of_a_chunk():
    q, k, v = qkv(frames=64, d=6, e=6)
    with LargestResult() as largest:
        temporal_attention(q, k, v, chunk=2)
    assert largest.numbers == 2 * q.numel()


def test_locations_do_not_see_each_other():
    q, k, v = qkv()
    k[..., 1, :], v[..., 1, :] = 0, 0
    before = temporal_attention(*qkv())
    after = temporal_attention(q, k, v)
    torch.testing.assert_close(after[..., [0, 2, 3], :], before[..., [0, 2, 3], :], **EXACT)


def test_permuted_frames_change_nothing():
    q, k, v = qkv()
    order = torch.tensor([3, 1, 4, 0, 2])
    y = temporal_attention(q, k[:, :, order], v[:, :, order], chunk=2)
    torch.testing.assert_close(y, temporal_attention(q, k, v), **EXACT)


def test_half_types_are_summed_in_float32():
    q, k, v = (x.bfloat16() for x in qkv(frames=64))
    y = temporal_attention(q, k, v, chunk=8)
    assert y.dtype == torch.bfloat16
    expected = temporal_attention(q.double(), k.double(), v.double())
    # Only the answer is rounded: half a unit in the last place.
    torch.testing.assert_close(y.double(), expected, rtol=2**-8, atol=1e-6)


class Listed:
    """Frames that are read by slices and are no tensor."""

    def __init__(self, frames):
        self.frames, self.shape, self.most = frames, tuple(frames.shape), 0

    def __getitem__(self, index):
        assert index[-3].stop <= self.shape[-3]  # not every source forgives more
        part = self.frames[index]
        self.most = max(self.most, part.shape[-3])
        return part.numpy() if hasattr(part, "numpy") else part.tolist()


def test_frames_are_read_by_slices_from_anything():
    pytest.importorskip("numpy")
    q, k, v = qkv(frames=7)
    keys, values = Listed(k), Listed(v)
    y = temporal_attention(q, keys, values, chunk=3)
    torch.testing.assert_close(y, temporal_attention(q, k, v), **EXACT)
    assert (keys.most, values.most) == (3, 3)


def absorbed(batch=(2,), heads=3, frames=5, n=4, d=6, e=3, width=8):
    q, history = tokens(*batch, heads, n, d), tokens(*batch, frames, n, width, seed=1)
    return q, history, tokens(heads, d, width, seed=2), tokens(heads, e, width, seed=3)


@pytest.mark.parametrize("chunk", [None, 2])
def test_absorbed_projections_equal_keys_and_values(chunk):
    q, history, to_key, to_value = inputs = absorbed()
    mask = tokens(2, 5, 4, seed=4) > -1
    k, v = (torch.einsum("btnw,hdw->bhtnd", history, to) for to in (to_key, to_value))
    for x in inputs:
        x.requires_grad_()
    expected = temporal_attention(q, k, v, mask=mask)
    y = absorbed_attention(q, history, to_key, to_value, mask=mask, chunk=chunk)
    torch.testing.assert_close(y, expected, **EXACT)
    k, v = (torch.einsum("btnw,hdw->bhtnd", history, to) for to in (to_key, to_value))
    expected, ybar = temporal_attention(q, k, v, mask=mask), tokens(2, 3, 4, 3, seed=5)
    got = torch.autograd.grad(y, inputs, ybar)
    torch.testing.assert_close(got, torch.autograd.grad(expected, inputs, ybar), **EXACT)


def test_absorbed_errors():
    q, history, to_key, to_value = absorbed()
    with pytest.raises(ValueError, match=r"^to_key: expected \(h, d, D\) with h=3, got \(6, 8\)$"):
        absorbed_attention(q, history, to_key[0], to_value)
    with pytest.raises(
        ValueError, match=r"^to_value: expected \(h, d, D\) with h=3, got \(2, 3, 8\)$"
    ):
        absorbed_attention(q, history, to_key, to_value[:2])


def test_errors():
    q, k, v = qkv()
    with pytest.raises(ValueError, match=r"^q: expected \(\.\.\., h, n, d\), got \(4, 6\)$"):
        temporal_attention(q[0, 0], k, v)
    with pytest.raises(
        ValueError,
        match=r"^k: expected \(\.\.\., h, K, n, d\) with n=4, d=6, got \(2, 3, 5, 3, 6\)$",
    ):
        temporal_attention(q, k[..., :3, :], v)
    with pytest.raises(
        ValueError,
        match=r"^v: expected \(\.\.\., h, K, n, e\) with the K and n of k \(2, 3, 5, 4, 6\), "
        r"got \(2, 3, 2, 4, 3\)$",
    ):
        temporal_attention(q, k, v[:, :, :2])
    with pytest.raises(
        ValueError, match=r"^bias: expected \(\.\.\., K, n\) with K=5, n=4, got \(5,\)$"
    ):
        temporal_attention(q, k, v, bias=torch.zeros(5))
    with pytest.raises(
        ValueError, match=r"^mask: expected \(\.\.\., K, n\) with K=5, n=4, got \(2, 3, 4\)$"
    ):
        temporal_attention(q, k, v, mask=torch.ones(2, 3, 4, dtype=torch.bool))
    with pytest.raises(
        ValueError, match=r"^mask: expected dtype torch\.bool, got torch\.float32$"
    ):
        temporal_attention(q, k, v, mask=torch.ones(5, 4))
    with pytest.raises(ValueError, match=r"^chunk: expected at least 1, got 0$"):
        temporal_attention(q, k, v, chunk=0)
