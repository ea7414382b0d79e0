"""The learned model and the prior of `bench/one_stage.py`: their fast paths against slow ones."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from lorenz96_model import Model
from lorenz96_prior import Prior
from twin96 import PROBLEMS


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
