"""Patches of rectangles are those of two loops, whatever the array; into memory that is there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormda.grid import Patching, PlaneGrid, grid, moving

DTYPES = ["u1", "i2", "f2", "f4", "f8", "c8", "c16", ">f4", "S5", "M8[s]", "O"]


def by_loops(x, patching):
    """Cut padded fields (*batch, time, variable, rows, cols) token by token."""
    (py, px), f, (rows, cols) = patching.patch, patching.frames, patching.token_shape
    padded = patching.pad(x)
    tokens = [
        padded[..., t * f : (t + 1) * f, :, i * py : (i + 1) * py, j * px : (j + 1) * px].reshape(
            *x.shape[:-4], -1
        )
        for t in range(x.shape[-4] // f)
        for i in range(rows)
        for j in range(cols)
    ]
    return np.stack(tokens, -2)


@st.composite
def cases(draw):
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    patch = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    patching = Patching(PlaneGrid(shape, (1.0, 1.0)), patch, draw(st.integers(1, 2)))
    batch = draw(st.sampled_from([(), (2,), (2, 1)]))
    size = *batch, patching.frames * draw(st.integers(1, 2)), draw(st.integers(1, 3)), *shape
    x = np.arange(np.prod(size)).reshape(size).astype(draw(st.sampled_from(DTYPES)))
    if draw(st.booleans()):
        x = np.asfortranarray(x)
    if draw(st.booleans()):
        x = np.repeat(x, 2, -1)[..., ::2]
    return patching, x


@given(cases(), st.sampled_from([1, 200, moving.IN_CACHE]))
def test_patches_are_those_of_two_loops_whatever_the_array(case, in_cache):
    patching, x = case
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(moving, "IN_CACHE", in_cache)
        tokens = patching.patchify(x)
        back = patching.unpatchify(tokens)
        slanted = patching.unpatchify(np.asfortranarray(tokens))
    assert tokens.dtype == back.dtype == x.dtype
    np.testing.assert_array_equal(tokens, by_loops(x, patching))
    np.testing.assert_array_equal(back, x)
    np.testing.assert_array_equal(slanted, x)


@given(cases())
def test_memory_that_is_there_is_used(case):
    patching, x = case
    tokens = np.empty(by_loops(x, patching).shape, x.dtype)
    fields = np.empty(x.shape, x.dtype)
    assert patching.patchify(x, out=tokens) is tokens
    np.testing.assert_array_equal(tokens, by_loops(x, patching))
    assert patching.unpatchify(tokens, out=fields) is fields
    np.testing.assert_array_equal(fields, x)


@pytest.mark.parametrize("name", ["15deg", "15deg-poles", "o8", "healpix8-ring"])
def test_memory_that_is_there_is_used_on_every_grid(name):
    patching = Patching(grid(name), (4, 4))
    x = np.random.default_rng(0).normal(size=(2, 3, *patching.grid.shape))
    tokens, fields = np.empty_like(patching.patchify(x, [1])), np.empty_like(x)
    np.testing.assert_array_equal(patching.patchify(x, [1], out=tokens), patching.patchify(x, [1]))
    assert patching.unpatchify(tokens, out=fields) is fields
    np.testing.assert_array_equal(fields, x)


@pytest.mark.parametrize("name", ["15deg", "15deg-poles", "o8"])
def test_masks_are_cut_as_values_are(name):
    patching = Patching(grid(name), (5, 4))
    x = np.ma.masked_less(np.random.default_rng(0).normal(size=(1, 2, *patching.grid.shape)), 0)
    tokens = patching.patchify(x)
    np.testing.assert_array_equal(tokens.mask, patching.patchify(x.mask))
    np.testing.assert_array_equal(tokens.data, patching.patchify(x.data))
    back = patching.unpatchify(tokens)
    np.testing.assert_array_equal(back.mask, x.mask)
    np.testing.assert_array_equal(back.data, x.data)


# Torch itself scripts its rules for tangents when the first one is made.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ["15deg", "15deg-poles"])
def test_torch_sees_what_it_has_to_see(name):
    """Gradients, tangents and batches of transforms are those of the plain path."""
    torch = pytest.importorskip("torch")
    patching = Patching(grid(name), (5, 4))
    x = torch.randn(2, 1, *patching.grid.shape, dtype=torch.float64)
    cut, join = patching.patchify, patching.unpatchify
    tokens = cut(x)
    torch.testing.assert_close(cut(x.clone().requires_grad_()).detach(), tokens)
    torch.testing.assert_close(join(tokens.clone().requires_grad_()).detach(), x)
    torch.testing.assert_close(cut(x.bfloat16()), tokens.bfloat16())
    torch.testing.assert_close(torch.func.vmap(cut)(x[None]), tokens[None])
    torch.testing.assert_close(torch.func.jvp(cut, (x,), (2 * x,)), (tokens, 2 * tokens))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, 2 * x)
        tangent = torch.autograd.forward_ad.unpack_dual(cut(dual)).tangent
        torch.testing.assert_close(tangent, 2 * tokens)
    out = torch.empty_like(tokens)
    assert cut(x, out=out) is out
    torch.testing.assert_close(out, tokens)
    weight = torch.randn_like(tokens)
    (gradient,) = torch.autograd.grad((cut(x.requires_grad_()) * weight).sum(), x)
    seen = torch.autograd.functional.vjp(lambda x: cut(x + 0), x.detach(), weight)[1]
    torch.testing.assert_close(gradient, seen)


PLANE = Patching(PlaneGrid((4, 6), (1.0, 1.0)), (2, 2))
X = np.zeros((1, 1, 4, 6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: PLANE.patchify(X, out=np.zeros((6, 3))),
            r"out: expected shape \(6, 4\), got \(6, 3\)",
        ),
        (
            lambda: PLANE.patchify(X, out=np.zeros((6, 4), "f4")),
            "out: expected contiguous float64 in memory, got float32",
        ),
        (
            lambda: PLANE.unpatchify(np.zeros((6, 4)), out=np.zeros((1, 1, 6, 4)).mT),
            "out: expected contiguous float64 in memory, got float64 that is not contiguous",
        ),
        (
            lambda: Patching(grid("o8"), (4, 4)).patchify(np.zeros((1, 1, 544)), out=X),
            r"out: expected shape \(34, 16\), got \(1, 1, 4, 6\)",
        ),
    ],
)
def test_memory_of_another_shape_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
