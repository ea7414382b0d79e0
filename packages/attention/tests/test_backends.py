import platform
import re
import sys
from functools import partial

import pytest
import torch

from stormda.attention import (
    BLOCKED,
    NATIVE,
    PLAIN,
    backend_report,
    elu1,
    focused,
    linear_attention,
    native,
    relu,
    spherical_cosine,
    suited,
)

EXACT = {"rtol": 1e-12, "atol": 1e-12}
compiled = pytest.mark.skipif(native.status() == "no C++ compiler", reason="no C++ compiler")


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def qkv(batch=(2, 3), n=7, m=9, d=8, e=5):
    return tokens(*batch, n, d), tokens(*batch, m, d, seed=1), tokens(*batch, m, e, seed=2)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr("stormda.attention.blocked.BLOCK", 4)


@pytest.mark.parametrize("feature", [relu, elu1, focused])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("batch", [(3,), (2, 3), (2, 1, 3)])
def test_blocks_equal_whole_sequences_in_values_and_gradients(feature, weighted, batch):
    inputs = [x.requires_grad_() for x in qkv(batch)]
    options = {"feature": feature}
    if weighted:
        weight = tokens(*batch[:-1], 9, seed=3).exp().requires_grad_()
        options |= {"weight": weight, "mask": tokens(9, seed=4) > -1}
        inputs.append(weight)
    y, expected = (
        linear_attention(*inputs[:3], **options, backend=backend) for backend in (BLOCKED, PLAIN)
    )
    torch.testing.assert_close(y, expected, **EXACT)
    ybar = tokens(*y.shape, seed=5)
    torch.testing.assert_close(
        torch.autograd.grad(y, inputs, ybar), torch.autograd.grad(expected, inputs, ybar), **EXACT
    )


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_that_share_a_block_add_to_the_whole(monkeypatch, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)  # 9 keys: blocks of 8 and 1
    inputs = [x.requires_grad_() for x in qkv()]
    y, expected = (linear_attention(*inputs, backend=backend) for backend in (BLOCKED, PLAIN))
    torch.testing.assert_close(y, expected, **EXACT)
    ybar = tokens(*y.shape, seed=5)
    torch.testing.assert_close(
        torch.autograd.grad(y, inputs, ybar), torch.autograd.grad(expected, inputs, ybar), **EXACT
    )


def test_heads_that_lie_between_tokens_are_read_where_they_are():
    q, k, v = (tokens(2, 9, 3, 8, seed=i).transpose(1, 2).requires_grad_() for i in range(3))
    y, expected = (linear_attention(q, k, v, backend=backend) for backend in (BLOCKED, PLAIN))
    torch.testing.assert_close(y, expected, **EXACT)
    got, wanted = (torch.autograd.grad(x.sum(), (q, k, v)) for x in (y, expected))
    torch.testing.assert_close(got, wanted, **EXACT)


@pytest.mark.parametrize("feature", [relu, elu1, focused])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_blocks_of_half_types_are_summed_in_float32(feature, dtype):
    inputs = [x.to(dtype).requires_grad_() for x in qkv()]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    y = linear_attention(*inputs, feature=feature, backend=BLOCKED)
    expected = linear_attention(*exact, feature=feature)
    assert y.dtype == dtype
    # Answers and gradients are rounded once; the features of `focused` several times before.
    tolerance = 4 * torch.finfo(dtype).eps if feature is focused else torch.finfo(dtype).eps
    assert relative(y, expected) < tolerance
    ybar = tokens(*y.shape, seed=5).to(dtype)
    got = torch.autograd.grad(y, inputs, ybar)
    bars = torch.autograd.grad(expected, exact, ybar.double())
    assert max(map(relative, got, bars)) < tolerance


def test_gradcheck_of_blocks():
    q, k, v = (x.requires_grad_() for x in qkv((1,), n=5, m=6, d=3, e=2))
    weight = tokens(6, seed=3).exp().requires_grad_()

    def attend(q, k, v, weight):
        return linear_attention(q, k, v, feature=elu1, weight=weight, backend=BLOCKED)

    assert torch.autograd.gradcheck(attend, (q, k, v, weight))


def test_a_feature_map_with_weights_of_its_own_learns_through_blocks():
    q, k, v = qkv(n=9)
    n = torch.nn.functional.normalize(tokens(9, 3, seed=3), dim=-1)
    strength = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    feature = partial(spherical_cosine, direction=n, strength=strength)
    got, expected = (
        torch.autograd.grad(
            linear_attention(q, k, v, feature=feature, backend=b).square().sum(), strength
        )
        for b in (BLOCKED, PLAIN)
    )
    torch.testing.assert_close(got, expected, **EXACT)


def test_blocks_are_differentiable_once():
    q, k, v = (x.requires_grad_() for x in qkv())
    y = linear_attention(q, k, v, backend=BLOCKED)
    (bar,) = torch.autograd.grad(y.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        bar.sum().backward()


@pytest.mark.parametrize("backend", [PLAIN, BLOCKED])
def test_reduce_is_called_once_with_any_backend(backend):
    q, k, v = qkv()
    packed = []
    for part in (slice(0, 4), slice(4, 9)):
        linear_attention(
            q,
            k[..., part, :],
            v[..., part, :],
            reduce=lambda x: packed.append(x) or x,
            backend=backend,
        )
    assert [tuple(x.shape) for x in packed] == 2 * [(2, 3, 8 * 5 + 8 + 5 + 1)]
    y = linear_attention(
        q, k[..., :4, :], v[..., :4, :], reduce=lambda x: x + packed[1], backend=backend
    )
    torch.testing.assert_close(y, linear_attention(q, k, v), **EXACT)


@pytest.mark.parametrize("backend", [PLAIN, BLOCKED])
def test_what_is_masked_has_no_influence_and_no_gradient(backend):
    q, k, v = qkv()
    counts = torch.arange(9) % 3 > 0
    alone = linear_attention(q, k[..., counts, :], v[..., counts, :])
    k[..., ~counts, :], v[..., ~counts, :] = 1e6, -1e6
    k.requires_grad_()
    v.requires_grad_()
    y = linear_attention(q, k, v, mask=counts, backend=backend)
    torch.testing.assert_close(y, alone, **EXACT)
    for gradient in torch.autograd.grad(y.square().sum(), (k, v)):
        assert gradient[..., ~counts, :].abs().max() == 0


EVERY = [
    pytest.param(PLAIN, torch.float64, 1e-12, id="plain"),
    pytest.param(BLOCKED, torch.float64, 1e-12, id="blocked"),
    # Answers are rounded to 8 bits, and the order of sums matters in float32.
    pytest.param(NATIVE, torch.bfloat16, 2**-7, id="native", marks=compiled),
]
each = pytest.mark.parametrize(("backend", "dtype", "tolerance"), EVERY)


def many(dtype, n=300):
    return [tokens(2, n, 32, seed=i).to(dtype) for i in range(3)]


@each
def test_constant_values_stay_constant(backend, dtype, tolerance):
    q, k, v = many(dtype)
    weight = tokens(300, seed=3).exp()
    y = linear_attention(q, k, torch.full_like(v, 273.0), weight=weight, backend=backend)
    torch.testing.assert_close(y, torch.full_like(y, 273.0), rtol=tolerance, atol=0)


@each
def test_every_key_twice_and_keys_in_any_order_change_nothing(backend, dtype, tolerance):
    q, k, v = many(dtype)
    v = v + 2  # the answers are not small beside the values
    order = tokens(300, seed=3).argsort()
    expected = linear_attention(q, k, v, backend=backend)
    twice = [torch.cat([x, x], -2) for x in (k, v)]
    permuted = [x[..., order, :] for x in (k, v)]
    for keys in (twice, permuted):
        y = linear_attention(q, *keys, backend=backend)
        torch.testing.assert_close(y, expected, rtol=tolerance, atol=tolerance)


@each
def test_a_rolled_sequence_gives_the_rolled_answer(backend, dtype, tolerance):
    q, k, v = many(dtype)
    expected = linear_attention(q, k, v, backend=backend).roll(77, -2)
    y = linear_attention(*(x.roll(77, -2) for x in (q, k, v)), backend=backend)
    torch.testing.assert_close(y, expected, rtol=tolerance, atol=tolerance)


@each
def test_chunks_add_to_the_whole(backend, dtype, tolerance):
    q, k, v = many(dtype)
    weight = tokens(300, seed=3).exp()
    first, second = (
        backend.sums(k[:, part], v[:, part], feature=relu, weight=weight[part], mask=None)
        for part in (slice(0, 130), slice(130, 300))
    )
    y = backend.answers(q, first + second, feature=relu)
    expected = linear_attention(q, k, v, weight=weight, backend=backend)
    torch.testing.assert_close(y, expected, rtol=tolerance, atol=tolerance)


@each
def test_tokens_without_weight_have_no_gradient(backend, dtype, tolerance):
    q, k, v = many(dtype)
    weight = (torch.arange(300) % 3 > 0).double()
    k.requires_grad_()
    v.requires_grad_()
    y = linear_attention(q, k, v, weight=weight, backend=backend)
    out = weight == 0
    alone = linear_attention(q, k[:, ~out], v[:, ~out], backend=backend)
    torch.testing.assert_close(y, alone, rtol=tolerance, atol=tolerance)
    for gradient in torch.autograd.grad(y.sum(), (k, v)):
        assert gradient[:, out].abs().max() == 0


def relative(x, expected):
    return ((x.double() - expected).norm() / expected.norm()).item()


@compiled
@pytest.mark.parametrize("d", [32, 64, 128])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("n", [1, 127, 128, 333])
def test_native_is_as_good_as_bfloat16_can_be(d, weighted, n):
    q, k, v = (tokens(2, 3, n, d, seed=i).bfloat16() for i in range(3))
    ybar = tokens(2, 3, n, d, seed=3).bfloat16()
    weight = tokens(2, n, seed=4).exp() if weighted else None
    inputs = [x.requires_grad_() for x in (q, k, v)]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    y = linear_attention(*inputs, weight=weight, backend=NATIVE)
    expected = linear_attention(*exact, weight=weight, backend=PLAIN)
    assert y.dtype == torch.bfloat16
    # Roundings of tokens and answers: 2^-9 each, a few of them.
    assert relative(y, expected) < 5e-3
    got = torch.autograd.grad(y, inputs, ybar)
    bars = torch.autograd.grad(expected, exact, ybar.double())
    assert relative(got[2], bars[2]) < 6e-3
    if n > 1:  # of one token the answer is its value, whatever the query
        assert relative(got[0], bars[0]) < 1e-2
        assert relative(got[1], bars[1]) < 1e-2


@compiled
def test_native_gives_weights_their_gradient():
    q, k, v = (tokens(2, 200, 32, seed=i).bfloat16() for i in range(3))
    weight = tokens(200, seed=3).exp().float().requires_grad_()
    y, expected = (
        linear_attention(*(x.to(dtype) for x in (q, k, v)), weight=weight, backend=backend)
        for backend, dtype in ((NATIVE, torch.bfloat16), (PLAIN, torch.float64))
    )
    ybar = tokens(*y.shape, seed=4)
    (got,) = torch.autograd.grad(y, weight, ybar.bfloat16())
    (bar,) = torch.autograd.grad(expected, weight, ybar.bfloat16().double())
    assert relative(got, bar.double()) < 2e-2  # a small difference of large sums


@compiled
def test_native_with_features_made_before():
    q, k, v = (tokens(2, 100, 32, seed=i).bfloat16() for i in range(3))
    y = linear_attention(q, k, v, feature=elu1, backend=NATIVE)
    expected = linear_attention(q.double(), k.double(), v.double(), feature=elu1)
    assert relative(y, expected) < 1e-2  # features are rounded too


@compiled
@pytest.mark.parametrize("weighted", [True, False])
def test_threads_share_heads_and_tokens(monkeypatch, weighted):
    inputs = [tokens(2, 1000, 32, seed=i).bfloat16().requires_grad_() for i in range(3)]
    ybar = tokens(2, 1000, 32, seed=3).bfloat16()
    weight = tokens(1000, seed=4).exp().float().requires_grad_() if weighted else None
    over = [*inputs, weight] if weighted else inputs

    def run():
        y = linear_attention(*inputs, weight=weight, backend=NATIVE)
        return [y, *torch.autograd.grad(y, over, ybar)]

    alone = run()
    monkeypatch.setattr("stormda.attention.native.SHARE", 150)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)  # six shares of eight blocks
    for x, expected in zip(run(), alone, strict=True):
        assert relative(x, expected.double()) < 2e-3  # another order of sums, other roundings


@compiled
@pytest.mark.skipif(
    sys.platform != "linux" or not torch.backends.openmp.is_available(),
    reason="the threads of PyTorch are found on Linux, where it was built with OpenMP",
)
def test_threads_of_pytorch_and_own_ones_give_the_same(monkeypatch):
    library, team = native.build(), native.team()
    assert team is not None
    inputs = [tokens(2, 1000, 32, seed=i).bfloat16().requires_grad_() for i in range(3)]
    ybar = tokens(2, 1000, 32, seed=3).bfloat16()
    monkeypatch.setattr("stormda.attention.native.SHARE", 150)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)

    def run(threads):
        library.stormda_use_team(threads)
        y = linear_attention(*inputs, backend=NATIVE)
        return [y, *torch.autograd.grad(y, inputs, ybar)]

    try:
        own = run(None)
    finally:
        library.stormda_use_team(team)
    assert all(torch.equal(x, y) for x, y in zip(own, run(team), strict=True))


def test_without_a_runtime_of_openmp_there_is_no_team(monkeypatch):
    monkeypatch.setattr(native, "OPENMP", re.compile("no such library"))
    assert native.team() is None


@compiled
def test_what_is_masked_is_as_good_as_left_out_with_native():
    q, k, v = (tokens(2, 333, 64, seed=i).bfloat16() for i in range(3))
    counts = torch.arange(333) % 3 > 0
    alone = linear_attention(q, k[:, counts], v[:, counts], backend=NATIVE)
    k[:, ~counts], v[:, ~counts] = 1e6, -1e6
    k.requires_grad_()
    v.requires_grad_()
    y = linear_attention(q, k, v, mask=counts, backend=NATIVE)
    assert relative(y, alone.double()) < 2e-3  # other tokens meet in a block
    for gradient in torch.autograd.grad(y.square().sum(), (k, v)):
        assert gradient[:, ~counts].abs().max() == 0


BUILDS = {
    "portable": [flag for flag in native.FLAGS if flag != "-march=native"],
    "AVX-512": [*native.FLAGS, "-mno-amx-bf16"],
    "AMX": [*native.FLAGS, "-mamx-tile", "-mamx-bf16"],
}
"""Flags for every kind of products; a machine without them runs the next best."""


@pytest.fixture
def build(monkeypatch):
    def of(kind):
        monkeypatch.setattr(native, "FLAGS", tuple(BUILDS[kind]))
        native._library.cache_clear()
        return native.build().stormda_kind()

    yield of
    native._library.cache_clear()


def small_differences(kind, n=4096, d=64):
    q, k, v, ybar = (tokens(1, n, d, seed=i) for i in range(4))
    trend = torch.linspace(0, 1, n, dtype=torch.float64)[:, None]
    return {
        "features that hardly vary": (3 + q / 20, 3 + k / 20, v, ybar),
        "queries of any length": ((3 + q / 20) * q[..., :1].exp(), 3 + k / 20, v, ybar),
        "a trend": (q + 3 * trend, k + 3 * trend, v + 5 * trend, ybar),
        "gradients that hardly vary": (q, k, v, 1 + ybar / 10),
        "values far from zero": (q, k, 30 + v, ybar),
    }[kind]


@compiled
@pytest.mark.parametrize(
    "kind",
    [
        "features that hardly vary",
        "queries of any length",
        "a trend",
        "gradients that hardly vary",
        "values far from zero",
    ],
)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of another processor")
@pytest.mark.parametrize("products", ["AVX-512", "AMX"])
def test_small_differences_of_large_sums_survive_the_rounding_of_the_state(build, kind, products):
    build(products)
    *inputs, ybar = (x.bfloat16() for x in small_differences(kind))
    inputs = [x.requires_grad_() for x in inputs]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    y = linear_attention(*inputs, backend=NATIVE)
    expected = linear_attention(*exact, backend=PLAIN)
    assert relative(y, expected) < 3e-3
    got = torch.autograd.grad(y, inputs, ybar)
    bars = torch.autograd.grad(expected, exact, ybar.double())
    # A state that is just rounded gives errors of 0.1 and more.
    assert max(map(relative, got, bars)) < 6e-3


@compiled
@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of another processor")
@pytest.mark.parametrize("d", native.SIZES)
def test_all_builds_of_the_library_agree(build, d):
    inputs = [tokens(2, 333, d, seed=i).bfloat16().requires_grad_() for i in range(3)]
    weight = tokens(333, seed=3).exp().float().requires_grad_()
    found = []
    for kind, of in (("portable", {0}), ("AVX-512", {0, 1}), ("AMX", {0, 1, 2})):
        assert build(kind) in of
        y = linear_attention(*inputs, weight=weight, backend=NATIVE)
        found.append((y, *torch.autograd.grad(y, [*inputs, weight], torch.ones_like(y))))
    for other in found[1:]:
        for x, y in zip(other, found[0], strict=True):
            assert relative(x, y.double()) < 6e-3


@compiled
def test_native_refuses_what_it_is_not_made_for():
    q, k, v = (tokens(2, 9, 32, seed=i) for i in range(3))
    with pytest.raises(
        ValueError,
        match=r"^k: expected torch\.bfloat16 on cpu with d one of \(32, 64, 128\), got "
        r"torch\.float64 on cpu of shape \(2, 9, 32\)$",
    ):
        linear_attention(q, k, v, backend=NATIVE)
    q, k, v = (x.bfloat16() for x in (q[..., :8], k[..., :8], v[..., :8]))
    with pytest.raises(ValueError, match=r"^k: expected .* got torch\.bfloat16 on cpu of shape"):
        linear_attention(q, k, v, backend=NATIVE)


def test_the_choice_of_a_backend(monkeypatch):
    def name(n, dtype=torch.float32, d=64):
        q = torch.zeros(1, 2, n, d, dtype=dtype)
        return suited(q, q, q).name

    monkeypatch.setattr(native, "loaded", lambda: False)
    assert [name(100), name(4096), name(4096, torch.bfloat16)] == ["plain", "blocked", "blocked"]
    assert name(512, torch.bfloat16) == "plain"
    q = torch.zeros(2, 4096, 8)
    assert suited(q, q[:1], q[:1]).name == "plain"  # shapes to be broadcast
    assert suited(q.to("meta"), q.to("meta"), q.to("meta")).name == "plain"
    names = []
    torch.func.vmap(lambda x: names.append(suited(q + x, q, q).name) or x)(torch.ones(2))
    assert names == ["plain"]


@compiled
def test_the_native_backend_is_chosen_once_it_is_built():
    native.build()
    q = torch.zeros(1, 2, 4096, 64, dtype=torch.bfloat16)
    quick = native.status() != "ready, in portable loops"
    assert suited(q, q, q).name == ("native" if quick else "blocked")
    assert suited(*3 * [q[:, :, :128]]).name == ("native" if quick else "plain")
    assert suited(*3 * [q[:, :, :127]]).name == "plain"
    assert suited(q.float(), q.float(), q.float()).name == "blocked"


def test_the_report_names_every_backend():
    assert list(backend_report()) == ["plain", "blocked", "native", "fused"]


def test_without_a_compiler_the_report_and_the_error_say_so(monkeypatch):
    monkeypatch.setattr(native, "_compiler", lambda: None)
    native._library.cache_clear()
    assert backend_report()["native"] == "no C++ compiler"
    q = torch.zeros(1, 8, 32, dtype=torch.bfloat16)
    with pytest.raises(
        RuntimeError,
        match=r"^the native backend needs a C\+\+ compiler: install g\+\+ or clang\+\+$",
    ):
        linear_attention(q, q, q, backend=NATIVE)


def test_the_cache_is_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.cache_directory() == tmp_path / "stormda"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert native.cache_directory().name == "stormda"
