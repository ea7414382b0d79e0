"""Laws of the error of observation: independent, correlated, or with heavy tails."""

from stormda.assimilation.errors.base import ObservationError
from stormda.assimilation.errors.gaussian import CorrelatedError, DiagonalError, VariableError
from stormda.assimilation.errors.joined import JoinedError
from stormda.assimilation.errors.robust import HuberError, StudentError

__all__ = [
    "CorrelatedError",
    "DiagonalError",
    "HuberError",
    "JoinedError",
    "ObservationError",
    "StudentError",
    "VariableError",
]
