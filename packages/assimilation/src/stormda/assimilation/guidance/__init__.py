"""Ways to bend a prior towards observations, one a module."""

from stormda.assimilation.guidance.base import (
    Guidance,
    Guided,
    Linearized,
    linearize_operator,
)
from stormda.assimilation.guidance.cg import conjugate_gradients
from stormda.assimilation.guidance.dps import dps
from stormda.assimilation.guidance.enff import enff
from stormda.assimilation.guidance.ensf import ensf
from stormda.assimilation.guidance.gmres import gmres
from stormda.assimilation.guidance.jfps import jfps
from stormda.assimilation.guidance.mmps import mmps
from stormda.assimilation.guidance.none import none
from stormda.assimilation.guidance.pigdm import pigdm
from stormda.assimilation.guidance.sda import sda
from stormda.assimilation.guidance.solve import Solver
from stormda.assimilation.guidance.tmpd import tmpd

__all__ = [
    "Guidance",
    "Guided",
    "Linearized",
    "Solver",
    "conjugate_gradients",
    "dps",
    "enff",
    "ensf",
    "gmres",
    "jfps",
    "linearize_operator",
    "mmps",
    "none",
    "pigdm",
    "sda",
    "tmpd",
]
