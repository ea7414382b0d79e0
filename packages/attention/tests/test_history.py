import pytest
import torch

from stormda.attention import HistoryKeys, HistoryProjection, TemporalCrossAttention

WIDTH, HEADS = 16, 2


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def trained(module):
    """A module whose weights are all different from where they start."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.double().parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return module


def test_keys_are_normalised_and_values_are_not():
    history = HistoryProjection(WIDTH, HEADS).double()(tokens(2, 3, 5, WIDTH))
    assert history.keys.shape == history.values.shape == (2, HEADS, 3, 5, WIDTH // HEADS)
    # The constant of the norm, beside a mean square of about 0.3.
    size = history.keys.square().mean(-1)
    torch.testing.assert_close(size, torch.ones_like(size), rtol=1e-4, atol=0)
    assert history.values.square().mean(-1).std() > 0.01


def test_starts_at_zero():
    history = HistoryProjection(WIDTH, HEADS)(torch.ones(2, 3, 5, WIDTH))
    y = TemporalCrossAttention(WIDTH, HEADS)(torch.ones(2, 5, WIDTH), history)
    assert y.shape == (2, 5, WIDTH)
    assert y.abs().max() == 0


def test_each_location_reads_its_own_past():
    project, cross = (
        trained(m(WIDTH, HEADS)) for m in (HistoryProjection, TemporalCrossAttention)
    )
    past, x = tokens(2, 3, 5, WIDTH).requires_grad_(), tokens(2, 5, WIDTH, seed=1)
    y = cross(x, project(past))
    gradient = torch.autograd.grad(y[:, 2].sum(), past)[0].abs().amax((0, 1, 3))
    assert (gradient > 0).tolist() == [False, False, True, False, False]


def test_the_order_of_frames_is_left_to_their_embedding():
    project, cross = (
        trained(m(WIDTH, HEADS)) for m in (HistoryProjection, TemporalCrossAttention)
    )
    past, x = tokens(2, 3, 5, WIDTH), tokens(2, 5, WIDTH, seed=1)
    torch.testing.assert_close(cross(x, project(past.flip(1))), cross(x, project(past)))


def test_a_frame_seen_once_is_passed_on():
    cross, values = trained(TemporalCrossAttention(WIDTH, HEADS)), tokens(2, HEADS, 1, 5, 8)
    y = cross(tokens(2, 5, WIDTH, seed=1), HistoryKeys(tokens(2, HEADS, 1, 5, 8, seed=2), values))
    torch.testing.assert_close(y, cross.out(values[:, :, 0].transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("module", [HistoryProjection, TemporalCrossAttention])
def test_errors(module):
    with pytest.raises(
        ValueError, match=r"^heads: expected a positive divisor of width=16, got 0$"
    ):
        module(16, 0)
