import pytest
import torch

from stormda.attention import latent_attention, rms_norm, softmax_attention

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def inputs(batch=(2,), h=3, n=7, m=9, d=8, e=5, g=4):
    k = rms_norm(tokens(*batch, h, m, d, seed=1), torch.ones(d).double())
    return tokens(*batch, h, n, d), k, tokens(*batch, h, m, e, seed=2), tokens(h, g, d, seed=3)


@pytest.mark.parametrize("batch", [(), (2,), (2, 1)])
def test_is_softmax_attention_of_latents_and_then_of_tokens(batch):
    q, k, v, latents = inputs(batch)
    weight, mask = tokens(9, seed=4).exp(), tokens(9, seed=5) > -1
    asked = latents.expand(*q.shape[:-2], *latents.shape[-2:])
    heard = softmax_attention(asked, k, v, weight=weight, mask=mask)
    expected = softmax_attention(q, asked, heard)
    y = latent_attention(q, k, v, latents, weight=weight, mask=mask)
    torch.testing.assert_close(y, expected, **EXACT)


def test_gradients():
    q, k, v, latents = (x.requires_grad_() for x in inputs((), h=1, n=2, m=3, d=4, e=2, g=2))
    assert torch.autograd.gradcheck(latent_attention, (q, k, v, latents))


def test_constant_values_stay_constant():
    q, k, v, latents = inputs()
    y = latent_attention(q, k, torch.full_like(v, 273.15), latents)
    torch.testing.assert_close(y, torch.full_like(y, 273.15), **EXACT)


def test_shards_add_up_in_one_call():
    q, k, v, latents = inputs()
    packed = []
    for part in (slice(0, 2), slice(2, 9)):
        reduce = lambda x: packed.append(x) or x  # noqa: E731
        latent_attention(q, k[..., part, :], v[..., part, :], latents, reduce=reduce)
    assert [tuple(x.shape) for x in packed] == 2 * [(2, 3, 4 * 5 + 4 + 5 + 1)]
    y = latent_attention(q, k[..., :2, :], v[..., :2, :], latents, reduce=lambda x: x + packed[1])
    torch.testing.assert_close(y, latent_attention(q, k, v, latents), **EXACT)


def test_no_key_at_all_gives_zero():
    q, k, v, latents = inputs()
    y = latent_attention(q, k, v, latents, mask=torch.zeros(1, dtype=torch.bool))
    assert y.abs().max() == 0


def test_errors():
    q, k, v, latents = inputs()
    with pytest.raises(
        ValueError,
        match=r"^latents: expected \(h, g, d\) with the h and d of q \(2, 3, 7, 8\), "
        r"got \(3, 4, 5\)$",
    ):
        latent_attention(q, k, v, latents[..., :5])
