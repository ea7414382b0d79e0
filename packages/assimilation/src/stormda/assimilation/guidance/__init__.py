"""Ways to bend a prior towards observations, one a module."""

from stormda.assimilation.guidance.base import (
    Guidance,
    Guided,
    Linearized,
    linearize_operator,
)
from stormda.assimilation.guidance.dps import dps
from stormda.assimilation.guidance.mmps import mmps
from stormda.assimilation.guidance.none import none
from stormda.assimilation.guidance.sda import sda

__all__ = ["Guidance", "Guided", "Linearized", "dps", "linearize_operator", "mmps", "none", "sda"]
