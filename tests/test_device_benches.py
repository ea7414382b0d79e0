"""What the benchmarks of a device count, at sizes of a second."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
from ensemble_time import (
    Counted,
    Size,
    generator,
    guidance_of,
    measured,
    observation_of,
    pasts,
    prior_of,
    to_the_end,
)
from measuring import device_of, seconds_of, table_name
from scaling_tokens import CONFIG, Step, with_exponents
from scaling_tokens import measured as step_cost
from utilisation import VARIABLES, trainer
from utilisation import measured as used

from stormda.assimilation import conjugate_gradients
from stormda.storm import AssimilationConfig, Storm, StormConfig, TrainingConfig
from stormda.storm.filtering import sample_present

CPU = torch.device("cpu")
SIZE = Size(rows=8, columns=16, members=3, batch=2, steps=3)


@pytest.fixture(scope="module")
def prior() -> Storm:
    return prior_of(SIZE, CPU)


@pytest.mark.parametrize(("way", "products"), [("none", 0), ("dps", 1), ("mmps", 6 + 1)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_evaluation_of_every_member_is_counted(prior, way, products, dtype) -> None:
    row = measured(prior, way, replace(SIZE, dtype=dtype))
    assert row["evaluations"] == 3 * 3  # steps of members
    assert row["products"] == 3 * 3 * products
    assert row["observed"] == (0 if way == "none" else round(0.1 * 4 * 8 * 16))
    assert (row["rows"], row["columns"], row["members"], row["batch"]) == (8, 16, 3, 2)
    assert row["seconds_per_member"] == pytest.approx(row["seconds"] / 3)
    assert row["seconds_per_evaluation"] == pytest.approx(row["seconds"] / 9)


@pytest.mark.parametrize("way", ["dps", "mmps"])
def test_counting_changes_no_sample(prior, way) -> None:
    past, error = pasts(prior, 2), 0.1 * prior.normalization.std.flatten()
    now = prior.given(past, error=error, clock=torch.zeros(6))
    settings = replace(AssimilationConfig().filter, steps=3)
    plain, counted = (
        sample_present(
            one,
            observation_of(prior, 0.1),
            members=2,
            settings=settings,
            generator=generator(),
            guidance=guidance,
        )
        for one, guidance in (
            (now, guidance_of("dps", settings) if way == "dps" else None),
            (Counted(now), guidance_of(way, settings)),
        )
    )
    torch.testing.assert_close(counted, plain, rtol=0, atol=0)


def test_members_are_drawn_in_batches_without_a_rest() -> None:
    assert replace(SIZE, members=5).batches == [[0, 1], [2, 3], [4]]


def test_solves_to_the_end_have_the_same_answer() -> None:
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    options = {"diagonal": torch.ones(2), "tolerance": 1e-5, "max_iterations": 7}
    taken = []

    def apply(v):
        taken.append(v)
        return v @ matrix

    b = torch.tensor([[3.0, 4.0]])
    found = to_the_end(apply, b, **options)
    assert len(taken) == 7
    torch.testing.assert_close(found.v, conjugate_gradients(apply, b, **options).v)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"members": 0}, r"^members: expected at least 1, got 0$"),
        ({"observed": 0.0}, r"^observed: expected a share in \(0, 1\], got 0.0$"),
    ],
)
def test_sizes_that_cannot_be(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        Size(**wrong)


@pytest.mark.slow
def test_a_step_has_the_work_of_its_matrices_in_either_type() -> None:
    network = StormConfig(variables=VARIABLES, width=128, heads=2, encoder_depth=2, depth=2)
    rows = [
        used(trainer(network, 64, TrainingConfig(batch=1, bfloat16=half), CPU), 1)
        for half in (False, True)
    ]
    assert [row["dtype"] for row in rows] == ["float32", "bfloat16"]
    assert rows[0]["gigaflop"] == rows[1]["gigaflop"]
    # each of 64 tokens is multiplied by most weights, once forward and twice backward, but for
    # those that see the noise level alone; frames of the history by those of keys and values too
    most = 3 * 2 * 64 * rows[0]["parameters"] / 1e9
    assert 0.7 * most < rows[0]["gigaflop"] < 1.5 * most
    for row in rows:
        share = row["gigaflop_per_second"] / row["product_gigaflop_per_second"]
        assert row["share"] == pytest.approx(share)
        assert row["gigaflop"] == pytest.approx(row["gigaflop_per_second"] * row["cpu_seconds"])


def test_a_gpu_has_tables_of_its_own() -> None:
    assert table_name("utilisation", CPU) == "utilisation"
    assert table_name("utilisation", torch.device("cuda")) == "utilisation_cuda"


def test_a_gpu_that_is_not_there_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ValueError, match=r"^device: expected cpu, as PyTorch sees no GPU here, got cuda$"
    ):
        device_of("cuda")


@pytest.mark.parametrize("chunk", [0, 2])
def test_a_step_of_the_scaling_bench(chunk) -> None:
    """It has gradients, and rows have slopes."""
    config = replace(CONFIG, history=4, history_chunk=chunk)
    step = Step.of(config, (8, 8), CPU)
    assert seconds_of(step, CPU) > 0
    assert all(
        torch.isfinite(p.grad).all() for p in step.network.parameters() if p.grad is not None
    )
    row = step_cost(config, (8, 8), 1, CPU) | {"history": 4}
    assert row["tokens"] == 16
    assert row["peak_megabytes"] > 0
    first, second = with_exponents(
        [row, row | {"history": 8, "peak_megabytes": 2 * row["peak_megabytes"]}], "history"
    )
    assert first["time_exponent"] == ""
    assert second["time_exponent"] == 0
    assert second["memory_exponent"] == pytest.approx(1)
