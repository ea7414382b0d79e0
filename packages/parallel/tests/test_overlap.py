"""The interior is computed, and differentiated, while the halo travels."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stormda.parallel import Domain, SelfComm, halo, halo_plan, with_halo


class Logged(SelfComm):
    """Writes down when parts leave and when they are waited for."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def start_all_to_all(
        self, x: Tensor, *, sent: Sequence[int], received: Sequence[int]
    ) -> Callable[[], Tensor]:
        finish = super().start_all_to_all(x, sent=sent, received=received)
        self.events.append("start")

        def finish_and_say() -> Tensor:
            self.events.append("finish")
            return finish()

        return finish_and_say


def test_the_interior_is_between_start_and_finish_both_ways() -> None:
    events: list[str] = []
    plan = halo_plan(Domain.globe((9, 12), ranks=(1, 1)), 0, (1, 2))
    x = torch.randn(1, 9, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    kernel = torch.ones(1, 1, 3, 5, dtype=torch.float64)

    def stencil(x: Tensor) -> Tensor:
        y = torch.nn.functional.conv2d(x, kernel)
        name = "interior" if tuple(x.shape) == (1, 9, 12) else "edge"
        events.append(name)
        y.register_hook(lambda gradient: events.append(f"{name} back"))
        return y

    y = with_halo(stencil, x, plan, Logged(events))
    assert events == ["start", "interior", "finish", *["edge"] * 4]
    events.clear()
    (gradient,) = torch.autograd.grad(y.sin().sum(), x)
    assert events == [*["edge back"] * 4, "start", "interior back", "finish"]
    plain = torch.nn.functional.conv2d(halo(x, plan, SelfComm()), kernel)
    torch.testing.assert_close(y, plain)
    (expected,) = torch.autograd.grad(plain.sin().sum(), x)
    torch.testing.assert_close(gradient, expected)
