import pytest
import torch
from einops import rearrange

from stormda.attention import softmax_attention, tile_attention

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def qkv(shape, batch=(2, 3), d=4, e=5):
    n = shape[0] * shape[1]
    return tokens(*batch, n, d), tokens(*batch, n, d, seed=1), tokens(*batch, n, e, seed=2)


def seen(size, first, last, halo, periodic):
    """The indices within `halo` of `first`..`last`, each once."""
    reach = range(first - halo, last + halo + 1)
    return sorted({i % size for i in reach} if periodic else set(reach) & set(range(size)))


def loop(q, k, v, *, shape, tile, halo, periodic, weight=None, mask=None):
    """The same, one tile after the other."""
    index = torch.arange(shape[0] * shape[1]).reshape(shape)
    y = torch.empty(*q.shape[:-1], v.shape[-1], dtype=v.dtype)
    for top in range(0, shape[0], tile[0]):
        for left in range(0, shape[1], tile[1]):
            bottom, right = min(top + tile[0], shape[0]), min(left + tile[1], shape[1])
            core = index[top:bottom, left:right].flatten()
            rows = seen(shape[0], top, bottom - 1, halo[0], periodic[0])
            columns = seen(shape[1], left, right - 1, halo[1], periodic[1])
            window = index[rows][:, columns].flatten()
            y[..., core, :] = softmax_attention(
                q[..., core, :],
                k[..., window, :],
                v[..., window, :],
                weight=None if weight is None else weight[..., window],
                mask=None if mask is None else mask[..., window],
            )
    return y


CASES = [
    {"shape": (4, 6), "tile": (2, 3), "halo": (0, 0), "periodic": (False, True)},
    {"shape": (4, 8), "tile": (2, 4), "halo": (1, 2), "periodic": (True, True)},
    {"shape": (5, 7), "tile": (2, 3), "halo": (1, 2), "periodic": (False, True)},
    {"shape": (5, 7), "tile": (3, 4), "halo": (2, 1), "periodic": (True, False)},
    {"shape": (3, 5), "tile": (2, 2), "halo": (4, 6), "periodic": (True, True)},
    {"shape": (3, 5), "tile": (8, 8), "halo": (1, 2), "periodic": (False, True)},
    {"shape": (1, 5), "tile": (1, 2), "halo": (2, 1), "periodic": (False, False)},
]


@pytest.mark.parametrize("case", CASES)
def test_equals_a_loop_over_tiles(case):
    q, k, v = qkv(case["shape"])
    torch.testing.assert_close(tile_attention(q, k, v, **case), loop(q, k, v, **case), **EXACT)


@pytest.mark.parametrize("case", CASES)
def test_weight_and_mask_equal_a_loop_over_tiles(case):
    q, k, v = qkv(case["shape"])
    weight, mask = tokens(2, k.shape[-2], seed=3).exp(), tokens(k.shape[-2], seed=4) > -0.5
    got = tile_attention(q, k, v, **case, weight=weight, mask=mask)
    expected = loop(q, k, v, **case, weight=weight, mask=mask)
    torch.testing.assert_close(got, expected, **EXACT)


def test_one_number_can_weigh_all_keys():
    case = {"shape": (4, 6), "tile": (2, 3), "halo": (1, 1)}
    q, k, v = qkv(case["shape"])
    same = tile_attention(q, k, v, **case, weight=torch.full((2, 1), 0.3, dtype=torch.float64))
    torch.testing.assert_close(same, tile_attention(q, k, v, **case), **EXACT)


@pytest.mark.parametrize("periodic", [(True, True), (False, True), (False, False)])
def test_a_halo_over_the_grid_is_full_attention(periodic):
    q, k, v = qkv((4, 6))
    y = tile_attention(q, k, v, shape=(4, 6), tile=(2, 4), halo=(4, 6), periodic=periodic)
    torch.testing.assert_close(y, softmax_attention(q, k, v), **EXACT)


def test_a_field_rolled_by_a_tile_in_longitude_gives_the_rolled_answer():
    def roll(x):
        return rearrange(x, "... (y x) d -> ... y x d", y=4).roll(3, -2).flatten(-3, -2)

    case = {"shape": (4, 9), "tile": (2, 3), "halo": (1, 2), "periodic": (False, True)}
    q, k, v = qkv((4, 9))
    y = tile_attention(roll(q), roll(k), roll(v), **case)
    torch.testing.assert_close(y, roll(tile_attention(q, k, v, **case)), **EXACT)


def test_constant_values_stay_constant():
    q, k, _ = qkv((5, 7))
    v = torch.full((2, 3, 35, 5), 273.15, dtype=torch.float64)
    y = tile_attention(q, k, v, shape=(5, 7), tile=(2, 3), halo=(1, 2))
    torch.testing.assert_close(y, v, **EXACT)


def test_gradients():
    q, k, v = (x.requires_grad_() for x in qkv((2, 3), batch=(1,), d=2, e=1))

    def attend(q, k, v):
        return tile_attention(q, k, v, shape=(2, 3), tile=(2, 2), halo=(0, 1))

    assert torch.autograd.gradcheck(attend, (q, k, v))
    assert torch.autograd.gradgradcheck(attend, (q, k, v))


def test_errors():
    q, k, v = qkv((4, 6))
    good = {"shape": (4, 6), "tile": (2, 3), "halo": (1, 1)}
    with pytest.raises(
        ValueError, match=r"^shape: expected \(rows, columns\) of 24 tokens, got \(4, 7\)$"
    ):
        tile_attention(q, k, v, **{**good, "shape": (4, 7)})
    with pytest.raises(
        ValueError, match=r"^tile: expected \(rows, columns\) of at least 1, got \(0, 3\)$"
    ):
        tile_attention(q, k, v, **{**good, "tile": (0, 3)})
    with pytest.raises(
        ValueError, match=r"^halo: expected \(rows, columns\) of at least 0, got \(1, -1\)$"
    ):
        tile_attention(q, k, v, **{**good, "halo": (1, -1)})
