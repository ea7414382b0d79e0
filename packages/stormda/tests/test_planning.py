"""Planning: counts by hand, the best division among all, and what cannot be."""

import json
import re

import pytest
from click.testing import CliRunner

from stormda.cli import main
from stormda.parallel.cost import FRONTIER, LADDER, Run, step_cost
from stormda.storm.planning import MACHINES, Plan, make_plan, model_of, strong_scaling, tokens_of


def run(*arguments: object):
    return CliRunner().invoke(main, ["plan", *map(str, arguments)])


def test_twenty_billion_tokens_are_counted() -> None:
    tokens = tokens_of((2160, 4320), (4, 4))
    model = model_of("10M", tokens)
    made = make_plan(
        FRONTIER, model, devices=32768, batch=1, history=34_000, mesh={"sequence": 32768}
    )
    assert tokens == 583_200
    assert made.history_tokens == 34_000 * tokens == 19_828_800_000
    by_hand = 34_000 * tokens / 32768 * 2 * 2 * 256  # keys and values of 256 features, 2 bytes
    assert made.history_bytes == pytest.approx(by_hand)


def test_the_quickest_division_that_fits_is_chosen() -> None:
    model = LADDER["200M"]
    made = make_plan(FRONTIER, model, devices=16, batch=64, history=4)
    for tensor in (1, 2, 4, 8):
        for sequence in (1, 2, 4, 8, 16):
            for shard in (1, 2, 4, 8, 16):
                if 16 % (tensor * sequence * shard):
                    continue
                other = Run(
                    model=model, batch=64, tensor=tensor, sequence=sequence, shard=shard,
                    replica=16 // (tensor * sequence * shard),
                )  # fmt: skip
                cost = step_cost(FRONTIER, other)
                plan = Plan(machine=FRONTIER, run=other, history=4, cost=cost)
                assert not plan.fits or cost.seconds >= made.cost.seconds


def test_strong_scaling_ends_where_a_sample_no_longer_fits() -> None:
    made = make_plan(FRONTIER, LADDER["10B"], devices=64, batch=64, history=2)
    rows = strong_scaling(made, steps=10)
    assert [row["devices"] for row in rows] == sorted(row["devices"] for row in rows)
    assert rows[0]["efficiency"] == 1.0
    assert rows[0]["devices"] > 1
    with pytest.raises(ValueError, match="devices: expected enough for one sample"):
        make_plan(FRONTIER, LADDER["10B"], devices=rows[0]["devices"] // 2, batch=64, history=2)


def test_history_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"devices: expected enough .* GB of history on a device"):
        make_plan(FRONTIER, LADDER["10M"], devices=1, batch=1, history=177_500)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--devices": "0"}, "devices: expected 1 to the 2 of laptop, got 0"),
        ({"--batch": "0"}, "batch, history: expected at least 1, got 0 and 2"),
        ({"--model": "9B"}, "model: expected one of ['10M', '200M', '10B'], got '9B'"),
        ({"--mesh": "depth=2"}, "mesh: expected axes among"),
        ({"--mesh": "replica=2"}, "mesh: expected sizes whose product is 1, got 2"),
        ({"--mesh": "replica"}, "--mesh: expected sizes such as replica=4,shard=8, got 'replica'"),
        ({"--patch": "4"}, "--patch: expected two positive numbers such as 4,4, got '4'"),
    ],
)
def test_what_cannot_be_planned_is_refused(changed: dict[str, str], message: str) -> None:
    given = {"--grid": "64x64", **changed}
    result = run(*(part for item in given.items() for part in item))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_the_command_line_prints_a_table_and_json(case) -> None:
    options = "--model", "200M", "--machine", "h200", "--devices", "8", "--batch", "64"
    table = run("--grid", "721x1440", *options)
    assert table.exit_code == 0, table.output
    assert re.search(r"tokens per frame +65,160", table.output)
    assert "torchrun --nnodes 1 --nproc-per-node 8" in table.output
    values = json.loads(run("--grid", "721x1440", *options, "--json").output)
    assert values["parameters"] == LADDER["200M"].parameters
    assert values["memory_GB"] < MACHINES["h200"].memory / 1e9
    from_file = json.loads(run("--grid", case.fields, "--patch", "3,3", "--json").output)
    assert from_file["tokens_per_frame"] == 3 * 3
