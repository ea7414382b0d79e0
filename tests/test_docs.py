"""The documentation is a program: its blocks run, its commands exist, its links lead somewhere."""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import click
import pytest
from click.testing import CliRunner

from stormda.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("packages/*/README.md")])
RUN = ["start.md", "tutorials/files.md", "tutorials/globe.md", "tutorials/operator.md",
       "tutorials/prior.md", "tutorials/downscaling.md", "tutorials/cluster.md",
       "tutorials/sources.md", "howto/commands.md"]  # fmt: skip
"""Pages whose `python` and `bash` blocks are executed from top to bottom, in an empty folder.
`assimilation.md` is executed by a test of its package, READMEs by `tools/check_wheels.sh`."""

NOT_ON_THE_PAGE = {
    "attention_errors.csv": "one line a measurement; `docs/attention.md` says what they come to",
    "attention_avx512.csv": "`docs/attention.md` has some of it",
    "attention_heap.csv": "`docs/attention.md` has some of it",
    "attention_heap_errors.csv": "the same as without",
    "demo_memory.csv": "one number",
    "memory_history.csv": "`docs/attention.md` has what they come to",
    "memory_long.csv": "the same",
    "sqg_training.csv": "the loss of every step",
    "tuning_sqg.csv": "every setting that was tried",
}
"""Results that the page of benchmarks leaves out."""

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text("utf-8"))


def commands(text: str) -> list[list[str]]:
    """Return the words of every call of `stormda` in a shell block, after the name itself."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True) if not line.startswith("#") else []
        for place, word in enumerate(words):
            if word.rsplit("/", 1)[-1] == "stormda" and words[place + 1 : place + 2]:
                found.append(words[place + 1 :])
                break
    return found


def execute(line: str) -> None:
    """Run one line of a shell block; `stormda` in this process, which saves starting it."""
    words = shlex.split(line)
    if words[0] == "stormda":
        result = CliRunner().invoke(main, words[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
        return
    assert words[0] == "torchrun", line
    launcher = [sys.executable, "-m", "torch.distributed.run", *words[1:]]
    done = subprocess.run(launcher, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", RUN)
def test_the_page_runs(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    ran = 0
    for language, text in blocks(DOCS / name):
        if language == "python":
            exec(compile(text, name, "exec"), names)
            ran += 1
        elif language == "bash":
            for line in text.strip().splitlines():
                execute(line)
                ran += 1
    assert ran


def check_call(words: list[str]) -> None:
    """Refuse a call whose command or option does not exist; arguments are not looked at."""
    options = {o for p in main.params for o in p.opts}
    while words and words[0].startswith("-"):
        assert words[0] in options | {"--help", "-h"}, words
        words = words[2:] if words[0] == "--log-file" else words[1:]
    if not words:
        return
    command = main.get_command(click.Context(main), words[0])
    assert command is not None, f"no command {words[0]}"
    known = {o for p in command.params for o in p.opts} | {"--help", "-h"}
    used = {word.split("=")[0] for word in words[1:] if word.startswith("--")}
    assert used <= known, f"stormda {words[0]}: {used - known}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_that_is_shown_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    shown = [words for language, block in BLOCK.findall(text) if language in ("bash", "sh")
             for words in commands(block)]  # fmt: skip
    for inline in re.findall(r"`(stormda [^`]+)`", text):
        shown += commands(inline)
    for words in shown:
        check_call(words)


def test_every_command_is_in_the_table() -> None:
    listed = re.findall(r"^\| `stormda (\w+)` \|", (DOCS / "howto/commands.md").read_text(), re.M)
    assert set(listed) == set(COMMANDS)


def test_the_check_finds_what_does_not_exist() -> None:
    with pytest.raises(AssertionError, match="no command fly"):
        check_call(["fly"])
    with pytest.raises(AssertionError, match="--membres"):
        check_call(["demo", "--membres", "3"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_shell_blocks_are_shell(page: Path) -> None:
    for language, text in blocks(page):
        if language in ("bash", "sh"):
            done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_the_help_exist(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    shown = commands((command.epilog or "").replace("\b", ""))
    assert shown
    for words in shown:
        check_call(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    made = {"changelog.md", "security.md", *(f"reference/{p}.md" for p in os.listdir(DOCS))}
    prose = BLOCK.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", prose):
        if "://" not in target and target not in made:
            assert (page.parent / target).exists(), target


def test_every_figure_that_is_kept_is_shown() -> None:
    shown = {
        Path(t).name
        for page in PAGES
        for t in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    }
    kept = {path.name for path in (DOCS / "images").rglob("*") if path.is_file()}
    assert kept <= shown, kept - shown


def results(name: str) -> list[dict[str, str]]:
    with (ROOT / "bench" / "results" / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def mean_of(rows: list[dict[str, str]], method: str, score: str = "rmse") -> float:
    return fmean(float(row[score]) for row in rows if row["method"] == method)


def test_the_claims_of_the_readme_are_those_of_the_results() -> None:
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    twin, era5 = results("twin.csv"), results("era5_uk.csv")
    assert len({row["seed"] for row in twin}) == 3
    oi, own, true = (
        f"{mean_of(twin, 'storm') / mean_of(twin, method):.2f}"
        for method in ("oi", "letkf-storm", "letkf")
    )
    assert f"error is {oi} of optimal interpolation's, {own} of a tuned LETKF's on" in text
    assert f"and {true} of a tuned LETKF's that forecasts with the true model" in text
    every = results("one_stage_sqg.csv")
    dense = [row for row in every if row["network"] == "linear-dense"]
    assert len({row["seed"] for row in dense}) == 2
    ratio = mean_of(dense, "storm") / mean_of(dense, "letkf")
    assert f"Where every point is observed STORM's error is {ratio:.2f} of that LETKF's" in text
    error, crps = (
        f"{mean_of(era5, 'storm', s) / mean_of(era5, 'oi-cycled', s):.2f}"
        for s in ("rmse", "crps")
    )
    assert f"{error} of the best tuned interpolation's, its CRPS {crps} of it" in text
    longer = results("twin-100-cycles.csv")
    same = [row for row in twin if row["seed"] == longer[0]["seed"] == twin[0]["seed"]]
    grown = mean_of(longer, "storm") / mean_of(same, "storm")
    assert f"its error over 100 cycles is {grown:.2f} of that over 30" in text
    waves = {r["method"]: float(r["rmse"]) for r in results("waves.csv") if r["withheld"] == "all"}
    assert waves["oi"] < waves["storm"]


def test_every_result_is_shown_or_known() -> None:
    shown = set(re.findall(r"<!-- table: (\S+)", (DOCS / "benchmarks.md").read_text("utf-8")))
    kept = {path.name for path in (ROOT / "bench" / "results").glob("*.csv")}
    assert kept - shown == set(NOT_ON_THE_PAGE)


def test_the_site_builds_strictly(tmp_path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is in the docs environment only")
    pytest.importorskip("mkdocstrings_handlers.python", reason="mkdocstrings is not installed")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "-q",
            "--site-dir",
            tmp_path / "site",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "site" / "benchmarks.html").read_text("utf-8")
    assert all(row["rmse"] in page for row in results("era5_uk.csv"))
    reference = (tmp_path / "site" / "reference" / "attention.html").read_text("utf-8")
    assert 'id="stormda.attention.linear_attention"' in reference
