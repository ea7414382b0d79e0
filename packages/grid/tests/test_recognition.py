"""Which grid is it: real files, facts from the literature, and what contradicts itself."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from stormda.grid import (
    CurvilinearGrid,
    HealpixGrid,
    LatLonGrid,
    Partition,
    Patching,
    PlaneGrid,
    PointGrid,
    ProjectedGrid,
    RotatedPole,
    classical,
    gaussian_latitudes,
    grid,
    octahedral,
    projected_grid,
    projection_from_mapping,
    recognise,
    unique_columns,
)
from stormda.grid.sphere import is_gaussian, unit_vectors

ROTATED = {
    "grid_mapping_name": "rotated_latitude_longitude",
    "grid_north_pole_latitude": 39.25,
    "grid_north_pole_longitude": -162.0,
}


def read(name):
    """Open a real file with its numbers as they are."""
    xarray = pytest.importorskip("xarray")
    folder = os.environ.get("STORMDA_DATA")
    if not folder:
        pytest.skip("STORMDA_DATA names no folder of real files")
    path = Path(folder, name)
    classic = path.read_bytes()[:3] == b"CDF"
    pytest.importorskip("scipy" if classic else "h5netcdf")
    engine = "scipy" if classic else "h5netcdf"
    return xarray.open_dataset(path, engine=engine, decode_cf=False)


@pytest.mark.parametrize("number", [32, 80, 320])
def test_the_classical_reduced_grids_have_the_published_numbers_of_points(number):
    """ECMWF, https://confluence.ecmwf.int/display/UDOC/Gaussian+grids."""
    published = {32: 6114, 80: 35_718, 320: 542_080}
    assert classical(number).shape == grid(f"n{number}").shape == (published[number],)


def test_octahedral_grids_have_the_published_numbers_of_points():
    """40,320 of AIFS (Lang et al., 2024); 6,599,680 of the IFS at 9 km (Malardel et al., 2016)."""
    assert grid("o96").shape == (40_320,)
    assert grid("o1280").shape == (6_599_680,)
    assert all(octahedral(n).shape[0] == 4 * n * (n + 9) for n in (1, 32, 48, 320))


def test_healpix_has_twelve_squares_of_nside_squared():
    """Gorski et al. (2005), section 4.1."""
    assert [grid(f"healpix{n}").shape[0] for n in (1, 64, 1024)] == [12, 49_152, 12_582_912]


def test_ecmwf_and_wmo_latitudes_are_gaussian_to_their_rounding():
    """The outermost latitudes of N32 and N640 as ECMWF lists them."""
    np.testing.assert_allclose(gaussian_latitudes(64)[0][:2], [87.863799, 85.096527], atol=1e-6)
    np.testing.assert_allclose(gaussian_latitudes(1280)[0][:2], [89.892396, 89.753005], atol=1e-6)


def test_t63_is_gaussian_to_4e_6_degrees():
    file = read("grid/mpiesm_tas_monthly_T63_2005H1.nc")
    g = recognise(file.lat.values, file.lon.values)
    assert isinstance(g, LatLonGrid)
    assert g.shape == (96, 192)
    assert g.periodic == (False, True)
    np.testing.assert_allclose(g.lat, gaussian_latitudes(96)[0][::-1], atol=4e-6)
    np.testing.assert_allclose(g.area.sum(), 1, rtol=1e-12)


def test_bounds_of_a_file_go_before_quadrature():
    """The two differ by up to 5.8 % near the poles; the global mean knows the difference."""
    file = read("grid/mpiesm_tas_monthly_T63_2005H1.nc")
    gauss = recognise(file.lat.values, file.lon.values)
    given = recognise(file.lat.values, file.lon.values, lat_bounds=file.lat_bnds.values)
    np.testing.assert_allclose(given.area.sum(), 1, rtol=1e-12)
    assert 0.05 < np.abs(given.area / gauss.area - 1).max() < 0.06
    tas = file.tas.values[0]
    np.testing.assert_allclose((gauss.area * tas).sum(), 285.437, atol=5e-4)


def test_the_gaussian_weights_of_ncep_are_those_of_quadrature():
    file = read("grid/ncep_climo_T42.nc")
    g = recognise(file.lat.values, file.lon.values)
    assert is_gaussian(g.lat)
    np.testing.assert_allclose(2 * g.area.sum(axis=1), file.gw.values, atol=2e-9)


@pytest.mark.parametrize(
    ("name", "lat", "lon", "shape", "borders"),
    [
        ("grid/oisst_v2_20040101.nc", "lat", "lon", (720, 1440), "pole at the edge"),
        ("grid/ncep_uwnd200_ltm.nc", "latitude", "longitude", (73, 144), "pole in the row"),
        ("grid/echam5_tsurf_6h_T63_20010101-05.nc", "lat", "lon", (96, 192), "pole at the edge"),
        (
            "ens/era5_eda_zt_3deg_20170101.nc",
            "latitude",
            "longitude",
            (61, 120),
            "pole in the row",
        ),
        ("static/landsea_1deg.nc", "lat", "lon", (180, 360), "pole at the edge"),
        ("grid/era5_conus_19950714T12.nc", "latitude", "longitude", (105, 237), "wall"),
        ("grid/era5_t2m_uk_hourly_20190301-16.nc", "latitude", "longitude", (33, 49), "wall"),
        ("static/orog_rotated_201x194.nc", "rlat", "rlon", (201, 194), "wall"),
    ],
)
def test_rows_and_columns_of_real_files_are_recognised(name, lat, lon, shape, borders):
    """Either order of latitudes, longitudes from 0 to 360 or from -180 to 180."""
    file = read(name)
    g = recognise(file[lat].values, file[lon].values)
    assert isinstance(g, LatLonGrid)
    assert (g.shape, g.borders[0][0].value) == (shape, borders)
    assert g.periodic == (False, borders != "wall")
    share = 1.0
    if borders == "wall":
        height = np.ptp(np.sin(np.radians(np.clip(g.rows.edges, -90, 90)))) / 2
        share = height * np.ptp(g.cols.edges) / 360
    np.testing.assert_allclose(g.area.sum(), share, rtol=1e-12)


def test_the_rotated_pole_of_a_file_is_its_grid():
    file = read("mesh/eur11_tas_rotated_412x424.nc")
    g = projected_grid(file.rotated_pole.attrs, file.rlat.values, file.rlon.values)
    assert g.shape == (412, 424)
    assert g.projection == RotatedPole(lat=39.25, lon=-162.0)
    # EUR-11: 21.99 W to 64.96 E, 21.99 N to 72.59 N (https://cordex.org), edges a cell further
    assert abs(g.lat.min() - 22) < 0.5
    assert abs(g.lat.max() - 72.6) < 0.5
    assert abs(g.lon.max() - 65) < 2


def test_a_mapping_that_contradicts_the_coordinates_is_refused():
    """A file of the same domain names the pole (18.0, -140.75), 21 degrees off its cells."""
    file = read("mesh/eur11_tas_rotated_412x424.nc")
    y, x = file.rlat.values[::8], file.rlon.values[::8]
    true = projected_grid(file.rotated_pole.attrs, y, x)
    wrong = ROTATED | {"grid_north_pole_latitude": 18.0, "grid_north_pole_longitude": -140.75}
    rounded = [c.astype(np.float32) for c in true.points]
    assert recognise(*rounded, declared=true) is true
    message = r"^declared: expected a grid that agrees with the coordinates, got one whose cell "
    with pytest.raises(ValueError, match=message):
        recognise(*rounded, declared=projected_grid(wrong, y, x))


def test_a_tripolar_ocean_is_recognised_with_its_corners():
    file = read("mesh/nemo_tos_201501_330x360.nc")
    corners = file.bounds_lat.values, file.bounds_lon.values
    g = recognise(file.nav_lat.values, file.nav_lon.values, corners=corners)
    assert isinstance(g, CurvilinearGrid)
    assert (g.shape, g.periodic) == ((330, 360), (False, True))
    # From the coast of Antarctica at 84 S up, no cell twice: 0.997 of the sphere lies north of it.
    south = np.sin(np.radians(corners[0].min()))
    np.testing.assert_allclose(g.area.sum(), (1 - south) / 2, atol=2e-3)
    lat, lon = g.lat[100:300:20, ::30].ravel(), g.lon[100:300:20, ::30].ravel()
    row, col = g.position(lat, lon)
    np.testing.assert_allclose(
        row.reshape(10, 12), np.arange(100, 300, 20)[:, None] + 0.0 * row[:12]
    )
    np.testing.assert_allclose(col.reshape(10, 12), np.arange(0, 360, 30) + 0.0 * col[:10, None])


@pytest.mark.filterwarnings("ignore:Duplicate dimension names present:UserWarning")
def test_a_cubed_sphere_covers_the_sphere():
    file = read("mesh/geos_cubed_sphere_c12.nc4")
    corners = file.corner_lats.values, file.corner_lons.values
    g = recognise(file.lats.values, file.lons.values, corners=corners)
    assert isinstance(g, PointGrid)
    assert g.shape == (864,)
    # Corners are float32 in the file, and faces round their common edges each for itself.
    np.testing.assert_allclose(g.area.sum(), 1, rtol=1e-7)
    assert g.triangles.whole
    faces = np.arange(864) // 144
    table = g.neighbours()
    across = faces[:, None] != np.where(table >= 0, faces[table], faces[:, None])
    assert len(np.unique(faces[across.any(1)])) == 6  # every face touches others


def test_coordinates_that_are_fill_values_are_refused():
    file = read("quirks/coords_fill_value_9e36.nc")
    with pytest.raises(
        ValueError, match=r"^lat: expected degrees in \[-90, 90\], got .* at index"
    ):
        recognise(file.latitude.values, file.longitude.values)


def test_points_in_no_order_are_points():
    lat, lon = [10, -20, 30, 5, 7], [0, 90, 10, 270, 300]
    assert recognise(lat, lon) == PointGrid(lat, lon)
    assert recognise([10, 20, 30, 40], [0, 90, 180, 270]) == LatLonGrid(
        [10, 20, 30, 40], [0, 90, 180, 270]
    )
    assert isinstance(recognise([10, 20, 30, 40], [0, 90, 180, 270], listed=True), PointGrid)


@pytest.mark.parametrize(
    "lon", [np.arange(0, 361, 5), np.r_[np.arange(-180, 185, 5)], [0, 120, 240, 0, 120]]
)
def test_columns_that_come_twice_are_dropped(lon):
    lon = np.asarray(lon, float)
    keep = unique_columns(lon)
    g = LatLonGrid([-45, 0, 45], lon[keep])
    assert g.periodic[1]
    assert len(g.lon) == {73: 72, 5: 3}[len(lon)]
    np.testing.assert_allclose(g.cols.edges[-1] - g.cols.edges[0], 360)


def test_nothing_is_dropped_where_no_column_comes_twice():
    lon = np.arange(-10.0, 10)
    assert unique_columns(lon) == slice(0, 20)
    assert unique_columns(grid("1deg").lon) == slice(0, 360)


@pytest.mark.parametrize(
    ("attributes", "at"),
    [
        (
            {
                "grid_mapping_name": "lambert_conformal_conic",
                "standard_parallel": [38.5, 38.5],
                "latitude_of_projection_origin": 38.5,
                "longitude_of_central_meridian": 262.5,
                "earth_radius": 6371229.0,
            },
            (38.5, -97.5),
        ),
        (
            {
                "grid_mapping_name": "polar_stereographic",
                "straight_vertical_longitude_from_pole": -45.0,
                "latitude_of_projection_origin": 90.0,
                "standard_parallel": 70.0,
            },
            (90.0, 0.0),
        ),
    ],
)
def test_mappings_in_metres_make_grids(attributes, at):
    metres = np.arange(-4e5, 4.1e5, 1e5)
    g = projected_grid(attributes, metres, metres)
    assert isinstance(g, ProjectedGrid)
    centre = g.lat[4, 4], g.lon[4, 4]
    np.testing.assert_allclose(unit_vectors(*centre), unit_vectors(*at), atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: recognise(np.zeros((2, 3)), np.zeros((3, 2))),
            r"lat, lon: expected 1-D, or both of one 2-D or 3-D shape, got \(2, 3\) and \(3, 2\)",
        ),
        (
            lambda: recognise(*np.meshgrid([0, 1, 2], [5, 6])),
            "lat, lon: expected rows along parallels, got rows along meridians: transpose the "
            "coordinates and the fields",
        ),
        (
            lambda: recognise([0, 1, 2], [5, 6], declared=grid("o8")),
            r"declared: expected shape \(3, 2\), got \(544,\)",
        ),
        (
            lambda: recognise(*HealpixGrid(2).points, declared=grid("healpix2-ring")),
            r"declared: expected a grid that agrees with the coordinates, got one whose cell "
            r"\(\d+,\) lies at .*, where lat, lon say .*",
        ),
        (
            lambda: projection_from_mapping({"grid_mapping_name": "mercator"}),
            "grid_mapping_name: expected one of rotated_latitude_longitude, "
            "lambert_conformal_conic, polar_stereographic, got 'mercator'; other projections can "
            "be passed as objects with `forward` and `inverse`",
        ),
        (
            lambda: projection_from_mapping({"grid_mapping_name": "rotated_latitude_longitude"}),
            "grid_mapping: expected the attribute 'grid_north_pole_latitude' of "
            "rotated_latitude_longitude",
        ),
        (
            lambda: projection_from_mapping(
                {
                    "grid_mapping_name": "polar_stereographic",
                    "straight_vertical_longitude_from_pole": 0.0,
                    "semi_major_axis": 6378137.0,
                    "inverse_flattening": 298.25,
                }
            ),
            "grid_mapping: expected a spherical Earth, got an ellipsoid; pass a projection "
            "object, such as a wrapper of pyproj",
        ),
        (
            lambda: projected_grid(
                {
                    "grid_mapping_name": "polar_stereographic",
                    "straight_vertical_longitude_from_pole": 0.0,
                },
                [2.0, 1.0],
                [1.0, 2.0],
            ),
            r"y: expected increasing, evenly spaced metres \(n,\), n >= 2",
        ),
    ],
)
def test_what_makes_no_grid_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()


@dataclass(frozen=True)
class Proj:
    """A projection that this package does not have."""

    text: str

    def forward(self, lat, lon):
        x, y = pytest.importorskip("pyproj").Proj(self.text)(lon, lat)
        return np.asarray(y), np.asarray(x)

    def inverse(self, first, second):
        lon, lat = pytest.importorskip("pyproj").Proj(self.text)(second, first, inverse=True)
        return np.asarray(lat), np.asarray(lon)


def test_any_projection_will_do():
    """The equal-area domain of MOGREPS-UK, on its ellipsoid."""
    file = read("ens/mogreps_uk_t15m_12mem_20181101.nc")
    y, x = file.projection_y_coordinate.values, file.projection_x_coordinate.values
    base = PlaneGrid(
        (len(y), len(x)), (float(y[1] - y[0]), float(x[1] - x[0])), (False, False), (y[0], x[0])
    )
    g = ProjectedGrid(base, Proj("+proj=laea +lat_0=54.9 +lon_0=-2.5 +a=6378137 +b=6356752.3142"))
    row, col = g.position(*g.points)
    np.testing.assert_allclose(row - np.arange(len(y))[:, None], 0, atol=1e-6)
    np.testing.assert_allclose(col - np.arange(len(x)), 0, atol=1e-6)
    # Equal areas on the ellipsoid are within 2/3 of a percent of equal on the sphere.
    np.testing.assert_allclose(g.area, g.area.mean(), rtol=7e-3)


def test_tokens_are_read_of_a_lazy_file():
    """Only the rows of the tokens are loaded from xarray's array of the file."""
    file = read("grid/era5_t2m_uk_hourly_20190301-16.nc")
    patching = Patching(recognise(file.latitude.values, file.longitude.values), (4, 4))
    name = next(n for n in file.data_vars if file[n].ndim == 3)
    lazy = file[name].expand_dims("variable", 1)
    whole = patching.patchify(file[name].values[:, None])
    start, stop = Partition.of(patching, 10, frames=len(lazy)).bounds(7)
    np.testing.assert_array_equal(patching.read(lazy, start, stop), whole[start:stop])
