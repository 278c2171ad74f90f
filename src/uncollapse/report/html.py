"""The page: one file that asks the network for nothing."""

from __future__ import annotations

import gzip
from base64 import b64encode
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from uncollapse.errors import InputError
from uncollapse.report.content import Content, as_json, is_picture, kind_of, plain, sign_of
from uncollapse.report.interactive import drawn
from uncollapse.report.references import bibtex

#: What every page begins with, by which one that is there is known for a report.
BEGINNING = "<!doctype html>\n<!-- A report of uncollapse. -->\n"
_FOLDER = files("uncollapse.report")


def can_be_made() -> bool:
    """Whether Plotly and Jinja are there."""
    return find_spec("plotly") is not None and find_spec("jinja2") is not None


def html(content: Content) -> str:
    """The page of a report; the same content gives the same bytes.

    Raises:
        InputError: where Plotly or Jinja is not installed.
    """
    if not can_be_made():
        raise InputError("a page needs Plotly and Jinja: `pip install 'uncollapse[report]'`, or `--format md`.")
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"kind": kind_of, "sign": sign_of, "bibtex": lambda named: bibtex(*named)}
    environment.tests |= {"picture": is_picture}
    environment.finalize = _finalised
    page = environment.from_string(_own("page.html.j2"))
    figures = [*content.curves, *content.ways, *content.scatters, *content.codes, *content.films, *content.heats]
    return BEGINNING + page.render(
        content=content,
        style=_own("page.css"),
        script=_own("page.js"),
        plotly=_plotly(),
        figures=as_json({figure.key: drawn(figure) for figure in figures}),
    )


def _finalised(value: Any) -> Any:
    """Every text with visible control characters, whichever template forgets it."""
    return plain(value) if type(value) is str else value


def _own(name: str) -> str:
    return _FOLDER.joinpath(name).read_text("utf-8")


@cache
def _plotly() -> str:
    """Plotly's script, compressed, in base64: as it is it would be 5 MB of the page."""
    from plotly.offline import get_plotlyjs

    return b64encode(gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)).decode()
