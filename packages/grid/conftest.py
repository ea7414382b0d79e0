"""Without torch, which is an extra, its modules and tests are not collected."""

from importlib.util import find_spec

from hypothesis import settings

settings.register_profile("shared", deadline=None)  # seconds say nothing on a busy machine
settings.load_profile("shared")

collect_ignore = (
    []
    if find_spec("torch")
    else [
        *(f"src/stormda/grid/{name}.py" for name in ("aggregation", "tokenizer", "transfer")),
        "tests/test_tokenizer.py",
    ]
)
