"""Plans: every ghost from its owner, every send from its receiver's wish; and what is refused."""

import re

import pytest
import torch
from field_twin import window_index

from stormda.parallel import Border, Domain, SelfComm, halo, halo_messages, halo_plan, overlap_add

CASES = [
    (Domain.globe((9, 14), (3, 2)), (1, 2)),
    (Domain.globe((8, 10), (2, 5)), (3, 9)),
    (Domain.globe((7, 12), (7, 1)), (6, 0)),
    (Domain.globe((6, 12), (1, 12), pole=Border.POLE_ROW), (2, 5)),
    (Domain.region((5, 9), (2, 3)), (2, 3)),
    (Domain.region((5, 9), (5, 2), border=Border.NEAREST), (4, 8)),
    (Domain.region((5, 9), (2, 4), border=Border.WRAP), (4, 8)),
    (
        Domain(rows=(4, 1, 2), columns=(3, 5), north=Border.POLE_EDGE, sides=Border.WRAP),
        (3, 2),
    ),
]


@pytest.mark.parametrize(("domain", "width"), CASES)
def test_every_ghost_comes_from_the_cell_of_the_twin(
    domain: Domain, width: tuple[int, int]
) -> None:
    cells = torch.arange(domain.shape[0] * domain.shape[1]).view(domain.shape)
    for rank in range(domain.ranks[0] * domain.ranks[1]):
        plan = halo_plan(domain, rank, width)
        index, crossed = window_index(domain, rank, width)
        window = torch.full_like(index.flatten(), -1)
        window[plan.own] = cells[domain.box(rank)].flatten()
        for place, owner, cell in zip(*plan.ghosts[:3], strict=True):
            window[place] = cells[domain.box(int(owner))].flatten()[cell]
        assert torch.equal(window.view(plan.window), index)
        assert torch.equal(plan.ghosts.crossed, crossed.flatten()[plan.ghosts.window])


@pytest.mark.parametrize(("domain", "width"), CASES)
def test_every_rank_sends_what_the_others_expect(domain: Domain, width: tuple[int, int]) -> None:
    """Send lists agree with receive lists of all ranks, and both with the count of messages."""
    ranks = domain.ranks[0] * domain.ranks[1]
    plans = [halo_plan(domain, rank, width) for rank in range(ranks)]
    expected = torch.tensor([plan.received for plan in plans])
    assert torch.equal(torch.tensor([plan.sent for plan in plans]), expected.T)
    for s, sender in enumerate(plans):
        parts = sender.leaving.split(list(sender.sent))
        crossings = sender.leaving_crossed.split(list(sender.sent))
        for r, receiver in enumerate(plans):
            mine = receiver.ghosts.owner == s
            assert torch.equal(parts[r], receiver.ghosts.cell[mine])
            assert torch.equal(crossings[r], receiver.ghosts.crossed[mine])
    counted = torch.zeros(ranks, ranks, dtype=torch.int64)
    sender, receiver, cells = halo_messages(domain, width)
    counted[receiver, sender] = cells
    assert torch.equal(counted, expected.fill_diagonal_(0))


def test_vectors_turn_over_a_pole_and_scalars_do_not() -> None:
    """A flow over the pole along one meridian is northward before and southward behind it."""
    domain = Domain.globe((4, 8), ranks=(1, 1))
    plan = halo_plan(domain, 0, (1, 0))
    v = torch.zeros(2, 4, 8)
    v[:, 0, 1], v[:, 0, 5] = 1.0, -1.0
    window = halo(v, plan, SelfComm(), signs=torch.tensor([-1.0, 1.0]))
    assert window[0, 0].tolist() == [0, 1, 0, 0, 0, -1, 0, 0]
    assert window[1, 0].tolist() == [0, -1, 0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": (2, 0)}, "rows: expected at least one cell for each rank, got (2, 0)"),
        ({"columns": ()}, "columns: expected at least one cell for each rank, got ()"),
        (
            {"sides": Border.POLE_ROW},
            "sides: expected wrap, nearest or zero, got pole in the row",
        ),
        (
            {"north": Border.WRAP},
            "south: expected wrap at both north and south or at neither, got wrap and zero",
        ),
        (
            {"south": Border.POLE_EDGE},
            "sides: expected wrap and an even number of columns where rows go on over a pole, "
            "got zero and 4",
        ),
        (
            {"south": Border.POLE_EDGE, "sides": Border.WRAP, "columns": (2, 3)},
            "sides: expected wrap and an even number of columns where rows go on over a pole, "
            "got wrap and 5",
        ),
    ],
)
def test_impossible_domains_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Domain(**{"rows": (2,), "columns": (2, 2), **options})


def test_what_does_not_fit_is_refused() -> None:
    domain = Domain.globe((4, 6), ranks=(1, 1))
    with pytest.raises(ValueError, match=r"^rank: expected 0 to 0, got 1$"):
        halo_plan(domain, 1, (1, 1))
    for plan in (halo_plan, lambda domain, _, width: halo_messages(domain, width)):
        with pytest.raises(
            ValueError, match=r"^width: expected 0 to below the cells \(4, 6\), got \(4, 1\)$"
        ):
            plan(domain, 0, (4, 1))
    plan, comm = halo_plan(domain, 0, (1, 1)), SelfComm()
    with pytest.raises(ValueError, match=r"^x: expected last dimensions \(4, 6\), got \(6, 8\)$"):
        halo(torch.ones(6, 8), plan, comm)
    with pytest.raises(ValueError, match=r"^y: expected last dimensions \(6, 8\), got \(4, 6\)$"):
        overlap_add(torch.ones(4, 6), plan, comm)
    with pytest.raises(
        ValueError, match=r"^signs: expected one for each channel of \(2, 4, 6\), got \(3,\)$"
    ):
        halo(torch.ones(2, 4, 6), plan, comm, signs=torch.ones(3))
