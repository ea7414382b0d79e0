import errno
import os

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stormda.io import guarded_file as module
from stormda.io.guarded_file import guarded_file


def write(path):
    x = np.arange(10_000.0).reshape(100, 100)
    with guarded_file(path, "w+b") as raw, h5py.File(raw, "w") as file:
        file.create_dataset("x", data=x, chunks=(1, 100))
    return x


def test_a_file_that_goes_to_the_disk_while_it_is_written(tmp_path, monkeypatch):
    flushed = []
    fsync = os.fsync
    monkeypatch.setattr(module, "EARLY", 10_000)
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(fsync(number)))
    x = write(tmp_path / "a.h5")
    assert flushed
    with h5py.File(tmp_path / "a.h5") as file:
        assert_array_equal(file["x"], x)


def test_an_early_error_of_the_disk_is_raised(tmp_path, monkeypatch):
    def fails(number):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module, "EARLY", 10_000)
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match=r"Input/output error: '.*a\.h5'$"):
        write(tmp_path / "a.h5")
