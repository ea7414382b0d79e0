"""Everything that takes a prior works where the prior is on another device than the files."""

import subprocess
import sys
from pathlib import Path


def test_commands_on_a_device_have_the_numbers_of_the_cpu(tmp_path: Path) -> None:
    """On a device that is not there (`elsewhere.py`): no GPU is needed, and none is proved."""
    program = Path(__file__).with_name("on_a_device.py")
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
