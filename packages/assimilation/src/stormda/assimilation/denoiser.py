"""What the samplers ask of a prior: a denoiser, and products with its transposed Jacobian.

A sample `x0` is hidden in `x = x0 + sigma * eps`, with `eps` white noise of unit variance (the
convention of EDM: no scaling, the noise level *is* the standard deviation). A denoiser returns the
posterior mean, and its Jacobian is the posterior covariance up to the noise level:

    x_hat = E[x0 | x],        Cov[x0 | x] = sigma^2 J,        J = d x_hat / d x.

`J` is symmetric for an exact denoiser and nearly so for a learned one. Only products `J^T v` are
asked for, so a tiled or streamed network can supply them by recomputation.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

Vjp = Callable[[Tensor], Tensor]
"""A product with the transposed Jacobian of a denoiser, from `(m, *shape)` to `(m, *shape)`."""


class Denoiser(Protocol):
    """The posterior mean of a clean state, given a noisy one.

    Source: Karras et al. (2022), Elucidating the design space of diffusion-based generative
    models, eq. 2-3, https://arxiv.org/abs/2206.00364
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state, without the members."""

    @property
    def dtype(self) -> torch.dtype:
        """The data type of the states."""

    @property
    def device(self) -> torch.device:
        """The device of the states."""

    def __call__(self, x: Tensor, sigma: Tensor, /, *args: Any, **context: Any) -> Tensor:  # noqa: ANN401
        """Return `E[x0 | x0 + sigma * eps = x]`.

        Args:
            x: Noisy states, with shape `(m, *shape)`. A member never influences another.
            sigma: The noise level of all members, a tensor without dimensions.
            args: Nothing is passed here (it lets mypy accept denoisers that name their context).
            context: What the prior is conditioned on. Tensors lead with the members `m` or are
                shared by all of them.

        Returns:
            The clean states, with shape `(m, *shape)`.
        """


@runtime_checkable
class Linearizable(Protocol):
    """A denoiser that brings its own vector-Jacobian product, for example by recomputation."""

    def linearize(
        self,
        x: Tensor,
        sigma: Tensor,
        /,
        *args: Any,  # noqa: ANN401
        **context: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Vjp]:
        """Return `x_hat` and the function `v -> J^T v`, both without gradient tracking."""


def linearize(
    denoiser: Denoiser, x: Tensor, sigma: Tensor, context: Mapping[str, object]
) -> tuple[Tensor, Vjp]:
    """Return the denoised states and the product with the transposed Jacobian.

    The denoiser's own `linearize` is used where there is one; otherwise one forward pass keeps its
    graph and every product is one backward pass. The parameters of a network accumulate nothing.

    Args:
        denoiser: The denoiser.
        x: Noisy states, with shape `(m, *shape)`.
        sigma: The noise level, a tensor without dimensions.
        context: The denoiser's keyword arguments.

    Returns:
        `x_hat` with shape `(m, *shape)`, and the function `v -> J^T v` that keeps that shape. The
        function may be called often; it holds the graph until it is dropped.

    Examples:
        >>> class Shrink:
        ...     shape, dtype, device = (2,), torch.float32, torch.device("cpu")
        ...     def __call__(self, x, sigma):
        ...         return x / (1 + sigma**2)
        >>> x_hat, vjp = linearize(Shrink(), torch.ones(1, 2), torch.tensor(1.0), {})
        >>> x_hat, vjp(torch.tensor([[1.0, 4.0]]))
        (tensor([[0.5000, 0.5000]]), tensor([[0.5000, 2.0000]]))
    """
    if isinstance(denoiser, Linearizable):
        return denoiser.linearize(x, sigma, **context)
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        x_hat = denoiser(x, sigma, **context)

    def vjp(v: Tensor) -> Tensor:
        return torch.autograd.grad(x_hat, x, v, retain_graph=True)[0]

    return x_hat.detach(), vjp
