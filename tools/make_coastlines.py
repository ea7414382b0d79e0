"""Make the coastlines of the maps from Natural Earth's land polygons (public domain).

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    python tools/make_coastlines.py package/land-50m.json

The file holds polylines in hundredths of a degree, as differences: what compresses best.
"""

import json
import sys
from pathlib import Path

import numpy as np

OUT = Path(__file__).parents[1] / "packages/stormda/src/stormda/storm/data/coastlines.npz"
SHORTEST = 0.3
"""Extent of the smallest island that is kept [degrees]."""


def arcs(topology: dict) -> list[np.ndarray]:
    """Return the lines of a TopoJSON file in degrees east and north, each (n, 2)."""
    scale, move = (np.array(topology["transform"][key]) for key in ("scale", "translate"))
    return [np.cumsum(np.array(arc), axis=0) * scale + move for arc in topology["arcs"]]


def without_frame(line: np.ndarray) -> list[np.ndarray]:
    """Cut a line where it follows or crosses the date line or the pole, which are no coasts."""
    frame = (np.abs(line[:, 0]) > 179.98) | (line[:, 1] < -89.5)
    artificial = (frame[1:] & frame[:-1]) | (np.abs(np.diff(line[:, 0])) > 180)
    pieces = np.split(line, np.flatnonzero(artificial) + 1)
    return [piece for piece in pieces if len(piece) > 1]


def main(source: str) -> None:
    """Write the file."""
    lines = [
        piece
        for line in arcs(json.loads(Path(source).read_text("utf-8")))
        for piece in without_frame(line)
        if np.ptp(piece, axis=0).max() > SHORTEST
    ]
    whole = [np.round(100 * line).astype(np.int32) for line in lines]
    kept = [line[np.r_[True, np.any(np.diff(line, axis=0), axis=1)]] for line in whole]
    steps = [np.diff(line, axis=0, prepend=0) for line in kept]
    OUT.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        OUT,
        steps=np.concatenate(steps).astype(np.int16),
        lengths=np.array([len(line) for line in kept], np.int32),
    )
    print(f"{len(kept)} lines, {sum(map(len, kept))} points, {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1])
