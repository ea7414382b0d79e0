"""A report as one HTML page that needs nothing beside itself: figures are inside as PNG data."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from stormda.storm.scores import COLUMNS, Row, cells


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with its caption."""

    png: bytes
    """A PNG file's bytes."""

    caption: str
    """What is to be seen; the text for those who cannot see it as well."""

    @property
    def source(self) -> str:
        """Return the figure as an address that holds its own data."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True, kw_only=True)
class Table:
    """Numbers that are not the scores: intervals, innovations."""

    title: str
    """Heading."""

    header: Sequence[str]
    """Names of the columns."""

    rows: Sequence[Sequence[str]]
    """Cells as text, the first of each row its name."""

    note: str = ""
    """How they came about."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report: what one experiment gave."""

    title: str
    """Heading."""

    verdict: str
    """What the table says, in a sentence."""

    rows: Sequence[Row]
    """Scores."""

    tables: Sequence[Table] = ()
    """What is known beside the scores."""

    pictures: Sequence[Picture] = ()
    """Figures."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a page shows, from top to bottom."""

    title: str
    """Of the page."""

    lead: str
    """What was done, in a few sentences."""

    sections: Sequence[Section]
    """Results."""

    notes: Mapping[str, str] = field(default_factory=dict)
    """Terms that the reader may not know, and what they mean."""

    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Settings, versions, seeds: anything that JSON can hold."""


def render(report: Report) -> str:
    """Return the page.

    Examples:
        >>> page = render(Report(title="A <twin>", lead="Nothing was done.", sections=[]))
        >>> "<h1>A &lt;twin&gt;</h1>" in page, "src=" in page
        (True, False)
    """
    source = files("stormda.storm") / "templates" / "report.html.j2"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source.read_text("utf-8")).render(
        report=report,
        columns=COLUMNS,
        cells=cells,
        provenance=json.dumps(report.provenance, indent=2, default=str),
    )
