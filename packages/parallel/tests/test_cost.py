"""The cost model in its limits, against closed forms, and against what is published."""

from dataclasses import replace
from math import log, sqrt

import pytest
import torch

from stormda.parallel.cost import (
    FRONTIER,
    H200_NODES,
    LADDER,
    LAPTOP,
    Curve,
    Group,
    Link,
    Machine,
    Run,
    Timing,
    Transformer,
    all_gather_seconds,
    all_reduce_seconds,
    all_to_all_seconds,
    device_bytes,
    fit_link,
    fit_rates,
    reduce_scatter_seconds,
    relative_errors,
    step_cost,
)

COLLECTIVES = [
    *(all_gather_seconds, all_reduce_seconds, all_to_all_seconds, reduce_scatter_seconds)
]
MACHINES = [FRONTIER, H200_NODES, LAPTOP]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
@pytest.mark.parametrize("collective", COLLECTIVES)
def test_alone_costs_nothing_and_more_costs_more(collective: object, machine: Machine) -> None:
    assert collective(machine, Group(ranks=1, per_node=1), 1e6) == 0
    previous = 0.0
    for ranks in (2, 16, 256, 4096, 65_536):
        group = Group(ranks=ranks, per_node=min(ranks, machine.devices_per_node))
        times = [collective(machine, group, nbytes) for nbytes in (1e3, 1e6, 1e9)]
        assert previous < times[0] < times[1] < times[2]
        previous = times[0]


def test_two_ranks_of_a_node_are_a_message() -> None:
    group, n = Group(ranks=2, per_node=2), 1e6
    once = FRONTIER.node.latency + n / 2 / FRONTIER.node.bandwidth
    assert all_gather_seconds(FRONTIER, group, n) == pytest.approx(once)
    assert all_reduce_seconds(FRONTIER, group, n) == pytest.approx(2 * once)
    assert all_to_all_seconds(FRONTIER, group, n) == pytest.approx(once)


def test_long_messages_on_whole_nodes_go_at_the_rate_of_the_network() -> None:
    group, n = Group(ranks=8192, per_node=8), 1e13
    rate = n / all_gather_seconds(FRONTIER, group, n)
    assert 1 / rate == pytest.approx(
        1 / FRONTIER.network.bandwidth + 7 / 8 / FRONTIER.node.bandwidth, rel=2e-3
    )


def test_groups_that_share_a_node_share_its_way_out() -> None:
    wide = Group.of(FRONTIER, 64, 1)
    apart = Group.of(FRONTIER, 64, 8)
    assert (wide.nodes, apart.nodes) == (8, 64)
    between = 1e9 * 7 / 8 / FRONTIER.network.bandwidth
    inside = 1e9 * 7 / 8 / FRONTIER.node.bandwidth
    assert all_gather_seconds(FRONTIER, wide, 1e9) == pytest.approx(between + inside, rel=0.01)
    alone = 1e9 * 63 / 64 / (FRONTIER.network.bandwidth / 8)
    assert all_gather_seconds(FRONTIER, apart, 1e9) == pytest.approx(alone, rel=0.01)


def test_the_ladder_has_its_published_sizes() -> None:
    """10M, 200M and 10B, by the count of 24 w^2 a layer."""
    for name, millions in (("10M", 10), ("200M", 200), ("10B", 10_000)):
        assert LADDER[name].parameters / 1e6 == pytest.approx(millions, rel=0.1)


def test_memory_is_counted() -> None:
    model = Transformer(width=4, depth=3, heads=2, tokens=10)
    parts = device_bytes(model, tokens=10, shard=2, tensor=1, recompute=False)
    assert parts["parameters"] == 16 * 3 * 24 * 16 / 2
    assert parts["activations"] == 3 * 34 * 2 * 10 * 4
    again = device_bytes(model, tokens=10, shard=1, tensor=2, recompute=True)
    assert again["gathered"] == 0
    assert again["activations"] == 3 * 2 * 40 + 34 * 2 * 40 / 2


def base(**changes: object) -> Run:
    return replace(Run(model=LADDER["10B"], batch=4096, replica=8, shard=64), **changes)


def test_one_device_that_is_never_late_only_computes() -> None:
    run = Run(model=LADDER["10M"], batch=4, overlap=0.0)
    cost = step_cost(FRONTIER, run)
    assert cost.communication == cost.straggler == 0
    assert cost.seconds == cost.compute


def test_the_straggler_is_a_term_of_its_own() -> None:
    steady, uneven = step_cost(FRONTIER, base()), step_cost(FRONTIER, base(spread=0.1))
    expected = 0.1 * sqrt(2 * log(512)) * steady.compute
    assert uneven.straggler == pytest.approx(expected)
    assert uneven.seconds - steady.seconds == pytest.approx(expected)


def test_the_traffic_of_the_sequence_axis_does_not_depend_on_tokens() -> None:
    times = []
    for tokens in (32_768, 4 * 32_768):
        model = replace(LADDER["10B"], tokens=tokens)
        run = Run(model=model, batch=64, shard=64, sequence=64, tensor=1, overlap=1.0)
        cost = step_cost(FRONTIER, run)
        times.append(cost.sequence / cost.passes)
    assert times[0] == pytest.approx(times[1])


def test_the_rate_at_the_base_is_the_published_one() -> None:
    """77.5 TFLOP/s a die: 1.6 EFLOP/s on 32,768 at 63 %; work with recomputation counted."""
    run = base()
    cost = step_cost(FRONTIER, run)
    work = 4 * run.model.depth * run.model.layer_flops(run.tokens)
    assert work / cost.seconds / 1e12 == pytest.approx(77.5, rel=0.1)


def test_many_latencies_need_bounded_groups() -> None:
    """With slow starts of messages, gathering over all ranks costs more than over 64 of them."""
    slow = replace(FRONTIER, network=replace(FRONTIER.network, latency=1e-2))

    def lost(shard: int) -> float:
        run = base(batch=32_768, shard=shard, replica=32_768 // shard, overlap=0.0)
        return step_cost(slow, run).shard

    assert lost(32_768) > 2 * lost(64)


def test_what_does_not_fit_is_refused() -> None:
    message = r"^run: expected at most 64 GB on a device, got 1[0-9][0-9] GB for one sample"
    with pytest.raises(ValueError, match=message):
        step_cost(FRONTIER, Run(model=LADDER["10B"], batch=1))


def test_fits_find_the_numbers_again_and_refuse_nonsense() -> None:
    g = torch.Generator().manual_seed(1)
    noise = 1 + 0.02 * torch.randn(12, generator=g, dtype=torch.float64)
    sizes = [2.0**i for i in range(10, 34, 2)]
    timings = [
        Timing(size=n, seconds=(2e-4 + n / 1e9) * float(e))
        for n, e in zip(sizes, noise, strict=True)
    ]
    link = fit_link(timings)
    assert link.latency == pytest.approx(2e-4, rel=0.05)
    assert link.bandwidth == pytest.approx(1e9, rel=0.05)
    assert max(map(abs, relative_errors(timings, link.seconds))) < 0.1
    falling = [Timing(size=1, seconds=2.0), Timing(size=2, seconds=1.0)]
    with pytest.raises(ValueError, match=r"^timings: expected times that grow with size, got"):
        fit_rates(falling)
    with pytest.raises(ValueError, match=r"^timings: expected two sizes or more, got"):
        fit_rates(falling[:1])
    with pytest.raises(ValueError, match=r"^timings: expected two sizes or more, got"):
        Curve(falling[:1])
    assert fit_rates([Timing(size=1, seconds=0.5), Timing(size=2, seconds=2.0)])[0] == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Link(latency=-1, bandwidth=1), r"^link: expected a latency of 0 or more and a"),
        (lambda: Group(ranks=2, per_node=3), r"^per_node: expected 1 to the number of ranks, 2,"),
        (lambda: base(shard=0), r"^shard: expected a positive number, got 0$"),
        (lambda: base(overlap=2.0), r"^overlap: expected 0 to 1, got 2.0$"),
        (
            lambda: Transformer(width=0, depth=1, heads=1, tokens=1),
            r"^width: expected at least 1, got 0$",
        ),
    ],
)
def test_bad_arguments(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
