"""A law of motion that is learned: fields carried by winds that are linear in them.

    dz/dt = -J(psi, z) + A z + f,        psi = S z,        J(p, q) = p_x q_y - p_y q_x

Winds blow along a streamfunction psi; S and A are matrices (variables x variables) for every
wavenumber, f is a forcing of every row. Two-dimensional, quasi-geostrophic and surface
quasi-geostrophic turbulence on a doubly periodic plane move like this, each with numbers of its
own; here the numbers are fitted to pairs of states (`transport_fit`). A denoiser that starts from
where the law carries its past has to learn what the law does not tell: what is wrong with the
past, and what became of that.

Lengths are in radians of the longer side, time in intervals between frames. Products are free of
aliases by the 3/2 rule, time steps are fourth-order Runge-Kutta. S is known up to a multiple of
the identity, as J(z, z) = 0.

Source: quadratic operators learned from data, Peherstorfer and Willcox (2016), Comput. Methods
Appl. Mech. Engrg. 306; a learned correction upon a law of motion after Kochkov et al. (2024),
NeuralGCM, https://arxiv.org/abs/2311.07222; dealiasing, Orszag (1971), J. Atmos. Sci. 28.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from stormda.storm.error_spectrum import LEAST, bands
from stormda.storm.plane_waves import shell_sizes


def wavenumbers(rows: int, cols: int) -> tuple[Tensor, Tensor]:
    """Return (kx, ky) of the coefficients of `rfft2` in waves along the longer side.

    Examples:
        >>> [tuple(k.shape) for k in wavenumbers(4, 8)]
        [(5,), (4, 1)]
    """
    most = max(rows, cols)
    return most * torch.fft.rfftfreq(cols), most * torch.fft.fftfreq(rows)[:, None]


def knots(rows: int, cols: int) -> Tensor:
    """Return the wavenumbers that matrices are kept for: every one below 4, then whole numbers.

    Means fare like the longest waves.

    Examples:
        >>> knots(4, 12)
        tensor([1.0000, 2.0000, 3.0000, 3.1623, 3.6056, 4.0000, 5.0000, 6.0000, 7.0000,
                8.0000, 9.0000])
    """
    kx, ky = wavenumbers(rows, cols)
    squared = torch.unique((kx.square() + ky.square()).round())
    last = int(squared.max().sqrt().ceil())
    long = squared[(squared > 0) & (squared < 16)].sqrt()
    return torch.cat([long, torch.arange(4.0, last + 1)])


@dataclass(frozen=True)
class Law:
    """The numbers of a law of motion.

    Args:
        wind: S times the wavenumber, at every knot, (knots, variables, variables).
        rate: A at every knot, likewise.
        forcing: f, (variables, rows).
    """

    wind: Tensor
    rate: Tensor
    forcing: Tensor


@dataclass(frozen=True)
class Spectral:
    """A law as it acts on spectra of fields of one shape.

    Args:
        streamfunction: S of every wave, (variables, variables, rows, cols // 2 + 1).
        rate: A of every wave, likewise.
        forcing: Spectrum of f, (variables, rows, cols // 2 + 1).
        rows: Rows of the fields.
        cols: Columns of the fields.
    """

    streamfunction: Tensor
    rate: Tensor
    forcing: Tensor
    rows: int
    cols: int

    @classmethod
    def of(cls, law: Law, rows: int, cols: int) -> Self:
        """Return what a law does to fields of a shape."""
        kx, ky = (k.to(law.wind) for k in wavenumbers(rows, cols))
        k = torch.hypot(kx, ky).clamp_min(1.0)
        at = knots(rows, cols).to(law.wind)
        above = torch.searchsorted(at, k, right=True).clamp(1, len(at) - 1)
        share = (k - at[above - 1]) / (at[above] - at[above - 1])

        def every_wave(matrices: Tensor) -> Tensor:
            part = matrices.permute(1, 2, 0)
            return torch.lerp(part[..., above - 1], part[..., above], share)

        forcing = law.forcing[..., None].expand(-1, -1, cols)
        return cls(
            streamfunction=every_wave(law.wind) / k,
            rate=every_wave(law.rate),
            forcing=torch.fft.rfft2(forcing),
            rows=rows,
            cols=cols,
        )

    def tendency(self, z: Tensor) -> Tensor:
        """Return dz/dt as a spectrum, of a spectrum (batch, variables, rows, cols // 2 + 1)."""
        rows, cols = 3 * self.rows // 2, 3 * self.cols // 2
        psi = times(self.streamfunction, z)
        fine = padded(torch.stack([psi, z]), self.rows, self.cols)
        kx, ky = (1j * k.to(self.rate) for k in wavenumbers(rows, cols))
        p_x, q_x = torch.fft.irfft2(kx * fine, s=(rows, cols)).unbind()
        p_y, q_y = torch.fft.irfft2(ky * fine, s=(rows, cols)).unbind()
        carried = torch.fft.rfft2(p_x * q_y - p_y * q_x)
        return times(self.rate, z) + self.forcing - cut(carried, self.rows, self.cols)

    def advance(self, z: Tensor, steps: int, time: float = 1.0) -> Tensor:
        """Return fields after some time.

        Args:
            z: Fields, (batch, variables, rows, cols).
            steps: Runge-Kutta steps in that time.
            time: In intervals between frames.
        """
        y, dt = torch.fft.rfft2(z), time / steps
        for _ in range(steps):
            k1 = self.tendency(y)
            k2 = self.tendency(y + dt / 2 * k1)
            k3 = self.tendency(y + dt / 2 * k2)
            k4 = self.tendency(y + dt * k3)
            y = y + dt / 6 * (k1 + 2 * (k2 + k3) + k4)
        later: Tensor = torch.fft.irfft2(y, s=(self.rows, self.cols))
        return later


def times(matrices: Tensor, z: Tensor) -> Tensor:
    """Multiply the variables of every wave by its matrix."""
    return torch.einsum("vwrc,bwrc->bvrc", matrices.to(z.dtype), z)


def padded(spectrum: Tensor, rows: int, cols: int) -> Tensor:
    """Embed the spectra of fields (rows, cols), without their shortest waves, in 3/2 larger ones.

    Examples:
        >>> z = torch.cos(torch.arange(4.0)[:, None] * torch.pi / 2).expand(4, 4)
        >>> fine = padded(torch.fft.rfft2(z), 4, 4)
        >>> torch.fft.irfft2(fine, s=(6, 6))[:, 0]
        tensor([ 1.0000,  0.5000, -0.5000, -1.0000, -0.5000,  0.5000])
    """
    y, x = rows // 2, cols // 2
    fine_rows, fine_cols = 3 * rows // 2, 3 * cols // 2
    out = spectrum.new_zeros(*spectrum.shape[:-2], fine_rows, fine_cols // 2 + 1)
    out[..., :y, :x] = spectrum[..., :y, :x]
    out[..., 1 - y :, :x] = spectrum[..., 1 - y :, :x]
    return out * (fine_rows * fine_cols / (rows * cols))


def cut(spectrum: Tensor, rows: int, cols: int) -> Tensor:
    """Take spectra of fields (rows, cols) out of 3/2 larger ones: the inverse of `padded`."""
    y, x = rows // 2, cols // 2
    out = spectrum.new_zeros(*spectrum.shape[:-2], rows, x + 1)
    out[..., :y, :x] = spectrum[..., :y, :x]
    out[..., 1 - y :, :x] = spectrum[..., 1 - y :, :x]
    return out * (rows * cols / ((3 * rows // 2) * (3 * cols // 2)))


TOGETHER = 16
"""Samples that are carried on together: more only fill the memory."""


class Transport(nn.Module):
    """A fitted law that carries frames on; nothing of it is trained with the network.

    Args:
        shape: (variables, rows, cols), rows and columns even.
        steps: Runge-Kutta steps between two frames.

    Raises:
        ValueError: Rows or columns are odd.

    Examples:
        >>> still = Transport((1, 8, 8), steps=2)
        >>> z = torch.rand(3, 1, 8, 8)
        >>> torch.allclose(still(z, frames=1)[:, 1], z, atol=1e-6)
        True
    """

    wind: Tensor
    rate: Tensor
    forcing: Tensor
    growth: Tensor
    """Spectrum of what becomes of a past that is wrong by 1, (variables, shells)."""

    def __init__(self, shape: tuple[int, int, int], steps: int) -> None:
        super().__init__()
        variables, self.rows, self.cols = shape
        if self.rows % 2 or self.cols % 2:
            raise ValueError(f"transport: expected even rows and columns, got {shape[1:]}")
        self.steps = steps
        number = len(knots(self.rows, self.cols))
        self.register_buffer("wind", torch.zeros(number, variables, variables))
        self.register_buffer("rate", torch.zeros(number, variables, variables))
        self.register_buffer("forcing", torch.zeros(variables, self.rows))
        shells = len(shell_sizes(self.rows, self.cols))
        self.bands = bands(shells)
        self.register_buffer("growth", torch.ones(variables, shells))

    @property
    def law(self) -> Law:
        """Return the numbers of the law."""
        return Law(self.wind, self.rate, self.forcing)

    def set(self, law: Law) -> None:
        """Take the numbers of a fitted law."""
        self.wind.copy_(law.wind)
        self.rate.copy_(law.rate)
        self.forcing.copy_(law.forcing)

    def told(self, spectrum: Tensor) -> Tensor:
        """Return the size of errors in a few bands, (batch, variables * bands).

        Args:
            spectrum: From `error_spectrum`, (batch, variables, shells).
        """
        return spectrum[..., self.bands].sqrt().flatten(1)

    def grown(self, level: Tensor) -> Tensor:
        """Return the spectrum of what becomes of a past whose error has a size.

        Args:
            level: In standard deviations of each variable, (batch, variables).

        Returns:
            (batch, variables, shells).
        """
        return (level.square()[..., None] * self.growth).clamp_min(LEAST)

    def next_frame(self, z: Tensor) -> Tensor:
        """Return the frames after some (batch, variables, rows, cols)."""
        later: Tensor = self(z, frames=1)[:, 1]
        return later

    def forward(self, z: Tensor, frames: int) -> Tensor:
        """Return a frame and those that follow from it, not in bfloat16.

        Args:
            z: Normalised frames, (batch, variables, rows, cols).
            frames: How many follow.

        Returns:
            (batch, 1 + frames, variables, rows, cols).

        Raises:
            ValueError: Winds are too strong for the time step, or a frame is not finite.
        """
        with torch.autocast(z.device.type, enabled=False):
            acts = Spectral.of(self.law, self.rows, self.cols)
            parts = [self._course(acts, some, frames) for some in torch.split(z, TOGETHER)]
        course = torch.cat(parts)
        if not (good := course.isfinite().flatten(1).all(1)).all():
            raise ValueError(
                f"transport: expected frames that {self.steps} Runge-Kutta steps carry on, got "
                f"sample {int(good.long().argmin())} of {len(z)}, which they blow up"
            )
        return course

    def _course(self, acts: Spectral, z: Tensor, frames: int) -> Tensor:
        course = [z]
        for _ in range(frames):
            course.append(acts.advance(course[-1], self.steps))
        return torch.stack(course, 1)
