"""The arithmetic of HEALPix: numbers of cells to places on twelve square faces and back.

Each face holds `nside x nside` cells; on it `x` grows to the north-east and `y` to the north-west.
In nested order the bits of x and y interleave within a face; in ring order cells follow the
parallels from the North Pole on. All functions work on arrays of any shape, by bits and integers.

Source: Gorski et al. (2005), ApJ 622, 759, sections 4 and 5, https://arxiv.org/abs/astro-ph/0409513.
"""

from typing import NamedTuple

import numpy as np

from stormda.grid.axis import Floats, Ints

FACE_ROW = np.array([2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4])
"""The ring of the southern corner of each face [nside]."""

FACE_COL = np.array([1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7])
"""The longitude of the southern corner of each face [45 degrees]."""

NEXT_FACE = np.array(
    [
        [8, 9, 10, 11, -1, -1, -1, -1, 10, 11, 8, 9],
        [5, 6, 7, 4, 8, 9, 10, 11, 9, 10, 11, 8],
        [-1, -1, -1, -1, 5, 6, 7, 4, -1, -1, -1, -1],
        [4, 5, 6, 7, 11, 8, 9, 10, 11, 8, 9, 10],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
        [1, 2, 3, 0, 0, 1, 2, 3, 5, 6, 7, 4],
        [-1, -1, -1, -1, 7, 4, 5, 6, -1, -1, -1, -1],
        [3, 0, 1, 2, 3, 0, 1, 2, 4, 5, 6, 7],
        [2, 3, 0, 1, -1, -1, -1, -1, 0, 1, 2, 3],
    ]
)
"""The face beyond an edge or corner, by direction (south, south-east, east, south-west, none,
north-east, west, north-west, north) and face; -1 where only three faces meet."""

TURNS = np.array(
    [
        [0, 0, 3],
        [0, 0, 6],
        [0, 0, 0],
        [0, 0, 5],
        [0, 0, 0],
        [5, 0, 0],
        [0, 0, 0],
        [6, 0, 0],
        [3, 0, 0],
    ]
)
"""How the next face lies, by direction and belt of faces: bit 0 mirrors x, 1 y, 2 swaps them."""


class Place(NamedTuple):
    """Where cells lie on the faces."""

    x: Ints
    """Cells from the southern corner to the north-east, `0 ... nside - 1`."""

    y: Ints
    """Cells from the southern corner to the north-west, `0 ... nside - 1`."""

    face: Ints
    """The face: 0-3 in the north, 4-7 about the equator, 8-11 in the south; -1 for none."""


def _spread(bits: Ints) -> Ints:
    """Put a zero behind each of the lower 32 bits."""
    b = bits.astype(np.uint64)
    for shift, mask in _MASKS:
        b = (b | (b << np.uint64(shift))) & np.uint64(mask)
    return b.astype(np.int64)


def _gather(bits: Ints) -> Ints:
    """Take every second bit: the inverse of `_spread`."""
    b = bits.astype(np.uint64) & np.uint64(0x5555555555555555)
    for (shift, _), mask in zip(reversed(_MASKS), _GATHERED, strict=True):
        b = (b | (b >> np.uint64(shift))) & np.uint64(mask)
    return b.astype(np.int64)


_MASKS = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)
_GATHERED = (
    0x3333333333333333,
    0x0F0F0F0F0F0F0F0F,
    0x00FF00FF00FF00FF,
    0x0000FFFF0000FFFF,
    0x00000000FFFFFFFF,
)


def nested_from_place(nside: int, place: Place) -> Ints:
    """Return the nested numbers of cells.

    Examples:
        >>> nested_from_place(4, Place(np.array(3), np.array(0), np.array(1)))
        array(21)
    """
    return np.asarray(place.face * nside**2 + (_spread(place.x) | (_spread(place.y) << 1)))


def place_from_nested(nside: int, cell: Ints) -> Place:
    """Return where cells with nested numbers lie: the inverse of `nested_from_place`.

    Examples:
        >>> place_from_nested(4, np.array(21))
        Place(x=array(3), y=array(0), face=array(1))
    """
    face, inner = np.divmod(np.asarray(cell, np.int64), nside**2)
    return Place(np.asarray(_gather(inner)), np.asarray(_gather(inner >> 1)), np.asarray(face))


def ring_from_place(nside: int, place: Place) -> Ints:
    """Return the ring numbers of cells.

    Examples:
        >>> ring_from_place(1, Place(np.array(0), np.array(0), np.array(5)))
        array(5)
    """
    x, y, face = place
    ring = FACE_ROW[face] * nside - x - y - 1
    cap = np.minimum(np.minimum(ring, 4 * nside - ring), nside)  # a quarter of the ring's cells
    shift = np.where(cap == nside, (ring - nside) & 1, 0)
    north, south = 2 * ring * (ring - 1), 12 * nside**2 - 2 * (cap + 1) * cap
    belt = 2 * nside * (nside - 1) + (ring - nside) * 4 * nside
    start = np.where(ring < nside, north, np.where(ring > 3 * nside, south, belt))
    col = (FACE_COL[face] * cap + x - y + 1 + shift) // 2 - 1
    return np.asarray(start + col % (4 * nside))


def place_from_ring(nside: int, cell: Ints) -> Place:
    """Return where cells with ring numbers lie: the inverse of `ring_from_place`.

    Examples:
        >>> place_from_ring(1, np.array(5))
        Place(x=array(0), y=array(0), face=array(5))
    """
    cell = np.asarray(cell, np.int64)
    total, in_cap = 12 * nside**2, 2 * nside * (nside - 1)
    south = cell >= total - in_cap
    polar = np.where(south, total - 1 - cell, cell)  # counted from the nearer pole
    near = (1 + _root(1 + 2 * np.minimum(polar, in_cap))) >> 1
    row, col = np.divmod(cell - in_cap, 4 * nside)
    belt = (polar >= in_cap) & ~south
    ring = np.where(belt, row + nside, np.where(south, 4 * nside - near, near))
    cap = np.where(belt, nside, near)
    along = polar - 2 * near * (near - 1)
    col = np.where(belt, col, np.where(south, 4 * near - 1 - along, along)) + 1
    shift = np.where(belt, (ring + nside) & 1, 0)
    up = (col - (ring - nside + 1) // 2 + nside - 1) // nside
    down = (col - (3 * nside - ring + 1) // 2 + nside - 1) // nside
    middle = np.where(up == down, down | 4, np.where(down < up, down, up + 8))
    face = np.where(belt, middle, (col - 1) // cap + 8 * south)
    r = ring - FACE_ROW[face] * nside + 1
    c = 2 * col - FACE_COL[face] * cap - shift - 1
    c = np.where(c >= 2 * nside, c - 8 * nside, c)
    return Place(np.asarray((c - r) >> 1), np.asarray((-c - r) >> 1), np.asarray(face))


def _root(n: Ints) -> Ints:
    """Return the integer square root, exactly also where float64 rounds."""
    root = np.sqrt(n.astype(np.float64)).astype(np.int64)
    return root - (root**2 > n) + ((root + 1) ** 2 <= n)


def place_from_angles(nside: int, lat: Floats, lon: Floats) -> Place:
    """Return the cells that hold points.

    Args:
        nside: The cells along the edge of a face.
        lat: Latitudes [degrees_north], of any shape.
        lon: Longitudes [degrees_east], of the same shape.

    Examples:
        >>> place_from_angles(1, np.array(0.0), np.array(90.0)).face
        array(5)
    """
    z, quarter = np.sin(np.radians(lat)), np.mod(np.asarray(lon) / 90, 4)
    quarter = np.where(quarter >= 4, 0.0, quarter)  # a tiny negative longitude rounds up to 4
    belt = np.abs(z) <= 2 / 3
    rising = np.floor(nside * (0.5 + quarter - 0.75 * z)).astype(np.int64)
    falling = np.floor(nside * (0.5 + quarter + 0.75 * z)).astype(np.int64)
    a, b = rising // nside, falling // nside
    middle = np.where(a == b, a | 4, np.where(a < b, a, b + 8))
    sector = np.minimum(quarter.astype(np.int64), 3)
    far = nside * np.cos(np.radians(lat)) * np.sqrt(3 / (1 + np.abs(z)))  # sqrt(3 (1 - |z|))
    p = np.minimum((far * (quarter - sector)).astype(np.int64), nside - 1)
    m = np.minimum((far * (1 - quarter + sector)).astype(np.int64), nside - 1)
    north = z > 0
    x = np.where(belt, falling % nside, np.where(north, nside - 1 - m, p))
    y = np.where(belt, nside - 1 - rising % nside, np.where(north, nside - 1 - p, m))
    face = np.where(belt, middle % 12, np.where(north, sector, sector + 8))
    return Place(np.asarray(x), np.asarray(y), np.asarray(face))


def angles_from_place(
    nside: int, place: Place, offset: tuple[float, float] = (0.5, 0.5)
) -> tuple[Floats, Floats]:
    """Return latitude and longitude [degrees] of points in cells.

    Args:
        nside: The cells along the edge of a face.
        place: The cells.
        offset: Where in the cell, along x and y; its centre by default.

    Examples:
        >>> angles_from_place(1, Place(np.array(0), np.array(0), np.array(5)))
        (array(0.), array(90.))
    """
    x, y = (place.x + offset[0]) / nside, (place.y + offset[1]) / nside
    ring = FACE_ROW[place.face] - x - y  # from 0 at the North Pole to 4 at the South Pole
    cap = np.minimum(np.minimum(ring, 4 - ring), 1.0)
    lat = np.where(cap < 1, 90 - 2 * np.degrees(np.arcsin(cap / np.sqrt(6))), 0.0)
    lat = np.where(ring > 2, -lat, lat)
    belt = np.degrees(np.arcsin(np.clip((2 - ring) * 2 / 3, -1, 1)))
    eighth = FACE_COL[place.face] + np.divide(x - y, cap, out=np.zeros_like(cap), where=cap > 0)
    return np.where(cap < 1, lat, belt), np.asarray(np.mod(45 * eighth, 360))


def beyond(nside: int, x: Ints, y: Ints, face: Ints) -> Place:
    """Return the cells at places that may lie up to a face's width beyond the edge of a face.

    Args:
        nside: The cells along the edge of a face.
        x: Cells to the north-east, `-nside ... 2 nside - 1`.
        y: Cells to the north-west, in the same range.
        face: The face that x and y count from.

    Returns:
        The cells on their own faces; face -1 beyond the corners where only three faces meet.

    Examples:
        >>> beyond(4, np.array(4), np.array(1), np.array(0))
        Place(x=array(1), y=array(3), face=array(1))
    """
    direction = 4 + np.floor_divide(x, nside) + 3 * np.floor_divide(y, nside)
    x, y = np.mod(x, nside), np.mod(y, nside)
    target = NEXT_FACE[direction, face]
    turn = TURNS[direction, face >> 2]
    x = np.where(turn & 1, nside - 1 - x, x)
    y = np.where(turn & 2, nside - 1 - y, y)
    swap = (turn & 4) > 0
    return Place(np.where(swap, y, x), np.where(swap, x, y), np.asarray(target))


def rings(nside: int) -> tuple[Floats, Ints, Floats]:
    """Return the latitude, the number of cells and the first longitude of every ring.

    Returns:
        Latitudes (4 nside - 1,) [degrees_north], north to south; counts; first longitudes
        [degrees_east].

    Examples:
        >>> rings(1)
        (array([ 41.8103149,   0.       , -41.8103149]), array([4, 4, 4]), array([45.,  0., 45.]))
    """
    ring = np.arange(1, 4 * nside)
    cap = np.minimum(np.minimum(ring, 4 * nside - ring), nside)
    polar = 90 - 2 * np.degrees(np.arcsin(cap / (np.sqrt(6) * nside)))
    belt = np.degrees(np.arcsin(np.clip((2 * nside - ring) * 2 / (3 * nside), -1, 1)))
    lat = np.where(cap < nside, np.where(ring > 2 * nside, -polar, polar), belt)
    shifted = (cap < nside) | ((ring - nside) % 2 == 0)
    return lat, 4 * cap, np.where(shifted, 45 / cap, 0.0)
