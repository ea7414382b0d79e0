"""STORM: a prior of the present given the past, its training, and one-stage filtering with it."""

from stormda.storm import recipes
from stormda.storm.config import StormConfig
from stormda.storm.network import StormNetwork
from stormda.storm.normalization import Normalization
from stormda.storm.prior import Conditioned, Storm
from stormda.storm.training import Trainer, TrainingConfig

__all__ = [
    "Conditioned",
    "Normalization",
    "Storm",
    "StormConfig",
    "StormNetwork",
    "Trainer",
    "TrainingConfig",
    "recipes",
]
