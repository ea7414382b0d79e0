"""Judging a run on frames that it does not learn from, and keeping the weights that do best.

What judges is a function of the averaged weights alone: its samples and its noise are the same
every time, so that differences are the weights'. A score may be a loss (`DenoisingLoss`) or what
comes out of assimilations (`trial.Trial`).
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Protocol

import torch

from stormda.io import atomic_path
from stormda.parallel import PartsCheckpoint, open_parts, save_parts
from stormda.storm.files import FileHistories
from stormda.storm.objective import denoising_loss
from stormda.storm.streams import stream
from stormda.storm.training import Trainer

VALIDATION = 3
"""What random numbers are for, beside those of `files`."""

LEAST_SAMPLES = 256
"""Samples of a loss; those of a short period are taken more than once, each with other noise."""


class Judge(Protocol):
    """Gives scores to the weights that a run's network has at the moment."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the scores; the first decides, and the smaller it is the better."""
        ...

    def __call__(self) -> tuple[float, ...]:
        """Return the scores, the same on every rank."""
        ...


class DenoisingLoss:
    """The objective of the training, on fixed samples at fixed noise.

    Args:
        trainer: The run.
        source: Samples of the validation period.
    """

    columns = ("loss",)

    def __init__(self, trainer: Trainer, source: FileHistories) -> None:
        self.trainer, self.source = trainer, source
        config, share = trainer.config, trainer.network.share
        generator = stream(config.seed, VALIDATION)
        targets = source.targets.repeat(-(-LEAST_SAMPLES // len(source.targets)))
        batch = source.samples(targets, generator)
        device = batch.target.device
        self.sigma = config.noise.draw(len(targets), generator).to(device)
        noise = torch.randn(batch.target.shape, generator=generator).to(device)
        self.batch, self.noise = batch.cut(share), share.cut(noise)

    def __call__(self) -> tuple[float]:
        """Return the mean loss."""
        trainer = self.trainer
        with torch.no_grad():
            losses = denoising_loss(
                trainer.network,
                self.source.normalization,
                self.batch,
                self.sigma,
                self.noise,
                weight=trainer.weight,
            )
        return (float(trainer.network.share.comm.all_reduce(losses.mean())),)


class Validation:
    """The scores of a run, noted in a file, and the weights of the best.

    Args:
        judge: Gives the scores.
        trainer: The run, at the step where it starts or goes on; what was noted of later steps is
            forgotten.
        record: Where scores are noted, a CSV file.
        every: Steps between two judgements; the last step is judged too.
        best: The folder for the best weights; None keeps none.
    """

    def __init__(
        self, judge: Judge, trainer: Trainer, record: Path, *, every: int, best: Path | None = None
    ) -> None:
        self.judge, self.trainer, self.record = judge, trainer, record
        self.every, self.best = every, best
        self.scores = self._taken_up(trainer.step)

    def follow(self, step: int) -> None:
        """Judge the averaged weights of a step, if it is due, and keep them if they are best."""
        if step % self.every and step != self.trainer.config.steps:
            return
        with self.trainer.averaging():
            found = self.judge()
        smallest = min(self.scores, default=float("inf"))
        if self.best is not None and found[0] < smallest:
            parts = self.trainer.averaged_parts()
            save_parts(self.best, step, parts, mesh=self.trainer.mesh, keep=1)
        self.scores.append(found[0])
        if self.trainer.mesh.rank == 0:
            with self.record.open("a", newline="") as file:
                csv.writer(file).writerow([step, *map(repr, found)])

    def stale(self, patience: int) -> bool:
        """Return whether the last `patience` judgements brought nothing better; 0 is never."""
        before, last = self.scores[:-patience], self.scores[-patience:]
        return bool(patience and before) and min(last) >= min(before)

    def checkpoint(self) -> PartsCheckpoint:
        """Return the best weights.

        Raises:
            FileNotFoundError: Where none are kept.
        """
        if self.best is None:
            raise FileNotFoundError("best: expected a folder with weights, got None")
        return open_parts(self.best, comm=self.trainer.mesh.world)

    def _taken_up(self, step: int) -> list[float]:
        """Drop what was noted after a step, and return the deciding scores of the rest."""
        header, rows = ["step", *self.judge.columns], []
        if self.record.is_file():
            rows = list(csv.reader(self.record.read_text().splitlines()))[1:]
        rows = [row for row in rows if int(row[0]) <= step]
        self.trainer.mesh.world.barrier()  # all have read before one writes
        if self.trainer.mesh.rank == 0:
            with atomic_path(self.record, overwrite=True) as path, path.open("w", newline="") as f:
                csv.writer(f).writerows([header, *rows])
        return [float(row[1]) for row in rows]
