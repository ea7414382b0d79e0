"""Activations that are computed again in the backward pass instead of being kept.

    memory  O(layers x activations of a layer)  ->  O(layers x inputs of a layer)
    work    forward + backward                  ->  2 x forward + backward

Collectives inside a recomputed layer run again too, in the same order on every rank.

Source: Chen et al. (2016), Training deep nets with sublinear memory cost, section 3,
https://arxiv.org/abs/1604.06174.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(layers: Iterable[nn.Module]) -> None:
    """Make layers keep only their inputs for the backward pass; names of parameters stay.

    Call it before `shard_parameters`. Random numbers inside a layer are the same both times.

    Args:
        layers: The modules, each of which is recomputed as a whole.

    Examples:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
        >>> recompute([net])
        >>> net(torch.ones(1, 2)).sum().backward()
        >>> sorted(name for name, _ in net.named_parameters())
        ['0.bias', '0.weight']
    """
    for layer in layers:
        call: Any = partial(checkpoint, layer.forward, use_reentrant=False)
        layer.forward = call
