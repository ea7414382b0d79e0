"""Mappings of files that many people have, and the pattern for those that only you have.

Errors are not among them: what a network's errors are depends on what its observations are
compared with, so they are stated where observations are read (`error=`) or by `replace`.
"""

from __future__ import annotations

from stormda.io.mapping import ColumnMapping, Quantity
from stormda.io.quality import Quality

METAR_CSV = ColumnMapping(
    time="Unix_time",
    time_format="seconds since 1970-01-01",
    lat="Latitude",
    lon="Longitude",
    platform="ICAO",
    z="Elev",
    z_kind="height",
    z_units="m",
    quantities={
        "air_temperature": Quantity(column="Temp", units="degC"),
        "dew_point_temperature": Quantity(column="Dewp", units="degC"),
        "wind_speed": Quantity(column="Wspd", units="kt"),
        "wind_from_direction": Quantity(column="Wdir", units="degree"),
        "altimeter_setting": Quantity(column="Altimeter", units="inHg"),
    },
)
"""METAR reports as the decoders of NOAA write them: one row a report."""

_SAO_MISSING = (999.0, 9999.0, -9999.0)

SAO = ColumnMapping(
    time="time",
    time_format="%Y %m %d %H:%M %Z",
    lat="lat",
    lon="lon",
    platform="id",
    z="elev",
    z_kind="height",
    quantities={
        "air_temperature": Quantity(column="T", sentinels=_SAO_MISSING),
        "dew_point_temperature": Quantity(column="TD", sentinels=_SAO_MISSING),
        "air_pressure_at_mean_sea_level": Quantity(
            column="PSL", units="hPa", sentinels=_SAO_MISSING
        ),
        "altimeter_setting": Quantity(column="ALTIM", units="hPa", sentinels=_SAO_MISSING),
        "wind_speed": Quantity(column="SPD", sentinels=_SAO_MISSING),
        "wind_from_direction": Quantity(column="DIR", sentinels=_SAO_MISSING),
    },
)
"""Hourly surface reports (SAO and METAR) as the WXP decoders write them to NetCDF. A station
without a known elevation is refused."""

ARM_SONDE = ColumnMapping(
    lat="lat",
    lon="lon",
    z="pres",
    z_kind="pressure",
    quantities={
        "air_temperature": Quantity(column="tdry", units="degC"),
        "dew_point_temperature": Quantity(column="dp", units="degC"),
        "relative_humidity": Quantity(column="rh", units="%"),
        "eastward_wind": Quantity(column="u_wind", units="m s-1"),
        "northward_wind": Quantity(column="v_wind", units="m s-1"),
    },
)
"""Balloon soundings of the ARM facility (`sondewnpn`), placed where the balloon was."""

_ARM_CHECKS = {"0": Quality.GOOD, "*": Quality.BAD}

ARM_SURFACE = ColumnMapping(
    lat="lat",
    lon="lon",
    z="alt",
    z_kind="height",
    quantities={
        name: Quantity(column=column, quality_column=f"qc_{column}", quality_codes=_ARM_CHECKS)
        for name, column in {
            "surface_air_pressure": "atmos_pressure",
            "air_temperature": "temp_mean",
            "relative_humidity": "rh_mean",
            "wind_speed": "wspd_vec_mean",
            "wind_from_direction": "wdir_vec_mean",
        }.items()
    },
)
"""Surface meteorology of the ARM facility (`met`): any failed check is bad."""

ICOADS = ColumnMapping(
    time=("core:YR", "core:MO", "core:DY", "core:HR"),
    lat="core:LAT",
    lon="core:LON",
    platform="core:ID",
    encoding="cp1252",
    quantities={
        "air_temperature": Quantity(column="core:AT", units="degC"),
        "sea_surface_temperature": Quantity(column="core:SST", units="degC"),
        "air_pressure_at_mean_sea_level": Quantity(column="core:SLP", units="hPa"),
        "wind_speed": Quantity(column="core:W", units="m s-1"),
        "wind_from_direction": Quantity(column="core:D", units="degree", sentinels=(361, 362)),
    },
)
"""Ship and buoy reports of ICOADS release 3 as CSV with `section:field` columns; 361 is calm and
362 variable."""
