"""Programs of several processes, and what they share: run by tests, not collected as tests."""

collect_ignore = [
    "field_model.py",
    "interrupted_training.py",
    "many_meshes.py",
    "whole_machine.py",
    "windows.py",
]
