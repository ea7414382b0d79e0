"""A model and its optimizer as parts under names, so that any mesh can take them up again.

    net/blocks.0.qkv.weight                     the parameter
    optimizer/blocks.0.qkv.weight/exp_avg       cut as the parameter is
    optimizer/blocks.0.qkv.weight/step          whole

An optimizer numbers its parameters, and what has number 3 on one mesh may not be there on
another; names are the same on all of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stormda.parallel.layout import Part, local_of, module_parts, part_of, splits, whole
from stormda.parallel.parts_reading import PartsCheckpoint

_NET, _OPTIMIZER = "net/", "optimizer/"


def training_parts(module: nn.Module, optimizer: Optimizer) -> dict[str, Part]:
    """Return this rank's parts of all that training changes.

    Args:
        module: The model.
        optimizer: Over some of its parameters.

    Raises:
        ValueError: If the optimizer has a parameter that is not the model's, or keeps something
            else than tensors for one.

    Examples:
        >>> net = nn.Linear(3, 2, bias=False)
        >>> optimizer = torch.optim.SGD(net.parameters(), momentum=0.9)
        >>> net(torch.ones(3)).sum().backward()
        >>> optimizer.step()
        >>> list(training_parts(net, optimizer))
        ['net/weight', 'optimizer/weight/momentum_buffer']
    """
    found = {f"{_NET}{name}": part for name, part in module_parts(module).items()}
    declared = splits(module)
    for name, p in _named(module, optimizer).items():
        for key, value in optimizer.state[p].items():
            if not isinstance(value, Tensor):
                raise ValueError(
                    f"optimizer: expected tensors as the state of {name!r}, got "
                    f"{type(value).__name__} as {key!r}"
                )
            own = local_of(value).shape == local_of(p).shape and value.dim() > 0
            part = part_of(value, declared.get(name)) if own else whole(value)
            found[f"{_OPTIMIZER}{name}/{key}"] = part
    return found


def optimizer_options(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the settings of every group of parameters, as state that all ranks share.

    Examples:
        >>> optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.5)
        >>> optimizer_options(optimizer)[0]["lr"]
        0.5
    """
    return [
        {key: value for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]


def restore_training(
    checkpoint: PartsCheckpoint,
    module: nn.Module,
    optimizer: Optimizer,
    options: list[dict[str, Any]],
) -> None:
    """Give a model and a fresh optimizer, on any mesh, the numbers of a checkpoint.

    Args:
        checkpoint: Saved with `training_parts`.
        module: The model, overwritten in place.
        optimizer: Over its parameters, in as many groups as when it was saved.
        options: What `optimizer_options` returned when it was saved.

    Raises:
        ValueError: If the checkpoint is of another model, or of other groups.
    """
    groups = optimizer.param_groups
    if len(options) != len(groups):
        raise ValueError(f"options: expected {len(groups)} groups, got {len(options)}")
    checkpoint.fill({f"{_NET}{name}": part for name, part in module_parts(module).items()})
    for group, settings in zip(groups, options, strict=True):
        group.update(settings)
    declared = splits(module)
    for name, p in _named(module, optimizer).items():
        prefix = f"{_OPTIMIZER}{name}/"
        shape = part_of(p, declared.get(name)).shape
        state = optimizer.state[p]
        for full in (entry for entry in checkpoint.index if entry.startswith(prefix)):
            key, entry = full.removeprefix(prefix), checkpoint.index[full]
            if shape and tuple(entry["shape"]) == shape:
                state[key] = torch.zeros_like(p, dtype=getattr(torch, entry["dtype"]))
                checkpoint.fill({full: part_of(state[key], declared.get(name))})
            else:
                state[key] = checkpoint.tensor(full)


def _named(module: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the parameters of an optimizer by their names in the model."""
    names = {p: name for name, p in module.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p not in names:
                raise ValueError(
                    f"optimizer: expected parameters of the module, got one of shape "
                    f"{tuple(p.shape)} that is not"
                )
            found[names[p]] = p
    return found
