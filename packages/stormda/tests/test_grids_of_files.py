import re

import numpy as np
import pytest

from stormda.grid import CurvilinearGrid
from stormda.io import open_store, write_fields
from stormda.storm.frames import grid_of


def test_grids_that_the_network_does_not_know(tmp_path):
    lat, lon = np.meshgrid(np.arange(40.0, 43), np.arange(0.0, 4), indexing="ij")
    grid = CurvilinearGrid(lat + 0.1 * lon, lon - 0.1 * lat)
    write_fields(
        tmp_path / "a.nc",
        {"t": np.full((1, 3, 4), 280.0)},
        times=["2000-01-01"],
        grid=grid,
        attributes={"t": {"units": "K"}},
    )
    store = open_store(tmp_path / "a.nc")
    message = f"{tmp_path}/a.nc: expected a latitude-longitude grid or a plane, got {grid!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        grid_of(store)
