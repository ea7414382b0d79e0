"""Without torch, which is an extra, its module and tests are not collected."""

from importlib.util import find_spec

collect_ignore = (
    [] if find_spec("torch") else ["src/stormda/grid/tokenizer.py", "tests/test_tokenizer.py"]
)
