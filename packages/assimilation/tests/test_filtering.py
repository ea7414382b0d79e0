import math
from itertools import islice

import pytest
import torch

from stormda.assimilation import (
    DiagonalError,
    FilterDiverged,
    Neighbours,
    Observation,
    Spread,
    enkf,
    etkf,
    letkf,
    periodic_distance,
    run_filter,
    select,
)
from stormda.assimilation.systems import Lorenz96, nature_run


def update(ensemble, predicted, observation):
    return etkf(ensemble, predicted, observation.y, observation.error)


def identity(x):
    return x


def seen(y: float, std: float = 0.1) -> Observation:
    return Observation(torch.tensor([y]), identity, DiagonalError(std))


def ensemble(m: int = 20) -> torch.Tensor:
    return torch.randn(m, 1, generator=torch.Generator().manual_seed(0))


def test_observations_stream_in_and_cycles_stream_out() -> None:
    asked = []

    def stream():
        for y in (1.0, 2.0, 3.0):
            asked.append(y)
            yield seen(y)

    cycles = run_filter(ensemble(), stream(), forecast=identity, update=update)
    next(cycles)
    assert asked == [1.0]
    assert [cycle.number for cycle in cycles] == [1, 2]


def test_a_run_continues_from_any_cycle() -> None:
    stream = [seen(1.0), None, seen(-1.0), seen(0.5)]
    settings = {"forecast": lambda x: 1.5 * x, "update": update}
    whole = list(run_filter(ensemble(), stream, **settings))
    rest = list(run_filter(whole[1].analysis, stream[2:], first=2, **settings))
    assert [cycle.number for cycle in rest] == [2, 3]
    assert torch.equal(rest[-1].analysis, whole[-1].analysis)
    assert torch.equal(whole[1].analysis, whole[1].background)


def test_numbers_that_are_not_finite_stop_it() -> None:
    def forecast(x):
        return torch.where(torch.arange(20)[:, None] == 3, x * math.inf, x)

    with pytest.raises(FilterDiverged, match=r"^cycle 5: the forecast is not finite in") as caught:
        list(run_filter(ensemble(), [seen(1.0)], forecast=forecast, update=update, first=5))
    assert str(caught.value).endswith("members [3]")
    assert torch.equal(caught.value.ensemble, ensemble())
    assert caught.value.number == 5


def test_a_lost_truth_stops_it_with_the_state_before() -> None:
    stream = [seen(0.1), seen(500.0)]
    cycles = run_filter(ensemble(), stream, forecast=identity, update=update, limit=10.0)
    before = next(cycles).analysis
    message = r"^cycle 1: the innovations are \d+\.\d times what spread and error allow$"
    with pytest.raises(FilterDiverged, match=message) as caught:
        next(cycles)
    assert torch.equal(caught.value.ensemble, before)


def test_an_empty_observation_is_no_news() -> None:
    nothing = Observation(torch.zeros(0), select(torch.zeros(0).long()), DiagonalError(1.0))
    (cycle,) = run_filter(ensemble(), [nothing], forecast=identity, update=update, limit=3.0)
    torch.testing.assert_close(cycle.analysis, cycle.background)


def twin(update, members: int, cycles: int = 150) -> float:
    """Return the mean RMSE of the analyses of Lorenz-96, all points observed with error 1."""
    g, model = torch.Generator().manual_seed(0), Lorenz96()
    start = model.forecast(model.start(), steps=1000)
    x = start + torch.randn(members, 40, dtype=torch.float64, generator=g)
    truths = list(islice(nature_run(model, start, steps=1), cycles))
    stream = [
        Observation(
            t + torch.randn(40, dtype=torch.float64, generator=g), identity, DiagonalError(1.0)
        )
        for t in truths
    ]
    run = run_filter(
        x, stream, forecast=lambda x: model.forecast(x, steps=1), update=update, limit=5.0
    )
    errors = [
        (c.analysis.mean(0) - t).square().mean().sqrt() for c, t in zip(run, truths, strict=True)
    ]
    return torch.stack(errors[cycles // 3 :]).mean().item()


def test_the_filters_follow_a_chaotic_truth() -> None:
    """Their published errors are 0.18 to 0.23; no skill is 3.6, the observations' error is 1."""
    g = torch.Generator().manual_seed(1)
    place = torch.arange(40.0)[:, None]
    distance = periodic_distance(place, place, torch.tensor([40.0]))

    def stochastic(x, predicted, o):
        analysis = enkf(x, predicted, o.y, o.error, generator=g)
        return Spread(inflation=1.06)(analysis, x)

    def transform(x, predicted, o):
        return Spread(inflation=1.02, rotate=True)(etkf(x, predicted, o.y, o.error), x, g)

    def local(x, predicted, o):
        analysis = letkf(
            x[..., None], predicted, o.y, o.error.variance, distance=distance, radius=14.0
        )
        return Spread(inflation=1.04, rotate=True)(analysis[..., 0], x, g)

    assert twin(stochastic, 40) < 0.28
    assert twin(transform, 24) < 0.28
    assert twin(local, 7) < 0.30


def test_neighbours_give_what_all_distances_give() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(5, 30, 2, dtype=torch.float64, generator=g)
    place = torch.arange(30.0)[:, None]
    distance = periodic_distance(place, place, torch.tensor([30.0]))
    near = distance.argsort(1)[:, :11]  # all within 5 of each

    def neighbours(columns: slice) -> Neighbours:
        index = near[columns]
        return Neighbours(index, distance[columns].gather(1, index))

    y = torch.randn(30, dtype=torch.float64, generator=g)
    settings = {"variance": torch.tensor(0.5), "radius": 5.5}
    predicted = x[..., 0]
    torch.testing.assert_close(
        letkf(x, predicted, y, distance=neighbours, **settings),
        letkf(x, predicted, y, distance=distance, **settings),
    )


def test_neighbours_within_a_radius_give_what_all_distances_give() -> None:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(5, 30, 2, dtype=torch.float64, generator=g)
    place, seen = torch.arange(30.0)[:, None], torch.tensor([0.0, 1.0, 2.0, 3.0, 20.0])[:, None]
    distance = periodic_distance(place, seen, torch.tensor([30.0]))
    y = torch.randn(5, dtype=torch.float64, generator=g)
    settings = {"variance": torch.tensor(0.5), "radius": 4.5}
    predicted = x[:, seen[:, 0].long(), 0]
    near = letkf(
        x,
        predicted,
        y,
        distance=lambda some: Neighbours.within(distance[some], settings["radius"]),
        **settings,
    )
    torch.testing.assert_close(near, letkf(x, predicted, y, distance=distance, **settings))
    assert Neighbours.within(distance, settings["radius"]).index.shape == (30, 4)
