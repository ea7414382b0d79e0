"""Test systems: small models in which the truth is known because we made it."""

from stormda.assimilation.systems.base import System, nature_run, runge_kutta
from stormda.assimilation.systems.kuramoto_sivashinsky import KuramotoSivashinsky
from stormda.assimilation.systems.linear_gaussian import LinearGaussian, advected_ring
from stormda.assimilation.systems.lorenz import Lorenz63, Lorenz96
from stormda.assimilation.systems.shallow_water import ShallowWater, ShallowWaterConfig
from stormda.assimilation.systems.spherical_harmonics import SphericalHarmonics
from stormda.assimilation.systems.sqg import SQG, SQGConfig

__all__ = [
    "SQG",
    "KuramotoSivashinsky",
    "LinearGaussian",
    "Lorenz63",
    "Lorenz96",
    "SQGConfig",
    "ShallowWater",
    "ShallowWaterConfig",
    "SphericalHarmonics",
    "System",
    "advected_ring",
    "nature_run",
    "runge_kutta",
]
