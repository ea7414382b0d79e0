import pytest
import torch

from stormda.attention import (
    HistoryKeys,
    HistoryProjection,
    StreamedHistory,
    TemporalCrossAttention,
    temporal_attention,
)

WIDTH, HEADS, FRAMES = 16, 2, 7


def randoms(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def trained(module, dtype=torch.float64):
    """A module whose weights are all different from where they start."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.to(dtype).parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return module


def held_and_streamed(project, past, later, chunk):
    """The same history twice, both followed by a frame that is held."""
    history = StreamedHistory(
        lambda some: project(past[:, some]), FRAMES, chunk, tuple(project.parameters())
    )
    return [
        h if later is None else h.followed_by(project(later)) for h in (project(past), history)
    ]


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
@pytest.mark.parametrize("followed", [False, True])
def test_streamed_is_held(chunk, followed):
    project, cross = (
        trained(m(WIDTH, HEADS)) for m in (HistoryProjection, TemporalCrossAttention)
    )
    past, x = randoms(2, FRAMES, 5, WIDTH), randoms(2, 5, WIDTH, seed=1).requires_grad_()
    later = randoms(2, 2, 5, WIDTH, seed=2).requires_grad_() if followed else None
    wanted = [*project.parameters(), *cross.parameters(), x, *([later] if followed else [])]
    found = []
    for history in held_and_streamed(project, past, later, chunk):
        y = cross(x, history)
        found.append([y, *torch.autograd.grad(y.sin().sum(), wanted)])
    for held, streamed in zip(*found, strict=True):
        torch.testing.assert_close(streamed, held, rtol=1e-12, atol=1e-12)


def test_queries_alone_may_want_a_gradient():
    project = trained(HistoryProjection(WIDTH, HEADS)).requires_grad_(False)
    past = randoms(1, FRAMES, 5, WIDTH)
    history = StreamedHistory(lambda some: project(past[:, some]), FRAMES, 2, ())
    q = randoms(1, HEADS, 5, WIDTH // HEADS, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(history.answer, q)


def test_logits_that_would_overflow():
    past = 100 * randoms(1, 1, FRAMES, 3, 4)
    history = StreamedHistory(
        lambda some: HistoryKeys(past[:, :, some], past[:, :, some]), FRAMES, 2, ()
    )
    q = 100 * randoms(1, 1, 3, 4, seed=1)
    torch.testing.assert_close(history.answer(q), temporal_attention(q, past, past))
    assert torch.isfinite(history.answer(q)).all()


def test_nothing_of_the_size_of_the_history_is_kept():
    """Autograd holds queries, answers and weights, however many frames there are."""
    project = trained(HistoryProjection(WIDTH, HEADS), torch.float32)

    def held_numbers(frames):
        past, total = randoms(1, frames, 5, WIDTH, dtype=torch.float32), 0
        history = StreamedHistory(
            lambda some: project(past[:, some]), frames, 4, tuple(project.parameters())
        )

        def note(x):
            nonlocal total
            total += x.numel()
            return x

        q = randoms(1, HEADS, 5, 8, seed=1, dtype=torch.float32).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            history.answer(q)
        return total

    assert held_numbers(8) == held_numbers(80) > 0


def test_autocast_is_that_of_the_pass_forward():
    project = trained(HistoryProjection(WIDTH, HEADS), torch.float32)
    past, kinds = randoms(1, FRAMES, 5, WIDTH, dtype=torch.float32), []

    def make(some):
        made = project(past[:, some])
        kinds.append(made.values.dtype)
        return made

    history = StreamedHistory(make, FRAMES, FRAMES, tuple(project.parameters()))
    q = randoms(1, HEADS, 5, 8, seed=1, dtype=torch.float32).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = history.answer(q)
    y.sum().backward()
    assert kinds == [torch.bfloat16, torch.bfloat16]
    assert y.dtype == q.grad.dtype == torch.float32


def test_second_derivatives_are_refused():
    project = trained(HistoryProjection(WIDTH, HEADS))
    past = randoms(1, FRAMES, 5, WIDTH)
    history = StreamedHistory(
        lambda some: project(past[:, some]), FRAMES, 2, tuple(project.parameters())
    )
    q = randoms(1, HEADS, 5, 8, seed=1).requires_grad_()
    y, dual = history.answer(q), randoms(1, HEADS, 5, 8, seed=2).requires_grad_()
    (once,) = torch.autograd.grad(y, q, dual, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        once.sum().backward()


@pytest.mark.parametrize("name", ["frames", "chunk"])
def test_bad_arguments(name):
    with pytest.raises(ValueError, match=f"^{name}: expected at least 1, got 0$"):
        StreamedHistory(lambda some: None, **({"frames": 1, "chunk": 1} | {name: 0}), weights=())
