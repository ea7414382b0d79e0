"""Bocquet, Pires and Wu (2010), Mon. Wea. Rev. 138, figure 1: Lorenz-96 of 10, half observed.

Published scores are those of DAPPER's `Lorenz96/bocquet2010.py`, whose runs are short (64 time
units); ours are longer.
"""

import torch
from experiment import Experiment, Method, finite_size, main
from particle_methods import bootstrap, optimal

from stormda.assimilation.systems import Lorenz96

MODEL = Lorenz96(points=10)
EXPERIMENT = Experiment(
    system=MODEL,
    steps=1,
    observed=torch.arange(0, 10, 2),
    std=1.5**0.5,
    start=torch.zeros(10, dtype=torch.float64),
    start_std=0.001**0.5,
    cycles=3000,
    spin_up=400,
)
METHODS = [
    Method("EnKF-N N=8 xN=1.3", 0.31, finite_size(8, certainty=1.3)),
    Method("PF N=100", 0.36, bootstrap(100, share=0.2, jitter=1.3)),
    Method("PF N=800", 0.25, bootstrap(800, share=0.2, jitter=0.8)),
    Method("optimal PF N=800", 0.25, optimal(800, share=0.2, jitter=0.6, kernel=0.1)),
]

if __name__ == "__main__":
    main("bocquet2010", EXPERIMENT, METHODS)
