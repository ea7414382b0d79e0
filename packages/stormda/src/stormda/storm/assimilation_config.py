"""How a prior is cycled through observations: every setting of `stormda assimilate`."""

from __future__ import annotations

from dataclasses import dataclass, field

from stormda.storm.filtering import FilterSettings


@dataclass(frozen=True, kw_only=True)
class AssimilationConfig:
    """How a prior is cycled through observations."""

    members: int = 16
    """Size of the ensemble."""

    seed: int = 0
    """Seed of all noise."""

    start: str | None = None
    """Time of the first analysis; None for one step after the history file ends."""

    end: str | None = None
    """Time of the last analysis; None for the last that an observation belongs to."""

    history_error: float = 0.0
    """Error of the history that every member is given at the start, white in space, in standard
    deviations of each variable."""

    gross: float = 5.0
    """Background check: largest departure from what is expected, in standard deviations."""

    inflation: float = 1.0
    """Factor on the prior's departures from its forecast (see `present`)."""

    filter: FilterSettings = field(
        default_factory=lambda: FilterSettings(
            error_factor=0.8, cohesion=0.5, steps=30, sigma_max=80.0
        )
    )
    """How every analysis is sampled. Structures of many cells show through noise that drowns each
    cell: fields smoother than turbulence need a large `sigma_max`, or their spread is lost."""

    def __post_init__(self) -> None:
        if self.members < 2:
            raise ValueError(f"members: expected at least 2, got {self.members}")
        if self.seed < 0:
            raise ValueError(f"seed: expected a number that is not negative, got {self.seed}")
        if self.history_error < 0:
            raise ValueError(
                f"history_error: expected a number that is not negative, got {self.history_error}"
            )
        for name in ("gross", "inflation"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
