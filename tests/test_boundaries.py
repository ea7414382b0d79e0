"""The architecture, held: who imports whom, who owns the namespace, what every package carries."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
ROOT = REPOSITORY / "packages"
PACKAGES = sorted(p.parent.name for p in ROOT.glob("*/pyproject.toml"))
HEAVY = {
    "matplotlib", "mpi4py", "pandas", "pyarrow", "scipy.io", "scipy.optimize", "scipy.sparse",
    "scipy.spatial", "scipy.special", "torch.distributed.fsdp", "torch.distributed.tensor",
    "triton", "xarray", "zarr",
}  # fmt: skip
"""What takes long to import, and is imported only where it is needed."""

ARROWS = {
    "assimilation": set(),
    "attention": set(),
    "grid": set(),
    "io": {"grid"},
    "parallel": set(),
    "stormda": {"assimilation", "attention", "grid", "io", "parallel"},
}
"""Who may import whom: DESIGN's arrows, written down once more so that a change is deliberate."""


def project(package: str) -> dict:
    return tomllib.loads((ROOT / package / "pyproject.toml").read_text())["project"]


def declared(package: str) -> set[str]:
    names = (re.split(r"[<>=!~\[; ]", d)[0] for d in project(package)["dependencies"])
    return {n.removeprefix("stormda-") for n in names if n.startswith("stormda-")}


def imported(package: str) -> dict[str, Path]:
    found = {}
    for path in (ROOT / package / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
                if node.module == "stormda":
                    names = [f"stormda.{a.name}" for a in node.names]
            elif isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            else:
                continue
            for name in names:
                head, _, rest = name.partition(".")
                if head == "stormda" and rest:
                    found[rest.split(".")[0]] = path
    return found


def test_the_arrows_are_the_declared_ones() -> None:
    assert {package: declared(package) for package in PACKAGES} == ARROWS


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_are_declared(package: str) -> None:
    own = {p.name for p in (ROOT / package / "src" / "stormda").iterdir() if p.is_dir()}
    stray = {m: p for m, p in imported(package).items() if m not in own | declared(package)}
    assert not stray, f"packages/{package} imports what it does not declare: {stray}"


@pytest.mark.parametrize("package", PACKAGES)
def test_nobody_owns_the_namespace(package: str) -> None:
    assert not (ROOT / package / "src" / "stormda" / "__init__.py").exists()
    assert not (ROOT / package / "src" / "stormda" / "py.typed").exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_carries_what_a_release_needs(package: str) -> None:
    assert (ROOT / package / "LICENSE").read_text() == (REPOSITORY / "LICENSE").read_text()
    assert len((ROOT / package / "README.md").read_text().splitlines()) > 10
    parts = [p for p in (ROOT / package / "src" / "stormda").iterdir() if p.is_dir()]
    assert all((p / "py.typed").is_file() for p in parts if p.name != "__pycache__")


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_bring_no_heavy_library(package: str) -> None:
    parts = (p for p in (ROOT / package / "src" / "stormda").iterdir() if p.is_dir())
    names = [p.name for p in parts if (p / "__init__.py").is_file()]
    code = f"import sys; [__import__('stormda.' + n) for n in {names}]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & HEAVY


@pytest.mark.parametrize("package", PACKAGES)
def test_dependencies_have_lower_bounds_only(package: str) -> None:
    extras = project(package).get("optional-dependencies", {}).values()
    wanted = [*project(package)["dependencies"], *(d for extra in extras for d in extra)]
    ours = [d for d in wanted if d.startswith("stormda")]
    assert all(">=" in d for d in wanted)
    assert not [d for d in wanted if d not in ours and ("<" in d.replace(">=", "") or "==" in d)]
