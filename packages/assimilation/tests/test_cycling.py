"""Cycles that are fed, interrupted, screened and inflated."""

import pytest
import torch

from stormda.assimilation import (
    Checks,
    DiagonalError,
    FilterDiverged,
    Observation,
    Spread,
    assimilations,
    cycle,
    heun,
)

M = 400


class Walk:
    """A random walk with steps N(0, 1)."""

    shape, dtype, device = (1,), torch.float64, torch.device("cpu")

    def __call__(self, x, sigma, *, before):
        return before + (x - before) / (1 + sigma**2)


def seen(y: float, std: float = 0.5) -> Observation:
    return Observation(torch.tensor([y]).double(), lambda x: x, DiagonalError(std))


STREAM = [seen(1.0), None, seen(-1.0), seen(0.5)]
START = [torch.zeros(M, 1).double()]


def settings(**changes) -> dict:
    return {
        "history": START,
        "context": lambda k, past: {"before": past[-1]},
        "members": M,
        "generator": torch.Generator().manual_seed(0),
        "sampler": heun(steps=12),
        **changes,
    }


def test_to_be_sent_is_to_be_asked() -> None:
    asked = list(cycle(Walk(), STREAM, **settings()))
    session = assimilations(Walk(), **settings())
    assert next(session) is None
    for observation, expected in zip(STREAM, asked, strict=True):
        assert torch.equal(session.send(observation), expected)


def test_a_run_goes_on_from_any_cycle() -> None:
    numbers = []

    def context(k, past):
        numbers.append(k)
        return {"before": past[-1]}

    whole = list(cycle(Walk(), STREAM, **settings()))
    rest = list(
        cycle(Walk(), STREAM[2:], **settings(history=[whole[1]], context=context, first=2))
    )
    assert torch.equal(rest[0], whole[2])
    assert torch.equal(rest[1], whole[3])
    assert numbers == [2, 3]


def test_what_is_refused_is_not_used() -> None:
    counts = []

    def screen(k, observation, past):
        screened = Checks(background=5.0)(
            observation.y, observation.operator, torch.tensor(0.5), past[-1]
        )
        counts.append(screened.refused["background"])
        return screened.observation

    wild = [seen(1.0), seen(1000.0), seen(0.0)]
    screened = list(cycle(Walk(), wild, **settings(screen=screen)))
    plain = list(cycle(Walk(), [wild[0], None, wild[2]], **settings()))
    assert counts == [0, 1, 0]
    for a, b in zip(screened, plain, strict=True):
        torch.testing.assert_close(a, b)


def test_inflation_and_relaxation_act_on_each_analysis() -> None:
    plain = next(cycle(Walk(), STREAM, **settings()))
    inflated = next(cycle(Walk(), STREAM, **settings(spread=Spread(inflation=1.5))))
    torch.testing.assert_close(inflated.std(0), 1.5 * plain.std(0))
    torch.testing.assert_close(inflated.mean(0), plain.mean(0))
    forecast = next(cycle(Walk(), [None], **settings()))
    relaxed = next(cycle(Walk(), STREAM, **settings(spread=Spread(rtps=0.4))))
    torch.testing.assert_close(relaxed.std(0), 0.6 * plain.std(0) + 0.4 * forecast.std(0))


def test_a_treated_run_goes_on_too() -> None:
    treated = {"spread": Spread(inflation=1.1, rtpp=0.2, rotate=True)}
    whole = list(cycle(Walk(), STREAM, **settings(**treated)))
    rest = cycle(Walk(), STREAM[3:], **settings(history=[whole[2]], first=3, **treated))
    assert torch.equal(next(rest), whole[3])


def test_a_lost_truth_stops_it_with_the_state_before() -> None:
    analyses = cycle(Walk(), [seen(1.0), None, seen(500.0)], **settings(limit=10.0))
    next(analyses)
    before = next(analyses)
    message = r"^cycle 2: the innovations are \d+\.\d times what spread and error allow$"
    with pytest.raises(FilterDiverged, match=message) as caught:
        next(analyses)
    assert caught.value.number == 2
    assert torch.equal(caught.value.ensemble, before)
    rest = cycle(Walk(), [seen(1.0)], **settings(history=[caught.value.ensemble], first=3))
    assert next(rest).isfinite().all()


def test_the_limit_is_of_states_as_they_are_observed() -> None:
    scaled = settings(transform=lambda x: 100 * x, limit=3.0)
    analysis = next(cycle(Walk(), [seen(500.0, std=1.0)], **scaled))
    torch.testing.assert_close(analysis.mean().item(), 5.0, rtol=0, atol=0.01)


def test_where_everything_is_refused_there_is_a_forecast() -> None:
    wild = [seen(1000.0), seen(-1000.0)]
    screened = cycle(Walk(), wild, **settings(screen=lambda k, observation, past: None, limit=3.0))
    plain = cycle(Walk(), [None, None], **settings())
    for a, b in zip(screened, plain, strict=True):
        assert torch.equal(a, b)
