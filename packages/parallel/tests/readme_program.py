"""The first example of the front page as a program, for any launcher."""

import doctest
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def main() -> None:
    names: dict = {}
    for example in doctest.DocTestParser().get_examples(README.read_text())[:4]:
        exec(compile(example.source, str(README), "single"), names)


if __name__ == "__main__":
    main()
