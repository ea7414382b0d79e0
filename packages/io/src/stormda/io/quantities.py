"""The quantities of the Earth system by the names that others give them.

One quantity, `t2m`, is `2m_temperature` in WeatherBench, `tas` in CMIP, `2t` at ECMWF and
`airTemperature` at a station of IODA. A name finds a variable of a file if exactly one is the same
quantity. Beside the names stands the range in which values have been observed, with room: a
temperature of 15 K is a temperature of 15 degrees Celsius that somebody labelled wrong.

Source: ECMWF parameter database; CF standard names v85; CMIP6 MIP tables; WeatherBench 2
(Rasp et al., 2024); IODA ObsSpace conventions v3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class PhysicalQuantity:
    """A quantity, its units and names."""

    key: str
    """The name that this package knows it by: ECMWF's in NetCDF."""

    units: str
    """Its SI units."""

    low: float
    """The smallest plausible value [units]."""

    high: float
    """The largest plausible value [units]."""

    standard_name: str
    """Its CF standard name."""

    aliases: tuple[str, ...] = ()
    """What others call it, in any case."""

    vector: bool = False
    """Whether it is a horizontal component, which changes its sign over a pole."""


def _quantity(
    key: str,
    units: str,
    low: float,
    high: float,
    standard: str,
    aliases: str = "",
    *,
    vector: bool = False,
) -> PhysicalQuantity:
    return PhysicalQuantity(key, units, low, high, standard, tuple(aliases.split()), vector)


_Q = _quantity
QUANTITIES: tuple[PhysicalQuantity, ...] = (
    _Q("t2m", "K", 170, 350, "air_temperature", "2t 2m_temperature tas t_2m airTemperatureAt2M"),
    _Q(
        "d2m",
        "K",
        150,
        330,
        "dew_point_temperature",
        "2d 2m_dewpoint_temperature tdps dewPointTemperature",
    ),
    _Q("t", "K", 140, 380, "air_temperature", "temperature ta air_temperature airTemperature"),
    _Q("skt", "K", 150, 380, "surface_temperature", "skin_temperature ts skinTemperature"),
    _Q(
        "sst",
        "K",
        265,
        320,
        "sea_surface_temperature",
        "sea_surface_temperature tos analysed_sst seaSurfaceTemperature",
    ),
    _Q(
        "u10",
        "m s-1",
        -120,
        120,
        "eastward_wind",
        "10u 10m_u_component_of_wind uas u_10m",
        vector=True,
    ),
    _Q(
        "v10",
        "m s-1",
        -120,
        120,
        "northward_wind",
        "10v 10m_v_component_of_wind vas v_10m",
        vector=True,
    ),
    _Q(
        "u",
        "m s-1",
        -250,
        250,
        "eastward_wind",
        "u_component_of_wind ua uwnd windEastward",
        vector=True,
    ),
    _Q(
        "v",
        "m s-1",
        -250,
        250,
        "northward_wind",
        "v_component_of_wind va vwnd windNorthward",
        vector=True,
    ),
    _Q(
        "w",
        "Pa s-1",
        -200,
        200,
        "lagrangian_tendency_of_air_pressure",
        "vertical_velocity wap omega",
    ),
    _Q(
        "msl",
        "Pa",
        85000,
        110000,
        "air_pressure_at_mean_sea_level",
        "mean_sea_level_pressure psl prmsl mslp pressureReducedToMeanSeaLevel",
    ),
    _Q(
        "sp",
        "Pa",
        30000,
        110000,
        "surface_air_pressure",
        "surface_pressure ps pressureSurface stationPressure",
    ),
    _Q("z", "m2 s-2", -12000, 900000, "geopotential", "geopotential phi"),
    _Q(
        "gh",
        "m",
        -1500,
        90000,
        "geopotential_height",
        "zg geopotential_height hgt z3 geopotentialHeight",
    ),
    _Q("q", "1", -0.01, 0.06, "specific_humidity", "specific_humidity hus shum specificHumidity"),
    _Q("r", "1", -0.3, 2.0, "relative_humidity", "relative_humidity hur relhum relativeHumidity"),
    _Q("tp", "m", -1e-3, 3.0, "precipitation_amount", "total_precipitation"),
    _Q("pr", "kg m-2 s-1", -1e-3, 0.2, "precipitation_flux", "precipitation_flux"),
    _Q(
        "tcwv",
        "kg m-2",
        -1,
        150,
        "atmosphere_mass_content_of_water_vapor",
        "total_column_water_vapour prw",
    ),
    _Q("tcc", "1", -0.01, 1.01, "cloud_area_fraction", "total_cloud_cover clt cloudAmount"),
    _Q("lsm", "1", -0.01, 1.01, "land_binary_mask", "land_sea_mask sftlf"),
    _Q("orog", "m", -12000, 9500, "surface_altitude", "orography surface_altitude"),
    _Q("sd", "m", -0.01, 60, "lwe_thickness_of_surface_snow_amount", "snow_depth swe"),
    _Q("siconc", "1", -0.01, 1.01, "sea_ice_area_fraction", "sea_ice_cover ci seaIceFraction"),
    _Q("sos", "1", -1, 60, "sea_water_salinity", "so sea_water_salinity salinity"),
    _Q(
        "swh",
        "m",
        -0.01,
        35,
        "sea_surface_wave_significant_height",
        "significant_height_of_combined_wind_waves_and_swell vhm0 hs waveHeightSignificant",
    ),
    _Q("mwd", "degree", -360, 720, "sea_surface_wave_from_direction", "mean_wave_direction vmdr"),
    _Q("mwp", "s", 0, 60, "sea_surface_wave_mean_period", "mean_wave_period"),
    _Q("rlut", "W m-2", -50, 500, "toa_outgoing_longwave_flux", "flut olr"),
)
"""What is known."""

_BY_NAME = {
    name.lower(): quantity for quantity in QUANTITIES for name in (quantity.key, *quantity.aliases)
}


def identify(name: str, standard_name: str = "") -> PhysicalQuantity | None:
    """Return the quantity that a variable's name or, if only one has it, standard name means.

    Examples:
        >>> identify("2m_temperature").key, identify("TAS").key, identify("x") is None
        ('t2m', 't2m', True)
        >>> identify("tC", "surface_temperature").key
        'skt'
    """
    named = _BY_NAME.get(name.lower())
    if named is not None and standard_name in ("", named.standard_name):
        return named
    alike = [quantity for quantity in QUANTITIES if quantity.standard_name == standard_name]
    if named is not None and not alike:
        return named
    return alike[0] if len(alike) == 1 else None


def same_quantity(name: str, variables: Iterable[tuple[str, str]]) -> list[str]:
    """Return which variables are the quantity that a name means.

    Args:
        name: A name of the quantity, or its standard name.
        variables: The name and the standard name of each.

    Examples:
        >>> same_quantity("2m_temperature", [("tas", "air_temperature"), ("ta", "")])
        ['tas']
        >>> same_quantity("air_temperature", [("tas", "air_temperature")])
        ['tas']
    """
    wanted, listed = _BY_NAME.get(name.lower()), list(variables)
    found = [n for n, standard in listed if wanted and identify(n, standard) == wanted]
    return found or [n for n, standard in listed if standard == name]
