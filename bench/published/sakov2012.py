"""Sakov, Oliver and Bertino (2012), Mon. Wea. Rev. 140, table 1: Lorenz-63, all observed.

Published scores are those of DAPPER's `Lorenz63/sakov2012.py`. Single runs of
800 cycles of the EnKF differ by a tenth to either side of the published error.
"""

import torch
from experiment import (
    Experiment,
    Method,
    finite_size,
    iterative,
    main,
    optimal_interpolation,
    stochastic,
    transform,
    var3d,
)
from particle_methods import bootstrap

from stormda.assimilation.systems import Lorenz63

MODEL = Lorenz63()
EXPERIMENT = Experiment(
    system=MODEL,
    steps=25,
    observed=torch.arange(3),
    std=2**0.5,
    start=MODEL.start(),
    start_std=2**0.5,
    cycles=2000,
    spin_up=64,
)
METHODS = [
    Method("OI", 1.25, optimal_interpolation()),
    Method("3D-Var xB=.1", 1.04, var3d(0.1)),
    Method("EnKF N=100 1.01", 0.56, stochastic(100, 1.01)),
    Method("ETKF N=10 1.02", 0.60, transform(10, 1.02)),
    Method("EnKF-N N=10", 0.54, finite_size(10)),
    Method("IEnKS N=10 1.02", 0.31, iterative(10, 1.02)),
    Method("PF N=800", 0.28, bootstrap(800, share=0.2, jitter=0.9)),
]

if __name__ == "__main__":
    main("sakov2012", EXPERIMENT, METHODS)
