"""What the site takes from elsewhere in the repository when it is built.

- `<!-- table: NAME.csv key=value ... columns=a,b -->` becomes a table of `bench/results/NAME.csv`;
- changelog, security policy and the reference pages are made from their sources.

Nothing here imports our packages: the site builds without torch.
"""

from __future__ import annotations

import ast
import csv
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
PACKAGES = ("grid", "attention", "parallel", "assimilation", "io", "storm")
TABLE = re.compile(r"<!-- table: (\S+)(.*?)-->")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from files outside of the docs folder."""
    pages = {f"reference/{name}.md": reference(name) for name in PACKAGES}
    pages["changelog.md"] = (ROOT / "CHANGELOG.md").read_text("utf-8")
    pages["security.md"] = (ROOT / "SECURITY.md").read_text("utf-8")
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:  # noqa: ANN401
    """Put the tables of results in their places."""
    return TABLE.sub(lambda found: table(found[1], found[2], page.file.src_path), markdown)


def reference(name: str) -> str:
    """Return the page of a package: every public name of its `__init__`."""
    return f"# stormda.{name}\n\n{summary(name)}\n\n::: stormda.{name}\n"


def summary(name: str) -> str:
    """Return how many names are public, said before they are listed."""
    folder = "stormda" if name == "storm" else name
    path = ROOT / "packages" / folder / "src" / "stormda" / name / "__init__.py"
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
            return f"{len(names)} public names: " + ", ".join(f"`{n}`" for n in names) + "."
    raise PluginError(f"{path}: expected `__all__`")


def table(name: str, options: str, origin: str) -> str:
    """Return rows of a result as Markdown.

    Options: `columns=a,b` chooses and orders, `mean=a,b` averages over rows that agree in all
    other columns (seeds), and `key=value` keeps rows that have it.
    """
    chosen = dict(re.findall(r"(\w+)=(\"[^\"]*\"|\S+)", options))
    columns = chosen.pop("columns", "").split(",")
    means = [m for m in chosen.pop("mean", "").split(",") if m]
    path = RESULTS / name
    if not path.is_file():
        raise PluginError(f"{origin}: expected a result, got {name!r}, which is not there")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    unknown = sorted({*columns, *means, *chosen} - {*rows[0]})
    if unknown:
        raise PluginError(
            f"{origin}: {name}: expected columns among {list(rows[0])}, got {unknown}"
        )
    kept = [r for r in rows if all(r[k] == v.strip('"') for k, v in chosen.items())]
    if not kept:
        raise PluginError(f"{origin}: {name}: expected rows with {chosen}, got none")
    lines = [columns, ["---"] * len(columns), *averaged(kept, columns, means)]
    commits = ", ".join(sorted({r.get("commit", "")[:7] for r in kept} - {""}))
    source = f"*`bench/results/{name}`, commit {commits or 'not recorded'}; {len(kept)} rows.*"
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{source}\n"


def averaged(rows: list[dict[str, str]], columns: list[str], means: list[str]) -> list[list[str]]:
    """Return cells, with the columns in `means` averaged over rows alike in the others."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for number, row in enumerate(rows):
        key = tuple(row[c] for c in columns if c not in means)
        groups[key if means else (str(number),)].append(row)
    return [
        [
            f"{sum(float(r[c]) for r in group) / len(group):.4g}" if c in means else group[0][c]
            for c in columns
        ]
        for group in groups.values()
    ]
