"""`report` and `show`: what runs came to, as a file or on the screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from uncollapse.cli import show as screen
from uncollapse.cli.values import Place, refuse_dangling
from uncollapse.errors import InputError, because

if TYPE_CHECKING:
    from uncollapse.report.content import Content


def report(
    *runs: Place,
    out: Annotated[Place | None, Parameter(name=["--out", "-o"])] = None,
    format: Literal["html", "md"] | None = None,
    figures: Place | None = None,
) -> None:
    """Write what runs came to in one file: a page with figures that move, or Markdown.

    Arguments:
        runs: Folders of runs and of comparisons, and files of posterior means that `uncollapse reproduce` wrote.
        out: The file, report.html or report.md where it is not given; a report that is there is replaced, any other
            file is not.
        format: As the file's name says where it is not given.
        figures: A folder for every figure as PDF and PNG, for papers; then there is a file only where `--out` names it.
    """
    _check(runs)
    kind = format or ("md" if out is not None and out.suffix in (".md", ".markdown") else "html")
    target = out or (None if figures and format is None else Path(f"report.{kind}"))
    if target is not None:
        _check_target(target)
    said = _content(runs)
    if figures is not None:
        from uncollapse.report.static import draw

        screen.say(f"{figures}: {len(draw(said, figures))} files")
    if target is not None:
        write(said, target, kind)
        screen.say(f"{target}: {said.headline}")
    _note(said)


def show(*runs: Place) -> None:
    """Show what runs came to: verdict, figures and curves.

    Arguments:
        runs: Folders of runs and of comparisons.
    """
    _check(runs)
    said = _content(runs)
    from uncollapse.report.content import sign_of
    from uncollapse.report.sparklines import sparkline

    screen.say(f"{sign_of(said.kind)} {said.headline}", *([said.meaning] if said.meaning else []), "")
    for table in [said.runs, *said.tables]:
        if table.rows:
            screen.say(f"{table.caption}:")
            screen.table([table.header, *([cell.text for cell in row] for row in table.rows)])
            screen.say("")
    curves = [
        [chart.y, one.names[0], f"{one.y[0]:.2f}", sparkline(one.y), f"{one.y[-1]:.2f}"]
        for chart in said.curves
        for one in chart.series
    ]
    if curves:
        screen.table([["on the validation split", "run", "first", "over the epochs", "last"], *curves])
    _note(said)


def write(said: Content, target: Path, kind: str) -> None:
    """Writes a report in place of one that is there.

    Raises:
        InputError: where it cannot be written.
    """
    from uncollapse.files import write_text
    from uncollapse.report.html import html
    from uncollapse.report.markdown import markdown

    write_text(target, html(said) if kind == "html" else markdown(said))


def _note(said: Content) -> None:
    for remark in said.remarks:
        screen.note(f"note: {remark}")


def _check(runs: tuple[Path, ...]) -> None:
    if not runs:
        raise InputError("there is nothing to report: give the folder of a run or of a comparison.")


def _content(runs: tuple[Path, ...]) -> Content:
    from uncollapse.report.content import content
    from uncollapse.report.folders import find

    return content(find(runs))


def _check_target(path: Path) -> None:
    """Refuses a place where no report can be stored, or where something else is, before any work."""
    refuse_dangling(path)
    if path.is_dir():
        raise InputError(f"`{path}` is a folder: give a file, such as `{path / 'report.html'}`.")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder `{path.parent}` to store `{path.name}` in: make it, or give another.")
    if path.exists() and not _is_report(path):
        raise InputError(f"`{path}` is there and is no report of uncollapse: it stays as it is. Give another name.")


def _is_report(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(200)
    except OSError as error:
        raise InputError(f"cannot write `{path}`: {because(error)}.") from None
    return not start or b"<!-- A report of uncollapse. -->" in start
