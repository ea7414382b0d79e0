"""What the columns of a file mean, declared once and then read from any kind of file.

A column is one of a CSV or Parquet file, or a variable of a NetCDF or HDF5 file, there with its
path in the groups (`"ObsValue/airTemperature"`). Columns along several dimensions are spread out:
a time for each profile is repeated on all its levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stormda.io.observations import VERTICALS, Vertical
from stormda.io.quality import Quality
from stormda.io.units import Unit, parse_unit


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One measured quantity in a file's columns."""

    column: str
    """The column of the values."""

    units: str = ""
    """The units of the column, converted to SI; empty for those that the file states, if any."""

    error: float | None = None
    """One standard deviation of the error, in `units`; None if unknown."""

    error_column: str | None = None
    """The column of one standard deviation, in `units`; instead of `error`."""

    sentinels: tuple[float, ...] = ()
    """Numbers that stand for a missing value, such as -9999."""

    quality_column: str | None = None
    """The column of the codes that say how good the values are."""

    quality_codes: Mapping[str, Quality] = field(default_factory=dict)
    """What these codes mean; `"*"` for all that are not named."""

    label: str | None = None
    """In a long table, where `ColumnMapping.label` says what a row measured: the rows to read."""

    def __post_init__(self) -> None:
        """Refuse errors that are not positive or stated twice, and unknown units."""
        if self.error is not None and not self.error > 0:
            raise ValueError(f"error: expected a positive standard deviation, got {self.error}")
        if self.error is not None and self.error_column is not None:
            raise ValueError("error: expected either error or error_column, got both")
        if (self.quality_column is None) != (not self.quality_codes):
            raise ValueError(
                "quality_codes: expected with quality_column, got "
                f"{dict(self.quality_codes)} with {self.quality_column!r}"
            )
        parse_unit(self.units)

    @property
    def unit(self) -> Unit | None:
        """The conversion to SI; None to leave the values as they are."""
        return parse_unit(self.units) if self.units else None

    @property
    def columns(self) -> list[str]:
        """The columns that a file must have."""
        named = (self.column, self.error_column, self.quality_column)
        return [column for column in named if column is not None]


@dataclass(frozen=True, kw_only=True)
class ColumnMapping:
    """What the columns of a file mean.

    Examples:
        >>> metar = ColumnMapping(
        ...     time="Unix_time", lat="Latitude", lon="Longitude", platform="ICAO",
        ...     time_format="seconds since 1970-01-01",
        ...     quantities={"temperature": Quantity(column="Temp", units="degC", error=1.0)})
        >>> metar.quantities["temperature"].unit.si
        'K'
    """

    quantities: Mapping[str, Quantity]
    """What is measured, by the name it gets in the table."""

    time: str | tuple[str, ...] = "time"
    """The column of the time. Several are joined by blanks where there is a `time_format`;
    else they are the numbers of year, month, day and, if given, hour, minute, second."""

    lat: str | None = None
    """The column of the latitude [degrees_north]."""

    lon: str | None = None
    """The column of the longitude [degrees_east]."""

    y: str | None = None
    """The column of the position on a plane [m], instead of `lat`."""

    x: str | None = None
    """The column of the position on a plane [m], instead of `lon`."""

    stations: Mapping[str, tuple[float, float]] | None = None
    """The latitude and longitude of each platform, instead of `lat` and `lon`."""

    z: str | None = None
    """The column of height, depth or pressure."""

    z_kind: Vertical = ""
    """What `z` is."""

    z_units: str = ""
    """The units of `z`, converted to m or Pa; empty for those that the file states."""

    channel: str | None = None
    """The column of the channel's number."""

    platform: str | None = None
    """The column that names who measured."""

    label: str | None = None
    """In a long table, the column that says what a row measured."""

    time_format: str | None = None
    """None for ISO 8601, a format of `datetime.strptime`, or CF units such as
    `"seconds since 1970-01-01"`. Times without a zone are UTC."""

    delimiter: str = ","
    """What separates the columns of a text."""

    comment: str | None = None
    """What starts a line of a text to be skipped, such as `"#"`."""

    encoding: str = "utf-8-sig"
    """How a text is encoded; `"cp1252"` for files from old Windows programs."""

    def __post_init__(self) -> None:
        """Refuse a mapping without quantities, one pair of coordinates or the kind of height."""
        if not self.quantities:
            raise ValueError("quantities: expected at least one, got none")
        places = ("lat", "lon", "y", "x", "stations")
        given = [name for name in places if getattr(self, name) is not None]
        if given not in (["lat", "lon"], ["y", "x"], ["stations"]):
            raise ValueError(
                f"coordinates: expected lat and lon, y and x, or stations, got {given}"
            )
        if self.stations is not None and self.platform is None:
            raise ValueError("platform: expected the column of the stations' names, got none")
        if (self.z is None) != (self.z_kind == "") or self.z_kind not in VERTICALS:
            raise ValueError(
                f"z_kind: expected one of {[*VERTICALS[1:]]} with z, got {self.z_kind!r} "
                f"with {self.z!r}"
            )
        if len(self.times) > 1 and self.time_format is None and not 3 <= len(self.times) <= 6:
            raise ValueError(
                "time: expected columns of year, month, day and up to hour, minute, second, "
                f"got {self.times}"
            )
        if len(self.delimiter) != 1:
            raise ValueError(f"delimiter: expected one character, got {self.delimiter!r}")
        labels = [name for name, q in self.quantities.items() if q.label is not None]
        if labels and self.label is None:
            raise ValueError(f"label: expected the column of the labels of {labels}, got none")

    @property
    def times(self) -> tuple[str, ...]:
        """The columns of the time."""
        return (self.time,) if isinstance(self.time, str) else self.time

    @property
    def columns(self) -> list[str]:
        """The columns that a file must have, each once."""
        own = (*self.times, self.lat, self.lon, self.y, self.x, self.z, self.channel)
        named = (*own, self.platform, self.label)
        measured = [column for q in self.quantities.values() for column in q.columns]
        return [*dict.fromkeys([c for c in named if c is not None] + measured)]
