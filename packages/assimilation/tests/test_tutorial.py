"""The tutorial is a program: its blocks run in order, and its own assertions judge them."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "assimilation.md"


def test_the_tutorial_runs(capsys) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 7
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert "'missing': 1" in capsys.readouterr().out
