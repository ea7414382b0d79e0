"""A trained prior: the network with the statistics, grid and provenance that it needs to be used.

The file is one safetensors archive, tensors plus a JSON header; loading it runs no code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stormda.grid import Grid, grid_from_dict
from stormda.parallel import StartedMesh, splits
from stormda.storm.config import StormConfig, from_dict, to_dict
from stormda.storm.encoded import Encoded
from stormda.storm.network import StormNetwork
from stormda.storm.normalization import Normalization
from stormda.storm.training_mesh import take_up
from stormda.storm.window import accumulated, frames_of, from_increments

FORMAT = "stormda-prior-1"
"""Marks the file; a reader refuses any other."""


@dataclass(frozen=True)
class Storm:
    """p(present | history), ready to be conditioned on a history and then on observations.

    Args:
        network: The denoiser's weights, in evaluation mode, without gradients.
        normalization: Statistics of the fields it was trained on.
        step_hours: Time between frames [h].
        provenance: How it came to be: settings, data, seeds, versions. JSON-able.

    Examples:
        >>> from stormda.grid import PlaneGrid
        >>> config = StormConfig(variables=("a",), width=16, heads=2, encoder_depth=1, depth=1)
        >>> network = StormNetwork(config, PlaneGrid((8, 8), spacing_m=(1e5, 1e5)))
        >>> one = torch.ones(1, 1, 1)
        >>> prior = Storm(network, Normalization(0 * one, one, one), step_hours=6.0)
        >>> now = prior.given(torch.zeros(3, 2, 1, 8, 8), error=torch.ones(1))
        >>> now.shape
        (1, 8, 8)
    """

    network: StormNetwork
    normalization: Normalization
    step_hours: float
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> StormConfig:
        """Return the network's description."""
        return self.network.config

    @property
    def grid(self) -> Grid:
        """Return the grid of its fields."""
        return self.network.grid

    def given(
        self,
        history: Tensor,
        *,
        error: Tensor | None = None,
        spectrum: Tensor | None = None,
        clock: Tensor | None = None,
    ) -> Conditioned:
        """Condition on each member's past.

        Args:
            history: Past frames in physical units, oldest first,
                (members, history, variables, *grid.shape).
            error: Expected error (1 sigma) of the last frame in physical units, (variables,) or
                (members, variables); 0 where the past is known exactly.
            spectrum: In its place, where the network has a law of motion: the spectrum of what is
                wrong after it has acted (`error_spectrum`), (variables, shells) or one for each
                member, in units of the normalised increment.
            clock: Calendar features of the present, (6,), where the network uses them.

        Returns:
            A denoiser for the present, one conditional for each member.

        Raises:
            ValueError: Not one of `error` and `spectrum`, or a spectrum where there is no law.
        """
        n = self.normalization
        z = n.to_z(history)
        level = self._level(z, error, spectrum)
        if clock is not None:
            clock = clock.to(z).expand(history.shape[0], -1)
        share = self.network.share
        with torch.no_grad():
            past = self.network.encode(share.cut(z), level, clock)
            past = replace(past, forecast=share.joined(past.forecast, invariant=True))
        return Conditioned(self.network, n, z[:, -1], past)

    def _level(self, z: Tensor, error: Tensor | None, spectrum: Tensor | None) -> Tensor:
        """Return what the network is told of the error of each member's past."""
        transport = self.network.transport
        if spectrum is not None and error is None and transport is not None:
            return spectrum.to(z).expand(len(z), *spectrum.shape[-2:])
        if error is None or spectrum is not None:
            raise ValueError(
                "error, spectrum: expected one of them, and an error where there is no law of "
                f"motion, got {_said(error)} and {_said(spectrum)}"
            )
        level = (error.to(z) / self.normalization.std.flatten()).expand(len(z), -1)
        return level if transport is None else transport.grown(level)

    def to(self, device: torch.device | str) -> Storm:
        """Return the prior on another device."""
        return Storm(
            self.network.to(device),
            self.normalization.to(device),
            self.step_hours,
            self.provenance,
        )

    def save(self, path: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write the prior to one file, atomically.

        Args:
            path: Where to.
            dtype: Type of the stored weights; torch.float16 halves the file.

        Raises:
            ValueError: Where ranks share the weights, so that this one has not all of them.
        """
        if any(split.comm.size > 1 for split in splits(self.network).values()):
            raise ValueError("prior: expected the weights of one process, got those of a rank")
        path = Path(path)
        tensors = {
            f"network.{k}": v.to("cpu", dtype if v.is_floating_point() else v.dtype).contiguous()
            for k, v in self.network.state_dict().items()
        }
        for name in ("mean", "std", "increment"):
            value = getattr(self.normalization, name)
            tensors[f"normalization.{name}"] = value.to("cpu", torch.float32).contiguous()
        header = {
            "config": to_dict(self.config),
            "grid": self.grid.to_dict(),
            "step_hours": self.step_hours,
            "provenance": dict(self.provenance),
        }
        partial = path.with_name(path.name + ".tmp")
        save_file(tensors, partial, {"format": FORMAT, "header": json.dumps(header)})
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | Path, *, mesh: StartedMesh | None = None) -> Storm:
        """Read a prior written by `save`, in float32 on the CPU.

        Args:
            path: The file.
            mesh: Ranks that share the network (axes `lat`, `lon` and `tensor`), all of which give
                it the same whole fields and get the same; None for one process.

        Raises:
            FileNotFoundError: Where there is no such file.
            ValueError: Where the file is not a prior, or is damaged.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"prior: expected a file, got {path}, which does not exist")
        try:
            with safe_open(str(path), framework="pt") as archive:
                metadata = archive.metadata() or {}
                if metadata.get("format") != FORMAT:
                    found = metadata.get("format")
                    raise ValueError(f"{path}: expected a {FORMAT} file, got format {found!r}")
                tensors = {k: _single(archive.get_tensor(k)) for k in archive.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{path}: expected a safetensors prior, got {error}") from error
        header = json.loads(metadata["header"])
        network = StormNetwork(
            from_dict(StormConfig, header["config"]),
            grid_from_dict(header["grid"]),
            valid=tensors.get("network.valid"),
            mesh=mesh,
        )
        try:
            take_up(network, _under(tensors, "network."))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        network.eval().requires_grad_(False)
        statistics = Normalization(**_under(tensors, "normalization."))
        return cls(network, statistics, header["step_hours"], header["provenance"])


@dataclass(frozen=True)
class Conditioned:
    """p(present | history of each member), as a denoiser.

    It satisfies `stormda.assimilation.Denoiser`. Its state is the departure of the normalised
    increments from the network's forecast, so that samples need not start at a noise level that
    drowns the whole increment, only its uncertainty. `to_physical` is the transform that
    observation operators need.
    """

    network: StormNetwork
    normalization: Normalization
    last: Tensor
    past: Encoded

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (channels, *grid.shape): variables, of several targets frame after frame."""
        return tuple(self.past.forecast.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the state."""
        return self.last.dtype

    @property
    def device(self) -> torch.device:
        """Return the device of the state."""
        return self.last.device

    def __call__(self, x: Tensor, sigma: Tensor | float, **context: object) -> Tensor:
        """Return the expected departure, given a noisy one."""
        del context
        share, sigma = self.network.share, torch.as_tensor(sigma, device=x.device)
        estimate: Tensor = self.network(share.enter(x), sigma, self.past)
        return share.joined(estimate, invariant=True)

    def shrink(self, states: Tensor, sigma: Tensor) -> Tensor:
        """Return the product with the covariance of a departure that is known but for noise.

        That of the Gaussian which the network starts from: no derivative of it is taken, and the
        covariance is a true one. See `stormda.assimilation.Climate`.
        """
        share, sigma = self.network.share, sigma.to(states).expand(len(states))
        estimate = self.network.gaussian(share.enter(states), sigma, self.past)
        return sigma.square().view(-1, *[1] * (states.ndim - 1)) * share.joined(
            estimate, invariant=True
        )

    def uncertainty(self) -> Tensor:
        """Return the typical size of a departure [physical units], like the state of a member."""
        with torch.no_grad():
            size = self.network.uncertainty(self.past).mean(0)
        n = self.normalization
        scale = torch.cat([n.std * n.increment] * self.network.config.targets)
        return scale * accumulated(size, len(n.std))

    def to_physical(self, departure: Tensor) -> Tensor:
        """Return the fields that departures mean [physical units]."""
        n = self.normalization
        z = from_increments(self.past.forecast + departure, self.last, n.increment)
        return n.to_x(frames_of(z, len(n.std))).flatten(1, 2)


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _said(x: Tensor | None) -> str:
    return "None" if x is None else f"{tuple(x.shape)}"


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
