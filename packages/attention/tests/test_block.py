from dataclasses import replace

import pytest
import torch
from einops import rearrange

from stormda.attention import (
    MIXERS,
    BlockConfig,
    HistoryProjection,
    SharedModulation,
    StormBlock,
    noise_embedding,
)

SHAPE, WIDTH = (4, 6), 16
CONFIG = BlockConfig(width=WIDTH, heads=2, tile=(2, 3), halo=(1, 1))
each = pytest.mark.parametrize("mixer", MIXERS)


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def trained(module):
    """A module whose weights are all different from where they start."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.double().parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return module


def inputs(log_sigma, frames=3):
    """Condition, modulation and history."""
    condition = noise_embedding(log_sigma.double(), WIDTH)
    modulation = trained(SharedModulation(WIDTH))(condition)
    past = tokens(2, frames, 24, WIDTH, seed=1)
    return condition, modulation, trained(HistoryProjection(WIDTH, 2))(past)


@each
@pytest.mark.parametrize("temporal", [True, False])
@pytest.mark.parametrize("gate", [True, False])
def test_a_new_block_is_the_identity(mixer, temporal, gate):
    config = replace(CONFIG, mixer=mixer, temporal=temporal, noise_gate=gate)
    block = StormBlock(config).double()
    x, (condition, modulation, history) = tokens(2, 24, WIDTH), inputs(torch.zeros(2))
    y = block(x, condition, modulation, shape=SHAPE, history=history)
    torch.testing.assert_close(y, x, rtol=0, atol=0)


@each
def test_every_weight_learns(mixer):
    block = trained(StormBlock(replace(CONFIG, mixer=mixer)))
    condition, modulation, history = inputs(torch.tensor([-1.0, 2.0]))
    y = block(tokens(2, 24, WIDTH), condition, modulation, shape=SHAPE, history=history)
    y.square().sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@each
def test_a_field_rolled_in_longitude_gives_the_rolled_answer(mixer):
    def roll(x):  # by a tile
        return rearrange(x, "... (y x) d -> ... y x d", y=4).roll(3, -2).flatten(-3, -2)

    block, x = trained(StormBlock(replace(CONFIG, mixer=mixer))), tokens(2, 24, WIDTH)
    condition, modulation, history = inputs(torch.tensor([-1.0, 2.0]))
    rolled = replace(history, keys=roll(history.keys), values=roll(history.values))
    y = block(x, condition, modulation, shape=SHAPE, history=history)
    of_rolled = block(roll(x), condition, modulation, shape=SHAPE, history=rolled)
    torch.testing.assert_close(of_rolled, roll(y), rtol=1e-12, atol=1e-12)


def test_samples_do_not_see_each_other_and_may_share_a_level():
    block, x = trained(StormBlock(CONFIG)), tokens(2, 24, WIDTH)
    both = inputs(torch.tensor([0.7, 0.7]))
    condition, modulation, history = both
    y = block(x, condition, modulation, shape=SHAPE, history=history)
    shared = block(x, condition[:1], modulation[:1], shape=SHAPE, history=history)
    torch.testing.assert_close(shared, y, rtol=1e-12, atol=1e-12)
    first = replace(history, keys=history.keys[:1], values=history.values[:1])
    alone = block(x[:1], condition[:1], modulation[:1], shape=SHAPE, history=first)
    torch.testing.assert_close(alone, y[:1], rtol=1e-12, atol=1e-12)


def test_the_gates_weigh_space_against_time():
    block, x = trained(StormBlock(CONFIG)), tokens(2, 24, WIDTH)
    condition, modulation, history = inputs(torch.zeros(2))
    other = replace(history, values=-history.values)

    def influence(bias):
        torch.nn.init.constant_(block.cross_gate.linear.bias, bias)
        y, z = (block(x, condition, modulation, shape=SHAPE, history=h) for h in (history, other))
        return (y - z).abs().max()

    assert influence(-100.0) == 0
    assert influence(100.0) > 0.1


def test_without_gates_a_block_is_one_whose_gates_are_open():
    gated, plain = trained(StormBlock(CONFIG)), StormBlock(replace(CONFIG, noise_gate=False))
    for gate in (gated.mix_gate, gated.cross_gate):
        torch.nn.init.zeros_(gate.linear.weight)
        torch.nn.init.constant_(gate.linear.bias, 100.0)
    plain.double().load_state_dict(
        {name: w for name, w in gated.state_dict().items() if "_gate." not in name}
    )
    x, (condition, modulation, history) = tokens(2, 24, WIDTH), inputs(torch.tensor([-1.0, 2.0]))
    y, z = (b(x, condition, modulation, shape=SHAPE, history=history) for b in (gated, plain))
    torch.testing.assert_close(y, z, rtol=1e-12, atol=1e-12)


@each
def test_input_gradients_with_frozen_weights(mixer):
    block = trained(StormBlock(replace(CONFIG, mixer=mixer))).requires_grad_(False)
    condition, modulation, history = inputs(torch.tensor([-1.0, 2.0]))

    def forward(x):
        return block(x, condition, modulation, shape=SHAPE, history=history)

    x = tokens(2, 24, WIDTH).requires_grad_()
    assert torch.autograd.gradcheck(forward, x, fast_mode=True)
    y, pull = torch.func.vjp(forward, x)
    ybar = tokens(*y.shape, seed=3)
    expected = torch.autograd.grad(forward(x), x, ybar)[0]
    torch.testing.assert_close(pull(ybar)[0], expected, rtol=1e-12, atol=1e-12)


@each
def test_autocast_keeps_the_residual_in_float32_and_the_answer_close(mixer):
    block = trained(StormBlock(replace(CONFIG, mixer=mixer))).float()
    condition, modulation, history = inputs(torch.tensor([-1.0, 2.0]))
    x, condition, modulation = tokens(2, 24, WIDTH).float(), condition.float(), modulation.float()
    history = replace(history, keys=history.keys.float(), values=history.values.float())
    exact = block(x, condition, modulation, shape=SHAPE, history=history)
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x, condition, modulation, shape=SHAPE, history=history)
    assert y.dtype == torch.float32
    # A few roundings of bfloat16, 2^-8 each, over several matrix products.
    torch.testing.assert_close(y, exact, rtol=0, atol=0.05 * exact.abs().max().item())


@each
def test_traces_to_one_graph(mixer):
    torch.compiler.reset()
    block = trained(StormBlock(replace(CONFIG, mixer=mixer)))
    with torch.no_grad():
        condition, modulation, history = inputs(torch.tensor([-1.0, 2.0]))
    x = tokens(2, 24, WIDTH)
    compiled = torch.compile(block, backend="eager", fullgraph=True)
    y = compiled(x, condition, modulation, shape=SHAPE, history=history)
    expected = block(x, condition, modulation, shape=SHAPE, history=history)
    torch.testing.assert_close(y, expected)


def test_errors():
    condition, modulation, _ = inputs(torch.zeros(2))
    with pytest.raises(
        ValueError, match=r"^history: expected a history as temporal=True, got None$"
    ):
        StormBlock(CONFIG).double()(tokens(2, 24, WIDTH), condition, modulation, shape=SHAPE)
    for field, value, message in [
        ("width", 0, r"^width: expected at least 1, got 0$"),
        ("heads", 3, r"^heads: expected a positive divisor of width=16, got 3$"),
        (
            "mixer",
            "fft",
            r"^mixer: expected one of linear, tile, tile\+linear, latent, full, none, "
            r"got fft$",
        ),
        ("mlp_ratio", 0.0, r"^mlp_ratio: expected a positive number, got 0\.0$"),
        ("tile", (0, 8), r"^tile: expected \(rows, columns\) of at least 1, got \(0, 8\)$"),
        ("latents", 0, r"^latents: expected at least 1, got 0$"),
        ("halo", (2,), r"^halo: expected \(rows, columns\) of at least 0, got \(2,\)$"),
    ]:
        with pytest.raises(ValueError, match=message):
            replace(CONFIG, **{field: value})
