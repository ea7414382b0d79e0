import pytest
import torch
from einops import rearrange

from stormda.attention import (
    FullAttention,
    GlobalLinearAttention,
    LatentAttention,
    LocalMixing,
    TileAttention,
    TileLinearAttention,
)

SHAPE, WIDTH, HEADS = (4, 6), 16, 2

MIXERS = {
    "linear": lambda: GlobalLinearAttention(WIDTH, HEADS),
    "tile": lambda: TileAttention(WIDTH, HEADS, tile=(2, 3), halo=(1, 1)),
    "tile+linear": lambda: TileLinearAttention(WIDTH, HEADS, tile=(2, 3), halo=(1, 1)),
    "latent": lambda: LatentAttention(WIDTH, HEADS, latents=5),
    "full": lambda: FullAttention(WIDTH, HEADS),
    "local": lambda: LocalMixing(WIDTH),
}
each = pytest.mark.parametrize("name", MIXERS)


def trained(name):
    """A mixer whose weights are all different from where they start."""
    generator, mixer = torch.Generator().manual_seed(0), MIXERS[name]().double()
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return mixer


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@each
def test_starts_at_zero(name):
    y = MIXERS[name]()(tokens(2, 24, WIDTH).float(), shape=SHAPE)
    assert y.shape == (2, 24, WIDTH)
    assert y.abs().max() == 0


@each
def test_a_field_rolled_in_longitude_gives_the_rolled_answer(name):
    def roll(x):  # by a tile
        return rearrange(x, "b (y x) d -> b y x d", y=4).roll(3, -2).flatten(1, 2)

    mixer, x = trained(name), tokens(2, 24, WIDTH)
    rolled = mixer(roll(x), shape=SHAPE)
    torch.testing.assert_close(rolled, roll(mixer(x, shape=SHAPE)), rtol=1e-12, atol=1e-12)


@each
def test_reach(name):
    """Far tokens hear of each other through global mixers, and through no other."""
    mixer, x = trained(name), tokens(1, 24, WIDTH).requires_grad_()
    y = mixer(x, shape=SHAPE)
    gradient = torch.autograd.grad(y[0, 0].sum(), x)[0].reshape(*SHAPE, WIDTH)
    assert (gradient[3, 3].abs().max() > 0) == (name not in ("tile", "local"))
    assert gradient[1, 5].abs().max() > 0  # over the seam


@pytest.mark.parametrize("name", [name for name in MIXERS if name != "local"])
def test_weights_reach_the_attention(name):
    mixer, x = trained(name), tokens(2, 24, WIDTH)
    weight = tokens(24, seed=1).exp()
    alike = mixer(x, shape=SHAPE)
    torch.testing.assert_close(mixer(x, shape=SHAPE, weight=torch.ones(24).double()), alike)
    assert (mixer(x, shape=SHAPE, weight=weight) - alike).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["linear", "tile+linear", "latent"])
def test_the_sums_of_two_halves_are_those_of_the_whole(name):
    mixer, x, weight = trained(name), tokens(2, 24, WIDTH), tokens(24, seed=1).exp()
    first, second = (
        mixer.summarize(x[:, part], weight=weight[part]) for part in (slice(10), slice(10, 24))
    )
    y = mixer(x, shape=SHAPE, weight=weight, state=first + second)
    torch.testing.assert_close(y, mixer(x, shape=SHAPE, weight=weight), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["tile", "full", "local"])
def test_mixers_without_sums_say_so(name):
    assert trained(name).summarize(tokens(2, 24, WIDTH)) is None


@each
def test_input_gradients_with_frozen_weights(name):
    mixer = trained(name).requires_grad_(False)
    x = tokens(1, 6, WIDTH).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mixer(x, shape=(2, 3)), x, fast_mode=True)


@pytest.mark.parametrize("mixer", [GlobalLinearAttention, FullAttention])
def test_errors(mixer):
    with pytest.raises(
        ValueError, match=r"^heads: expected a positive divisor of width=16, got 3$"
    ):
        mixer(16, 3)
