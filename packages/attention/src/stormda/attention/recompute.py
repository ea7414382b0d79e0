"""What backward passes that recompute share: gradients of parts that add up."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def pull(
    y: Tensor,
    ybar: Tensor,
    inputs: Sequence[Tensor],
    others: Sequence[Tensor],
    bars: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Return the gradients of `inputs`, and add those of `others` to `bars`.

    Args:
        y: What was recomputed.
        ybar: Its gradient.
        inputs: What belongs to this part alone.
        others: What all parts share.
        bars: The gradients of `others` so far; None where none is wanted.

    Examples:
        >>> x, scale = torch.ones(2, requires_grad=True), torch.ones((), requires_grad=True)
        >>> of_scale = torch.zeros(())
        >>> pull(3 * scale * x, torch.ones(2), [x], [scale], [of_scale])
        [tensor([3., 3.])]
        >>> of_scale
        tensor(6.)
    """
    if not y.requires_grad:
        return [None] * len(inputs)
    wanted = [x for x in (*inputs, *others) if x.requires_grad]
    found = iter(torch.autograd.grad(y, wanted, ybar.to(y.dtype), allow_unused=True))
    of_inputs = [next(found) if x.requires_grad else None for x in inputs]
    for bar in bars:
        if bar is not None and (part := next(found)) is not None:
            bar += part
    return of_inputs


def autocast_now(x: Tensor) -> Callable[[], AbstractContextManager[None]]:
    """Return what restores, in a backward pass, the autocast that is on now.

    Examples:
        >>> x = torch.ones(2, 2)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     again = autocast_now(x)
        >>> with again():
        ...     (x @ x).dtype
        torch.bfloat16
    """
    device = x.device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return nullcontext
    dtype = torch.get_autocast_dtype(device)
    return lambda: torch.autocast(device, dtype=dtype)
