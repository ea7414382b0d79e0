"""Without torch, which is an extra, its module and tests are not collected."""

from importlib.util import find_spec

collect_ignore = (
    []
    if find_spec("torch")
    else [
        *(f"src/stormda/grid/{name}.py" for name in ("aggregation", "tokenizer", "transfer")),
        "tests/test_tokenizer.py",
    ]
)
