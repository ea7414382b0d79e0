"""What changes the weights: AdamW, or Muon for matrices and AdamW for the rest.

Muon takes the momentum of a matrix for its nearest orthogonal matrix, so that all directions learn
at one pace and not only those of the largest gradients. It needs matrices whole: ranks may share
samples and fields, not parameters or heads.

Source: Loshchilov and Hutter (2019), https://arxiv.org/abs/1711.05101; Jordan et al. (2024), Muon;
the rate that makes both step alike, Liu et al. (2025), https://arxiv.org/abs/2502.16982
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from stormda.parallel import StartedMesh
from stormda.storm.training_config import TrainingConfig

BETAS = (0.9, 0.99)
"""Decays of AdamW's moments: the second forgets sooner than usual, as noise levels vary."""

NARROWEST = 32
"""Rows and columns that a matrix has at least; narrower ones are lists of vectors."""


def optimizer_of(
    parameters: Sequence[Tensor], config: TrainingConfig, mesh: StartedMesh
) -> Optimizer:
    """Return the optimizer that a config asks for.

    Args:
        parameters: What is trained.
        config: The settings.
        mesh: The ranks that train together.

    Raises:
        ValueError: If Muon is asked for where ranks share matrices, or there is none.

    Examples:
        >>> weights = [torch.zeros(64, 64), torch.zeros(9), torch.zeros(2, 64)]
        >>> config, alone = TrainingConfig(optimizer="muon"), StartedMesh.alone()
        >>> optimizer = optimizer_of([w.requires_grad_() for w in weights], config, alone)
        >>> [len(group["params"]) for group in optimizer.param_groups]
        [1, 2]
    """
    if config.optimizer == "adamw":
        return _adamw(parameters, config)
    cut = [axis for axis in ("shard", "tensor") if axis in mesh.mesh.names and mesh.size(axis) > 1]
    if cut:
        raise ValueError(
            f"optimizer: expected 'adamw' where ranks share matrices, by {', '.join(cut)}, "
            f"got {config.optimizer!r}"
        )
    wide = [p for p in parameters if p.dim() == 2 and min(p.shape) >= NARROWEST]
    if not wide:
        raise ValueError(
            f"optimizer: expected a matrix of {NARROWEST} x {NARROWEST} or more for 'muon', "
            "got none"
        )
    matrices = {id(p) for p in wide}
    rest = [p for p in parameters if id(p) not in matrices]
    muon = torch.optim.Muon(
        wide,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return Together([muon, _adamw(rest, config)])


def _adamw(parameters: Sequence[Tensor], config: TrainingConfig) -> Optimizer:
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=BETAS,
        weight_decay=config.weight_decay,
        fused=all(p.device.type == "cuda" for p in parameters),
    )


class Together(Optimizer):
    """Optimizers of different parameters as one, which has all of their groups and their state.

    Args:
        parts: The optimizers, before their first step.
    """

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        groups = [group for part in parts for group in part.param_groups]
        super().__init__([{"params": group["params"]} for group in groups], {})
        self.parts, self.param_groups = parts, groups
        self.state = defaultdict(dict)
        for part in parts:
            part.state = self.state

    def step(self, closure: Callable[[], float] | None = None) -> Any:  # noqa: ANN401
        """Change all parameters.

        Raises:
            ValueError: If there is a closure.
        """
        if closure is not None:
            raise ValueError("closure: expected None for several optimizers, got a function")
        for part in self.parts:
            part.step()
