"""Run the Python examples of Markdown files, as a reader would: `run_examples.py README.md ...`.

A block of prompts is a doctest; any other is a program. Blocks of one file share their names, and
each file runs in a folder of its own.
"""

import doctest
import os
import re
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run(path: Path) -> int:
    """Run the blocks of a file; return how many there were."""
    names: dict[str, object] = {"__name__": "__main__"}
    found = BLOCK.findall(path.read_text("utf-8"))
    for text in found:
        if ">>>" in text:
            test = doctest.DocTestParser().get_doctest(text, names, path.name, str(path), 0)
            outcome = doctest.DocTestRunner().run(test, clear_globs=False)
            if outcome.failed:
                sys.exit(f"{path}: {outcome.failed} examples failed")
        else:
            exec(compile(text, str(path), "exec"), names)
    return len(found)


if __name__ == "__main__":
    for path in [Path(name).resolve() for name in sys.argv[1:]]:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            count = run(path)
            os.chdir("/")
        if not count:
            sys.exit(f"{path}: expected an example in Python, got none")
        print(f"{path.parent.name}/{path.name}: {count} examples ran")
