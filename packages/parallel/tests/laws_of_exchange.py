"""What ranks that exchange parts of fields hold to, whoever carries the messages.

python many_ranks.py 3 DIRECTORY                       calls them over gloo
mpiexec -n 4 python laws_of_exchange.py DIRECTORY      over MPI, and then trains on its meshes
"""

import math
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import field_twin as twin
import pytest
import torch
from many_meshes import run_over_mpi
from many_ranks import (
    check_adjoints,
    check_all_reduce,
    check_all_to_all,
    check_broadcast,
    check_gather_and_scatter,
    check_plain_collectives_refuse_grad,
    check_ranks_agree_with_one_process,
    check_sixteen_bits_are_summed_in_thirty_two,
    draw,
)
from torch import Tensor
from torch.nn.functional import conv2d, scaled_dot_product_attention
from torch.testing import assert_close

from stormda.parallel import (
    Border,
    Communicator,
    Domain,
    Mesh,
    balanced_sizes,
    by_heads,
    copy_in,
    exchange,
    halo,
    halo_plan,
    launch,
    merge_weights,
    overlap_add,
    prefix_sum,
    reduce_out,
    reshard,
    ring_shift,
    start_halo,
    with_halo,
)

TIGHT = {"rtol": 1e-12, "atol": 1e-12}  # float64; only the order of sums differs


def cases(ranks: int) -> list[tuple[Domain, tuple[int, int]]]:
    """Globes of both kinds, regions, rings; uneven; halos wider than a rectangle; corners."""
    low = next(n for n in range(math.isqrt(ranks), 0, -1) if ranks % n == 0)
    flat, tall, square = (1, ranks), (ranks, 1), (low, ranks // low)
    uneven = Domain(
        rows=tuple(4 if i == 0 else 2 for i in range(square[0])),
        columns=tuple(range(square[1] + 1, 1, -1)) if sum(range(2, square[1] + 2)) % 2 == 0
        else (*range(square[1] + 1, 2, -1), 3),
        north=Border.POLE_ROW,
        south=Border.POLE_EDGE,
        sides=Border.WRAP,
    )  # fmt: skip
    return [
        (Domain.globe((9, 14), square), (1, 2)),
        (Domain.globe((8, 10), square), (2, 1)),
        (Domain.globe((9, 8), tall), (4, 1)),
        (Domain.globe((5, 10), flat), (1, 4)),
        (Domain.globe((6, 8), square), (0, 3)),
        (uneven, (3, 2)),
        (Domain.region((7, 9), square), (2, 2)),
        (Domain.region((7, 9), square, border=Border.NEAREST), (2, 3)),
        (Domain.region((8, 9), square, border=Border.WRAP), (5, 1)),
    ]


def inner(x: Tensor, y: Tensor, comm: Communicator) -> Tensor:
    return comm.all_reduce((x.detach() * y.detach()).sum())


def check_adjoint(f: Callable[[Tensor], Tensor], x: Tensor, seed: int, comm: Communicator) -> None:
    """<f(x), g> = <x, f*(g)>, and the backward of the backward is the forward again."""
    x = x.clone().requires_grad_()
    y = f(x)
    g = draw(seed + comm.rank, *y.shape).requires_grad_()
    (adjoint,) = torch.autograd.grad(y, x, g, create_graph=True)
    assert_close(inner(y, g, comm), inner(x, adjoint, comm), **TIGHT)
    (again,) = torch.autograd.grad(adjoint, g, x.detach())
    assert_close(again, y.detach(), **TIGHT)


def check_adjoints_of_exchanges(comm: Communicator) -> None:
    n = comm.size
    sent = [comm.rank + s for s in range(n)]
    x = draw(50 + comm.rank, sum(sent), 2)
    check_adjoint(lambda x: exchange(x, comm, sent=sent, received=sent), x, 1, comm)
    x = draw(60 + comm.rank, 3, 2)
    decay = torch.tensor([0.3, 0.8 + 0.01 * comm.rank], dtype=torch.float64)
    check_adjoint(lambda x: ring_shift(x, comm), x, 2, comm)
    check_adjoint(lambda x: ring_shift(x, comm, offset=-2), x, 3, comm)
    check_adjoint(lambda x: prefix_sum(x, comm), x, 4, comm)
    check_adjoint(lambda x: prefix_sum(x, comm, decay=decay), x, 5, comm)
    rows, columns = balanced_sizes(2 * n + 1, n), balanced_sizes(n - 1, n)
    sizes = {"join_sizes": rows, "cut_sizes": columns}
    x = draw(70 + comm.rank, rows[comm.rank], 3, n - 1)
    check_adjoint(lambda x: reshard(x, comm, join=0, cut=-1, **sizes), x, 6, comm)


def check_rings_and_prefixes(comm: Communicator) -> None:
    everyone = [draw(rank, 2, 3) for rank in range(comm.size)]
    mine = everyone[comm.rank]
    for offset in (-2, -1, 0, 1, comm.size + 1):
        expected = everyone[(comm.rank - offset) % comm.size]
        assert torch.equal(ring_shift(mine, comm, offset=offset), expected)
    before = sum(everyone[: comm.rank], torch.zeros(2, 3, dtype=torch.float64))
    assert_close(prefix_sum(mine, comm), before, **TIGHT)
    low = prefix_sum(torch.full((1,), 1.0 + 255 * (comm.rank == 0)).bfloat16(), comm)
    high = 255.0 + comm.rank if comm.rank else 0.0
    assert torch.equal(low, torch.tensor([high]).bfloat16())


def check_a_causal_memory_is_that_of_one_process(comm: Communicator) -> None:
    """Values, gradients and second derivatives of a recurrence with decays that are learnt."""
    values = torch.stack([draw(80 + rank, 2) for rank in range(comm.size)]).requires_grad_()
    rates = torch.stack([draw(90 + rank, 2).sigmoid() for rank in range(comm.size)])
    rates.requires_grad_()

    def parallel(values: Tensor, rates: Tensor) -> Tensor:
        x, d = copy_in(values, comm)[comm.rank], copy_in(rates, comm)[comm.rank]
        return reduce_out((prefix_sum(x, comm, decay=d).sin() * x).sum(), comm)

    def serial(values: Tensor, rates: Tensor) -> Tensor:
        state, loss = torch.zeros(2, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for x, d in zip(values, rates, strict=True):
            loss, state = loss + (state.sin() * x).sum(), d * state + x
        return loss

    def derivatives(f: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
        loss = f(values, rates)
        first = torch.autograd.grad(loss, (values, rates), create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), (values, rates))
        return [loss, *first, *second]

    for mine, expected in zip(derivatives(parallel), derivatives(serial), strict=True):
        assert_close(mine, expected, **TIGHT)


def check_attention_by_heads(comm: Communicator) -> None:
    """Exact softmax attention, also with fewer heads than ranks and uneven tokens."""
    n = comm.size
    for heads in (1, n, 2 * n + 1):
        tokens = balanced_sizes(3 * n + 1, n)
        whole = [draw(i, 2, heads, sum(tokens), 3).requires_grad_() for i in range(3)]
        expected = scaled_dot_product_attention(*whole)
        g = draw(9, *expected.shape)
        gradients = torch.autograd.grad(expected, whole, g)
        own = [x.detach().split(tokens, -2)[comm.rank].clone().requires_grad_() for x in whole]
        y = by_heads(scaled_dot_product_attention, *own, comm, sizes=tokens)
        assert_close(y, expected.split(tokens, -2)[comm.rank], **TIGHT)
        mine = torch.autograd.grad(y, own, g.split(tokens, -2)[comm.rank])
        for part, gradient in zip(mine, gradients, strict=True):
            assert_close(part, gradient.split(tokens, -2)[comm.rank], **TIGHT)


def check_halos(comm: Communicator) -> None:
    """Every window is the twin's, its sum too, and one is the adjoint of the other."""
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
    for domain, width in cases(comm.size):
        plan = halo_plan(domain, comm.rank, width)
        field = draw(5, 2, *domain.shape)
        rows, columns = domain.box(comm.rank)
        x = field[:, rows, columns]
        window = halo(x, plan, comm, signs=signs)
        assert torch.equal(window, twin.window(field, domain, comm.rank, width, signs))
        plain = halo(x, plan, comm)
        assert torch.equal(plain, twin.window(field, domain, comm.rank, width, signs.abs()))
        windows = [
            draw(30 + r, *twin.window(field, domain, r, width, signs).shape)
            for r in range(comm.size)
        ]
        mine = windows[comm.rank]
        total = overlap_add(mine, plan, comm, signs=signs)
        serial = twin.added_up(windows, domain, width, signs)
        assert_close(total, serial[:, rows, columns], **TIGHT)
        assert torch.equal(total, overlap_add(mine, plan, comm, signs=signs))
        check_adjoint(lambda x: halo(x, plan, comm, signs=signs), x, 7, comm)  # noqa: B023
        check_adjoint(lambda y: overlap_add(y, plan, comm, signs=signs), mine, 8, comm)  # noqa: B023
        assert_close(inner(window, mine, comm), inner(x, total, comm), **TIGHT)


def check_sixteen_bit_halos(comm: Communicator) -> None:
    """Copies are exact; a sum of 256 and ones is rounded once, not at every one."""
    domain = Domain.region((1, comm.size), (1, comm.size), border=Border.WRAP)
    plan = halo_plan(domain, comm.rank, (0, (comm.size - 1) // 2))
    x = torch.full((1, 1), float(comm.rank)).bfloat16()
    assert torch.equal(halo(x, plan, comm).float(), halo(x.float(), plan, comm))
    y = torch.ones(plan.window)
    y[0, plan.width[1]] = 256.0
    expected = torch.full((1, 1), 256.0 + 2 * plan.width[1]).bfloat16()
    assert torch.equal(overlap_add(y.bfloat16(), plan, comm), expected)


def check_a_convolution_is_that_of_one_process(comm: Communicator) -> None:
    """Two layers, with and without overlap: values, gradients of field and weights."""
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
    for domain, _ in cases(comm.size):
        width = (1, 2)
        plan = halo_plan(domain, comm.rank, width)
        rows, columns = domain.box(comm.rank)
        field = draw(5, 2, *domain.shape).requires_grad_()
        kernel = draw(6, 2, 2, 3, 5).requires_grad_()
        g = draw(7, 2, *domain.shape)
        hidden = conv2d(twin.window(field, whole(domain), 0, width, signs)[None], kernel)[0].tanh()
        expected = conv2d(twin.window(hidden, whole(domain), 0, width, signs)[None], kernel)[0]
        gradients = torch.autograd.grad(expected, (field, kernel), g)
        x = field.detach()[:, rows, columns].clone().requires_grad_()
        for overlapped in (False, True):
            shared = copy_in(kernel, comm)

            def layer(x: Tensor, shared: Tensor = shared, overlapped: bool = overlapped) -> Tensor:
                def stencil(x: Tensor) -> Tensor:
                    return conv2d(x[None], shared)[0]

                if overlapped:
                    return with_halo(stencil, x, plan, comm, signs=signs)  # noqa: B023
                return stencil(halo(x, plan, comm, signs=signs))  # noqa: B023

            y = layer(layer(x).tanh())
            assert_close(y, expected[:, rows, columns], **TIGHT)
            mine = torch.autograd.grad(y, (x, kernel), g[:, rows, columns])
            assert_close(mine[0], gradients[0][:, rows, columns], **TIGHT)
            assert_close(mine[1], gradients[1], **TIGHT)


def whole(domain: Domain) -> Domain:
    return Domain(
        rows=(domain.shape[0],),
        columns=(domain.shape[1],),
        north=domain.north,
        south=domain.south,
        sides=domain.sides,
    )


def check_tiles_are_merged_as_on_one_process(comm: Communicator) -> None:
    """A network of tiles, blended: values, gradients of the field and of the weights."""
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
    for domain, width in cases(comm.size):
        plan = halo_plan(domain, comm.rank, width)
        rows, columns = domain.box(comm.rank)
        blend = merge_weights(plan, comm, dtype=torch.float64)
        assert_close(overlap_add(blend, plan, comm), torch.ones(plan.shape).double(), **TIGHT)
        raw = [twin.merge_weight(domain, r, width) for r in range(comm.size)]
        one = torch.ones(1, dtype=torch.float64)
        total = twin.added_up([w[None] for w in raw], domain, width, one)
        weights = [
            w / twin.window(total, domain, r, width, one)[0].where(w > 0, 1)
            for r, w in enumerate(raw)
        ]
        assert_close(blend, weights[comm.rank], **TIGHT)
        field, mixing = draw(5, 2, *domain.shape).requires_grad_(), draw(6, 2, 2).requires_grad_()

        def network(window: Tensor, mixing: Tensor) -> Tensor:
            mixed = torch.einsum("cd, dij -> cij", mixing, window).tanh()
            return mixed * (1 + mixed.mean((-2, -1), keepdim=True))

        windows = [
            network(twin.window(field, domain, r, width, signs), mixing) * weights[r]
            for r in range(comm.size)
        ]
        expected = twin.added_up(windows, domain, width, signs)
        g = draw(7, *expected.shape)
        gradients = torch.autograd.grad(expected, (field, mixing), g)
        x = field.detach()[:, rows, columns].clone().requires_grad_()
        y = network(halo(x, plan, comm, signs=signs), copy_in(mixing, comm)) * blend
        y = overlap_add(y, plan, comm, signs=signs)
        assert_close(y, expected[:, rows, columns], **TIGHT)
        mine = torch.autograd.grad(y, (x, mixing), g[:, rows, columns])
        assert_close(mine[0], gradients[0][:, rows, columns], **TIGHT)
        assert_close(mine[1], gradients[1], **TIGHT)


def check_plans_and_ranks_belong_together(comm: Communicator) -> None:
    domain = Domain.globe((4, 2 * comm.size + 2), (1, comm.size + 1))
    plan = halo_plan(domain, comm.rank, (1, 1))
    with pytest.raises(
        ValueError,
        match=rf"^comm: expected the {comm.size + 1} ranks of the plan, got {comm.size}$",
    ):
        start_halo(torch.ones(plan.shape), plan, comm)


PLAIN = (
    check_all_reduce,
    check_sixteen_bits_are_summed_in_thirty_two,
    check_gather_and_scatter,
    check_all_to_all,
    check_broadcast,
    check_plain_collectives_refuse_grad,
    check_adjoints,
    check_ranks_agree_with_one_process,
)
LAWS = (
    check_adjoints_of_exchanges,
    check_rings_and_prefixes,
    check_a_causal_memory_is_that_of_one_process,
    check_attention_by_heads,
    check_halos,
    check_sixteen_bit_halos,
    check_a_convolution_is_that_of_one_process,
    check_tiles_are_merged_as_on_one_process,
    check_plans_and_ranks_belong_together,
)


def main(directory: Path) -> None:
    torch.set_num_threads(1)
    mesh = launch(Mesh({"replica": -1}), backend="mpi", timeout=timedelta(minutes=5))
    with mesh:
        for check in PLAIN:
            check(mesh.world, directory)
        for law in LAWS:
            law(mesh.world)
            mesh.world.barrier()
        run_over_mpi(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
