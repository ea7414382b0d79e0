import math
import re

import pytest
import torch

from stormda.assimilation import Checks


def identity(x):
    return x.flatten(1)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


def test_counts_add_up_and_each_refusal_has_the_first_reason() -> None:
    p = 60
    background, y = draw(30, p), draw(p, seed=1)
    y[:3], y[3:5], y[5] = math.nan, 1e6, 30.0
    place = torch.arange(p).double()
    distance = (place[:, None] - place).abs()
    checks = Checks(lowest=-100.0, highest=100.0, background=6.0, buddy=6.0, reach=3.0)
    screened = checks(y, identity, torch.tensor(0.5), background, distance)
    assert screened.refused == {"missing": 3, "gross": 2, "background": 1, "buddy": 0}
    assert int(screened.accepted.sum()) + sum(screened.refused.values()) == p
    kept = screened.observation
    torch.testing.assert_close(kept.y, y[6:])
    torch.testing.assert_close(kept.operator(background), background[:, 6:])


def test_a_buddy_check_finds_what_a_background_check_cannot() -> None:
    """All departures are -3 but one of +3: a biased background, and one bad station."""
    p = 11
    background = 3 + draw(200, p)
    y = torch.zeros(p).double()
    y[5] = 6.0
    place = torch.arange(p).double()
    distance = (place[:, None] - place).abs()
    std = torch.full((p,), 0.3).double()
    screened = Checks(background=4.0, buddy=3.0, reach=2.0)(y, identity, std, background, distance)
    assert screened.refused["background"] == 0
    assert screened.refused["buddy"] == 1
    assert not screened.accepted[5]
    torch.testing.assert_close(screened.observation.error.variance, std[:-1] ** 2)


def test_everything_refused_is_no_observation() -> None:
    y = torch.tensor([math.nan, 9.0]).double()
    screened = Checks(highest=5.0)(y, identity, torch.tensor(1.0))
    assert screened.observation is None
    assert screened.refused == {"missing": 1, "gross": 1, "background": 0, "buddy": 0}


def test_one_member_has_no_spread() -> None:
    y = torch.tensor([2.9, 3.1]).double()
    screened = Checks(background=3.0)(y, identity, torch.tensor(1.0), torch.zeros(1, 2).double())
    assert screened.accepted.tolist() == [True, False]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Checks(lowest=1.0, highest=1.0),
            "lowest: expected less than highest=1.0, got 1.0",
        ),
        (lambda: Checks(background=0.0), "background: expected a positive number, got 0.0"),
        (lambda: Checks(buddy=-1.0), "buddy: expected a positive number, got -1.0"),
    ],
)
def test_bad_checks_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
