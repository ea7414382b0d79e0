"""Spantini, Baptista and Marzouk (2022), SIAM Rev. 64, figure 9: Lorenz-96, strongly nonlinear.

Every other point is observed every 0.4 time units (two days). Published scores are those of
DAPPER's `Lorenz96/spantini2019.py`.
"""

import torch
from experiment import (
    Experiment,
    Method,
    iterative,
    local,
    main,
    optimal_interpolation,
    transform,
    var3d,
)

from stormda.assimilation.systems import Lorenz96

MODEL = Lorenz96(dt=0.02)
EXPERIMENT = Experiment(
    system=MODEL,
    steps=20,
    observed=torch.arange(0, 40, 2),
    std=0.5**0.5,
    start=MODEL.start(),
    start_std=0.1**0.5,
    cycles=1000,
    spin_up=50,
)
METHODS = [
    Method("OI", 2.5, optimal_interpolation()),
    Method("3D-Var eye xB=4", 2.3, var3d(4.0, identity=True)),
    Method("ETKF N=60 1.10", 1.3, transform(60, 1.10, rotate=False)),
    Method("ETKF N=100 1.10", 0.97, transform(100, 1.10, rotate=False)),
    Method("LETKF N=40 1.10 r=4", 1.0, local(40, 1.10, 4)),
    Method("LETKF N=100 1.02 r=4", 0.84, local(100, 1.02, 4)),
    Method("IEnKS N=40 1.10 lag 2", 0.52, iterative(40, 1.10, 2, rotate=False)),
]

if __name__ == "__main__":
    main("spantini2019", EXPERIMENT, METHODS)
