"""The learned model and the prior of `bench/one_stage.py`: their fast paths against slow ones."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from lorenz96_model import Model
from lorenz96_prior import Prior, one_stage
from twin96 import PROBLEMS, Twin

from stormda.assimilation import DiagonalError, Observation


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    model = Model(PROBLEMS["arctan"]).double()
    return model.requires_grad_(False)


@pytest.fixture
def states() -> Tensor:
    return 3 * torch.randn(4, 12, generator=torch.Generator().manual_seed(1)).double()


def test_the_steps_of_a_model_fill_the_interval() -> None:
    for problem in PROBLEMS.values():
        model = Model(problem)
        assert model.steps * model.substeps == problem.experiment.steps


def test_the_jacobian_that_is_carried_forward_is_that_of_autograd(model, states) -> None:
    later, jacobian = model.tangent(states)
    torch.testing.assert_close(later, model(states))
    slow = torch.func.vmap(torch.func.jacrev(model))(states)
    torch.testing.assert_close(jacobian, slow)


def test_the_gradient_along_the_model_is_that_through_it(model, states) -> None:
    x = states.requires_grad_()
    weight = torch.arange(12).double()
    along, through = (
        torch.autograd.grad((f(x) @ weight).sum(), x)[0] for f in (model.along, model)
    )
    torch.testing.assert_close(along, through)


def test_departures_are_the_members_in_units_of_the_prior(states) -> None:
    prior = Prior.of(states, radius=4.0)
    torch.testing.assert_close(prior.to_state(prior.departure(states)), states)
    variance = (prior.root @ prior.root).diagonal()
    torch.testing.assert_close(variance, states.var(0))


@pytest.mark.parametrize("window", [1, 2, 3])
def test_without_information_members_go_where_the_model_takes_them(model, window) -> None:
    """However far back the state is that is drawn; six steps widen an ensemble by a twentieth."""
    model = model.float()
    start = 2 + 0.1 * torch.randn(20, 12, generator=torch.Generator().manual_seed(1)).double()
    nothing = Observation(torch.zeros(12), lambda x: x, DiagonalError(1e6))
    settings = {
        "members": 20, "radius": 24.0, "inflation": 1.0, "linearizations": 1, "window": window
    }  # fmt: skip
    x = start.float()
    for analysis in one_stage(Twin([], [nothing] * 4, start), model, settings):
        x = model(x)
        torch.testing.assert_close(analysis.mean(0), x.mean(0), rtol=0, atol=1e-3)
        both = torch.stack([(one - one.mean(0)).flatten() for one in (analysis, x)])
        assert both.corrcoef()[0, 1] > 0.999
        assert 1 < both[0].std() / both[1].std() < 1.06**4
