"""Judging a run on frames that it does not learn from, and keeping the weights that do best.

What judges is a function of the averaged weights alone: its samples and its noise are the same
every time, so that differences are the weights'. A score may be a loss (`DenoisingLoss`) or what
comes out of assimilations (`trial.Trial`).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Protocol

import torch

from stormda.io import atomic_path
from stormda.parallel import PartsCheckpoint, open_parts, save_parts
from stormda.storm.files import FileHistories
from stormda.storm.objective import denoising_loss
from stormda.storm.shared_trunk import Task
from stormda.storm.streams import stream
from stormda.storm.training import Trainer
from stormda.storm.training_config import TrainingConfig

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
        task: The network of the run that is judged, and the weights of its cells.
        source: Samples of the validation period.
        config: Settings of the training.
    """

    columns = ("loss",)

    def __init__(self, task: Task, source: FileHistories, config: TrainingConfig) -> None:
        self.task, self.source = task, source
        share = task.network.share
        generator = stream(config.seed, VALIDATION)
        targets = source.targets.repeat(-(-LEAST_SAMPLES // len(source.targets)))
        batch = source.samples(targets, generator)
        device = batch.target.device
        self.sigma = config.noise.draw(len(targets), generator).to(device)
        noise = torch.randn(batch.target.shape, generator=generator).to(device)
        self.batch, self.noise = batch.cut(share), share.cut(noise)

    def __call__(self) -> tuple[float]:
        """Return the mean loss."""
        network = self.task.network
        with torch.no_grad():
            losses = denoising_loss(
                network,
                self.source.normalization,
                self.batch,
                self.sigma,
                self.noise,
                weight=self.task.weight,
            )
        return (float(network.share.comm.all_reduce(losses.mean())),)


class MeanOf:
    """What judges several sources with one trunk: the mean of their first scores decides.

    Scores are relative to what varies in each source, losses as well as errors in standard
    deviations: so sources of any units count alike.

    Args:
        judges: Of each source, by name, all with the same scores.

    Examples:
        >>> class Fixed:
        ...     columns = ("loss",)
        ...     def __init__(self, score):
        ...         self.score = score
        ...     def __call__(self):
        ...         return (self.score,)
        >>> both = MeanOf({"era5": Fixed(1.0), "sst": Fixed(3.0)})
        >>> both.columns, both()
        (('loss', 'era5_loss', 'sst_loss'), (2.0, 1.0, 3.0))
    """

    def __init__(self, judges: Mapping[str, Judge]) -> None:
        self.judges = dict(judges)
        first = next(iter(self.judges.values())).columns
        of_each = [f"{name}_{column}" for name in self.judges for column in first]
        self.columns = (first[0], *of_each)

    def __call__(self) -> tuple[float, ...]:
        """Return the mean of the first scores, then all of every source."""
        found = [judge() for judge in self.judges.values()]
        return (fmean(scores[0] for scores in found), *chain.from_iterable(found))


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
