from dataclasses import replace

import pytest
import torch

from stormda.attention import (
    BlockConfig,
    HistoryKeys,
    SharedModulation,
    StormBlock,
    StreamedBlock,
    noise_embedding,
)

SHAPE, WIDTH = (6, 4), 16
CONFIG = BlockConfig(width=WIDTH, heads=2, tile=(2, 3), halo=(1, 1), latents=5)
EXACT = {"rtol": 1e-12, "atol": 1e-12}
each = pytest.mark.parametrize("mixer", ["linear", "latent", "tile", "tile+linear", "none"])


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def trained(module):
    """A module whose weights are all different from where they start."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.double().parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return module


def case(config):
    """A block and the tensors it takes, all of which want a gradient."""
    condition = noise_embedding(torch.tensor([-1.0, 2.0]).double(), WIDTH)
    modulation = trained(SharedModulation(WIDTH))(condition).detach()
    keys, values = tokens(2, 2, 2, 3, 24, 8, seed=1)
    weight = tokens(24, seed=2).exp()
    inputs = [tokens(2, 24, WIDTH), condition, modulation, keys, values, weight]
    return trained(StormBlock(config)), [x.requires_grad_() for x in inputs]


def run(block, inputs):
    x, condition, modulation, keys, values, weight = inputs
    history = HistoryKeys(keys, values)
    return block(x, condition, modulation, shape=SHAPE, history=history, weight=weight)


@each
@pytest.mark.parametrize("periodic", [(False, True), (True, True)])
@pytest.mark.parametrize("rows", [2, 4, 6])
def test_equals_the_block_in_values_and_all_gradients(mixer, periodic, rows):
    block, inputs = case(replace(CONFIG, mixer=mixer, periodic=periodic))
    wanted, ybar = (*inputs, *block.parameters()), tokens(2, 24, WIDTH, seed=3)
    expected = run(block, inputs)
    y = run(StreamedBlock(block, rows=rows), inputs)
    torch.testing.assert_close(y, expected, **EXACT)
    torch.testing.assert_close(
        torch.autograd.grad(y, wanted, ybar, allow_unused=True, materialize_grads=True),
        torch.autograd.grad(expected, wanted, ybar, allow_unused=True, materialize_grads=True),
        **EXACT,
    )


def test_rows_around_poles():
    block, inputs = case(replace(CONFIG, poles=True))
    y = run(StreamedBlock(block, rows=1), inputs)
    torch.testing.assert_close(y, run(block, inputs), **EXACT)


def test_without_history_and_weights():
    block, (x, condition, modulation, *_) = case(replace(CONFIG, temporal=False))
    y = StreamedBlock(block, rows=4)(x, condition, modulation, shape=SHAPE)
    torch.testing.assert_close(y, block(x, condition, modulation, shape=SHAPE), **EXACT)


def test_autograd_keeps_the_tokens_and_the_sums_alone():
    block, inputs = case(replace(CONFIG, temporal=False))
    block.requires_grad_(False)
    x, condition, modulation = (z.detach() for z in inputs[:3])
    kept = []

    def pack(t):
        kept.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        StreamedBlock(block, rows=2)(x.requires_grad_(), condition, modulation, shape=SHAPE)
    sums = 2 * 2 * (8 * 8 + 8 + 8 + 1)
    weights = sum(p.numel() for p in block.parameters())
    assert sum(kept) == x.numel() + condition.numel() + modulation.numel() + sums + weights


def test_errors():
    with pytest.raises(
        ValueError, match=r"^block: expected a mixer that sums or is local, got full$"
    ):
        StreamedBlock(StormBlock(replace(CONFIG, mixer="full")), rows=1)
    with pytest.raises(ValueError, match=r"^rows: expected a positive multiple of 2, got 3$"):
        StreamedBlock(StormBlock(replace(CONFIG, mixer="tile")), rows=3)
    on_a_ring = replace(CONFIG, mixer="tile", tile=(4, 3), periodic=(True, True))
    block, inputs = case(on_a_ring)
    with pytest.raises(
        ValueError, match=r"^shape: expected a multiple of 4 rows on a ring, got 6$"
    ):
        run(StreamedBlock(block, rows=4), inputs)
