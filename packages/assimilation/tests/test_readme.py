import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs(capsys) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, str(README), "exec"), {})
    crps, ratio = (float(line.split()[-1]) for line in capsys.readouterr().out.splitlines())
    assert 0 < crps < 0.56  # that of the prior, N(0, 1): 1 / sqrt(pi)
    assert 0.5 < ratio < 2
