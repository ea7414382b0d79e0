import threading

import pytest
import torch

from stormda.attention import LinearState, linear_attention, relu, streamed

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


class Layer(torch.nn.Module):
    """Linear attention, a window of three tokens, and a scale that all tokens share."""

    def __init__(self, *, near=True):
        super().__init__()
        self.near = near
        self.qkv = torch.nn.Linear(8, 24)
        self.out = torch.nn.Linear(8, 8)
        self.double()
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, std=0.5, generator=generator)

    def heads(self, x):
        return self.qkv(x).unflatten(-1, (3, 2, 4)).movedim(-3, 0).movedim(-2, -3)

    def summarize(self, tokens, shared):
        _, k, v = self.heads(tokens[0])
        return LinearState.from_tokens(relu(k), v, weight=tokens[1].squeeze(-1)).pack()

    def answer(self, tokens, shared, total, core):
        x = tokens[0]
        q, _, v = self.heads(x)
        far = LinearState.unpack(total, d=4, e=4).apply(relu(q))
        near = v.roll(1, -2) + v.roll(-1, -2) if self.near else 0
        mixed = (far + near).transpose(-3, -2).flatten(-2)
        return (x + self.out(mixed * shared[0]))[..., core, :]

    def plain(self, x, weight, scale):
        q, k, v = self.heads(x)
        far = linear_attention(q, k, v, weight=weight.squeeze(-1))
        near = v.roll(1, -2) + v.roll(-1, -2)
        return x + self.out((far + near).transpose(-3, -2).flatten(-2) * scale)


def inputs(n=11):
    x, weight = tokens(2, n, 8).requires_grad_(), tokens(n, 1, seed=1).exp().requires_grad_()
    return x, weight, tokens(8, seed=2).requires_grad_()


@pytest.mark.parametrize("chunk", [1, 3, 4, 11, 50])
def test_equals_the_layer_in_values_and_all_gradients(chunk):
    layer = Layer()
    x, weight, scale = inputs()
    wanted, ybar = (x, weight, scale, *layer.parameters()), tokens(2, 11, 8, seed=3)
    expected = layer.plain(x, weight, scale)
    y = streamed(layer, chunk=chunk, halo=1, ring=True)(x, weight, shared=(scale,))
    torch.testing.assert_close(y, expected, **EXACT)
    torch.testing.assert_close(
        torch.autograd.grad(y, wanted, ybar),
        torch.autograd.grad(expected, wanted, ybar),
        **EXACT,
    )


def test_without_a_ring_the_halo_ends_where_the_sequence_ends():
    seen = []

    class Ends(Layer):
        def answer(self, tokens, shared, total, core):
            seen.append((tokens[0].shape[-2], core.start, core.stop))
            return super().answer(tokens, shared, total, core)

    x, weight, scale = inputs()
    streamed(Ends(), chunk=4, halo=2)(x, weight, shared=(scale,))
    assert seen == [(6, 0, 4), (8, 2, 6), (5, 2, 5)]


def test_gradcheck():
    layer, (x, weight, scale) = Layer(), inputs(n=5)
    function = streamed(layer, chunk=2, halo=1, ring=True)
    assert torch.autograd.gradcheck(
        lambda x, weight, scale: function(x, weight, shared=(scale,)),
        (x, weight, scale),
        fast_mode=True,
    )


def test_what_is_frozen_gets_no_gradient():
    layer, (x, weight, scale) = Layer(), inputs()
    layer.out.requires_grad_(False)
    function = streamed(layer, chunk=4, halo=1, ring=True)
    function(x.detach(), weight, shared=(scale.detach(),)).sum().backward()
    assert layer.out.weight.grad is None
    assert weight.grad.abs().max() > 0
    assert layer.qkv.weight.grad.abs().max() > 0


def test_is_differentiable_once():
    layer, (x, weight, scale) = Layer(), inputs()
    y = streamed(layer, chunk=4, halo=1, ring=True)(x, weight, shared=(scale,))
    (bar,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        bar.sum().backward()


def test_autocast_holds_in_the_backward_pass_too():
    layer = Layer().float()
    x, weight, scale = (z.detach().float() for z in inputs())
    x.requires_grad_()
    ybar = tokens(2, 11, 8, seed=3).float()
    function = streamed(layer, chunk=4, halo=1, ring=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = function(x, weight, shared=(scale,))
    (got,) = torch.autograd.grad(y, x, ybar)
    with torch.autocast("cpu", torch.bfloat16):
        whole = streamed(layer, chunk=11, halo=1, ring=True)(x, weight, shared=(scale,))
        (expected,) = torch.autograd.grad(whole, x, ybar)
    # Both round to bfloat16, token by token; only the sums differ, by their order.
    torch.testing.assert_close(got, expected, rtol=0.02, atol=0.02)


class Ranks:
    """Two threads that add what each of them brings: the ranks of a process group."""

    def __init__(self):
        self.barrier = threading.Barrier(2)
        self.brought = {}

    def sum(self, x):
        self.brought[threading.get_ident()] = x.detach().clone()
        self.barrier.wait(timeout=300)
        total = sum(self.brought.values())
        self.barrier.wait(timeout=300)
        return total


def test_unequal_shards_equal_the_whole():
    x, weight, scale = inputs()
    whole, ybar = Layer(near=False), tokens(2, 11, 8, seed=3)
    expected = streamed(whole, chunk=4)(x, weight, shared=(scale,))
    bars = torch.autograd.grad(expected, (x, weight, scale, *whole.parameters()), ybar)
    ranks, found = Ranks(), {}

    def run(part):
        layer, common = Layer(near=False), scale.detach().requires_grad_()
        mine = x[:, part].detach().requires_grad_(), weight[part].detach().requires_grad_()
        y = streamed(layer, chunk=2, reduce=ranks.sum)(*mine, shared=(common,))
        wanted = (*mine, common, *layer.parameters())
        found[part.start] = y, torch.autograd.grad(y, wanted, ybar[:, part])

    threads = [threading.Thread(target=run, args=(part,)) for part in (slice(0, 3), slice(3, 11))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (y0, (x0, w0, *rest0)), (y1, (x1, w1, *rest1)) = found[0], found[3]
    torch.testing.assert_close(torch.cat([y0, y1], 1), expected, **EXACT)
    torch.testing.assert_close(torch.cat([x0, x1], 1), bars[0], **EXACT)
    torch.testing.assert_close(torch.cat([w0, w1]), bars[1], **EXACT)
    summed = tuple(a + b for a, b in zip(rest0, rest1, strict=True))
    torch.testing.assert_close(summed, bars[2:], **EXACT)


def test_sequences_larger_than_memory_are_read_and_written_by_slices(tmp_path):
    numpy = pytest.importorskip("numpy")

    def mapped(name, values):
        array = numpy.lib.format.open_memmap(
            tmp_path / name, mode="w+", dtype="f8", shape=tuple(values.shape)
        )
        array[:] = values.detach().numpy()
        array.flush()
        mode = "r" if name.startswith("in") else "r+"
        return numpy.lib.format.open_memmap(tmp_path / name, mode=mode)

    layer, (x, weight, scale) = Layer(), inputs()
    ybar = tokens(2, 11, 8, seed=3)
    expected = layer.plain(x, weight, scale)
    bars = torch.autograd.grad(expected, (x, scale, *layer.parameters()), ybar)
    function = streamed(layer, chunk=4, halo=1, ring=True)
    sources = mapped("in_x.npy", x), mapped("in_w.npy", weight)
    y, xbar = mapped("y.npy", 0 * x), mapped("xbar.npy", 0 * x)
    total = function.sum(*sources, shared=(scale,))
    function.answer(*sources, out=y, total=total, shared=(scale,))
    torch.testing.assert_close(torch.tensor(y), expected, **EXACT)
    rest = function.gradients(
        *sources, ybar=mapped("in_b.npy", ybar), total=total, out=(xbar, None), shared=(scale,)
    )
    torch.testing.assert_close(torch.tensor(xbar), bars[0], **EXACT)
    torch.testing.assert_close(tuple(rest), bars[1:], **EXACT)


def test_errors():
    layer, (x, weight, scale) = Layer(), inputs()
    with pytest.raises(ValueError, match=r"^chunk: expected at least 1, got 0$"):
        streamed(layer, chunk=0)
    with pytest.raises(ValueError, match=r"^halo: expected at least 0, got -1$"):
        streamed(layer, chunk=1, halo=-1)
    with pytest.raises(
        ValueError,
        match=r"^tokens: expected \(\.\.\., n, \*\) with one n, got \[\(2, 11, 8\), \(4, 1\)\]$",
    ):
        streamed(layer, chunk=4)(x, weight[:4], shared=(scale,))
    with pytest.raises(ValueError, match=r"^tokens: expected at least halo=12, got 11$"):
        streamed(layer, chunk=4, halo=12)(x, weight, shared=(scale,))
    with pytest.raises(ValueError, match=r"^tokens: expected at least 1, got 0$"):
        streamed(layer, chunk=4)(x[:, :0], weight[:0], shared=(scale,))
