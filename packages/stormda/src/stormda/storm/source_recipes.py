"""The recipe of several sources of fields: that of each, and how much of a batch each has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from stormda.storm.real_recipes import FileRecipe, fields
from stormda.storm.training_config import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class MultiSourceRecipe:
    """Priors of several sources with one trunk."""

    sources: Mapping[str, FileRecipe]
    """The recipe of each; trunk and training are the same in all."""

    shares: Mapping[str, float] = field(default_factory=dict)
    """How much of a batch is each source's; where none is said, 1."""

    def __post_init__(self) -> None:
        if len(self.sources) < 2:
            raise ValueError(f"sources: expected at least 2, got {list(self.sources)}")
        if bad := [name for name in self.sources if not name.replace("-", "_").isidentifier()]:
            raise ValueError(f"sources: expected names of letters, digits, - and _, got {bad}")
        if unknown := sorted(set(self.shares) - set(self.sources)):
            raise ValueError(f"shares: expected names of {list(self.sources)}, got {unknown}")
        if not all(share > 0 for share in self.shares.values()):
            raise ValueError(f"shares: expected positive numbers, got {dict(self.shares)}")
        for name, recipe in self.sources.items():
            if recipe.training != self.training:
                raise ValueError(f"{name}: expected the training of the first source, got another")
            if recipe.coarsening > 1:
                raise ValueError(f"{name}: expected no coarsening, got {recipe.coarsening}")
        self._check_judged("validate_every", lambda one: one.validate_every)
        self._check_judged("trial.patience", lambda one: one.trial.patience)
        tried = {name: one for name, one in self.judged.items() if one.trial.every}
        if len({one.trial.every for one in tried.values()}) > 1:
            raise ValueError(
                "trial.every: expected one number, or 0, for all sources, got "
                f"{ {name: one.trial.every for name, one in tried.items()} }"
            )

    def _check_judged(self, name: str, of: Callable[[FileRecipe], int]) -> None:
        """Refuse sources that are judged in different ways."""
        found = {source: of(recipe) for source, recipe in self.judged.items()}
        if len(set(found.values())) > 1:
            raise ValueError(f"{name}: expected one number for all sources, got {found}")

    @property
    def judged(self) -> dict[str, FileRecipe]:
        """Return the sources with a validation period."""
        return {name: r for name, r in self.sources.items() if r.split.validation_hours}

    @property
    def judging(self) -> FileRecipe:
        """Return a recipe that says how often a run is judged, and with what patience."""
        tried = [recipe for recipe in self.judged.values() if recipe.trial.every]
        return next(iter([*tried, *self.judged.values(), *self.sources.values()]))

    @property
    def training(self) -> TrainingConfig:
        """Return how all are fitted."""
        return next(iter(self.sources.values())).training

    @property
    def batches(self) -> dict[str, int]:
        """Return how many samples of a batch are each source's.

        Examples:
            >>> from dataclasses import replace
            >>> two = {"era5": ("t2m",), "sst": ("sst",)}
            >>> replace(multi_source(two), shares={"era5": 3.0}).batches
            {'era5': 48, 'sst': 16}
        """
        shares = [self.shares.get(name, 1.0) for name in self.sources]
        ends = [round(self.training.batch * sum(shares[:i]) / sum(shares))
                for i in range(len(shares) + 1)]  # fmt: skip
        return {
            name: stop - start
            for name, start, stop in zip(self.sources, ends[:-1], ends[1:], strict=True)
        }


def multi_source(
    sources: Mapping[str, tuple[str, ...]],
    *,
    start: Callable[[tuple[str, ...]], FileRecipe] = fields,
) -> MultiSourceRecipe:
    """Return the starting point for several sources: the same recipe for each, with one trunk.

    What the sources differ in is set with `dataclasses.replace`: patches, larger where a grid is
    finer, so that tokens are of one size; periods; errors.

    Args:
        sources: The variables of each source, by its name.
        start: The recipe, one of `FILE_RECIPES`.
    """
    return MultiSourceRecipe(sources={name: start(names) for name, names in sources.items()})
