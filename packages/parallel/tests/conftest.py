"""Programs of several processes, and what they share: run by tests, not collected as tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

collect_ignore = [
    "field_model.py",
    "interrupted_training.py",
    "laws_of_exchange.py",
    "many_meshes.py",
    "whole_machine.py",
    "windows.py",
]
