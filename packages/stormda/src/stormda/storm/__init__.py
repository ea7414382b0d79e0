"""STORM: a prior of the present given the past, its training, and one-stage filtering with it."""

from stormda.storm import recipes
from stormda.storm.assimilation_config import AssimilationConfig
from stormda.storm.config import StormConfig
from stormda.storm.datasets import assimilate_dataset, train_on_dataset
from stormda.storm.ladder import ladder
from stormda.storm.network import StormNetwork
from stormda.storm.normalization import Normalization
from stormda.storm.prior import Conditioned, Storm
from stormda.storm.real_recipes import FILE_RECIPES, FileRecipe
from stormda.storm.training import Trainer
from stormda.storm.training_config import TrainingConfig

__all__ = [
    "FILE_RECIPES",
    "AssimilationConfig",
    "Conditioned",
    "FileRecipe",
    "Normalization",
    "Storm",
    "StormConfig",
    "StormNetwork",
    "Trainer",
    "TrainingConfig",
    "assimilate_dataset",
    "ladder",
    "recipes",
    "train_on_dataset",
]
