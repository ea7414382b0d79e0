"""Damaged files: an error that says so, or right values; never a crash, a hang or another error.

Formats without checksums hold numbers that can change unseen: of a byte that was flipped we ask
for an error or values of the right shape, of a file that was cut for an error or the right values.
`tools/fuzz_fields.py` runs the same cases by the ten thousand.
"""

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SCRIPT = Path(__file__).parents[3] / "tools" / "fuzz_fields.py"
if not SCRIPT.exists():
    pytest.skip("tools/fuzz_fields.py is not beside the package", allow_module_level=True)
spec = importlib.util.spec_from_file_location("fuzz_fields", SCRIPT)
fuzz = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = fuzz  # dataclasses look their module up
spec.loader.exec_module(fuzz)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    return fuzz.originals(tmp_path_factory.mktemp("originals"))


# h5netcdf closes a file that it could not open, and fails where nobody can catch it
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(st.data())
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damage_is_refused_or_harmless(originals, tmp_path, data):
    original = originals[data.draw(st.sampled_from(range(len(originals))))]
    damage = fuzz.Damage(
        cut=data.draw(st.booleans()),
        places=tuple(data.draw(st.lists(st.floats(0, 1), min_size=1, max_size=4))),
        bits=data.draw(st.integers(1, 255)),
    )
    fuzz.check(original, damage, tmp_path / "damaged.nc")
