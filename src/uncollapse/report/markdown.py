"""The report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from uncollapse.report.content import Content, Table, Texts, is_picture, plain, sign_of
from uncollapse.report.references import bibtex
from uncollapse.report.sparklines import sparkline

#: What Markdown, or HTML in it, would take for its own.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!])")
BEGINNING = "<!-- A report of uncollapse. -->\n"


def markdown(content: Content) -> str:
    """The report as Markdown; figures are curves in a line each."""
    return BEGINNING + "\n".join(_lines(content)) + "\n"


def _lines(content: Content) -> Iterator[str]:
    yield f"# {sign_of(content.kind)} {_text(content.headline)}"
    yield f"\n{_text(content.meaning)}"
    yield from _items("", map(_text, content.remarks))
    for table in [content.runs, *content.tables]:
        yield from _table(table)
    yield from _curves(content)
    for texts in content.texts:
        yield from _examples(texts)
    yield "\n## Commands and references"
    yield from (f"\n{_code(command)}" for command in content.commands)
    yield from _items("", (f"{name}: {_text(value)}" for name, value in content.versions))
    cited = content.references
    yield from _items("", (f"{_text(o.authors)} ({o.year}). *{_text(o.title)}*. <{o.url}>" for o in cited.values()))
    yield from (f"\n{_code(bibtex(key, one), 'bibtex')}" for key, one in cited.items())


def _table(table: Table) -> Iterator[str]:
    if not table.rows:
        return
    yield f"\n## {_text(table.caption)}\n"
    yield _row(table.header)
    numeric = [any(row[i].order is not None for row in table.rows) for i in range(len(table.header))]
    yield _row(["---:" if right else ":---" for right in numeric], raw=True)
    yield from (_row([cell.text for cell in row]) for row in table.rows)


def _row(cells: list[str], raw: bool = False) -> str:
    return "| " + " | ".join(cell if raw else _text(cell) for cell in cells) + " |"


def _curves(content: Content) -> Iterator[str]:
    if content.curves:
        yield "\n## Training, on the validation split\n"
        yield _row(["figure", "run", "first", "over the epochs", "last"])
        yield _row([":---", ":---", "---:", ":---", "---:"], raw=True)
    for chart in content.curves:
        for one in chart.series:
            yield _row([chart.y, one.names[0], f"{one.y[0]:.2f}", sparkline(one.y), f"{one.y[-1]:.2f}"])


def _examples(texts: Texts) -> Iterator[str]:
    yield f"\n## Examples: {_text(texts.name)}"
    yield from _items("From the prior", map(_example, texts.samples))
    yield from _items(
        "Encoded and decoded again", (f"{_example(item)} → {_example(made)}" for item, made in texts.reconstructions)
    )
    for line in texts.interpolations:
        yield from _items("From one posterior mean to another", map(_example, line))


def _example(text: str) -> str:
    return f"![image]({text})" if is_picture(text) else _text(text)


def _items(title: str, items: Iterator[str]) -> Iterator[str]:
    said = [f"- {item}" for item in items]
    if said and title:
        yield f"\n{title}:"
    yield from ["", *said] if said else []


def _text(text: str) -> str:
    """A text in one line in which Markdown finds nothing of its own."""
    return _SPECIAL.sub(r"\\\1", " ".join(plain(text).split()))


def _code(text: str, language: str = "") -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{plain(text)}\n{fence}"
