"""The report in a real browser: it draws, moves, sorts and copies, without an error and without the network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from made_runs import make_comparison, make_run
from uncollapse.cli import main

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
SCREENS = {"phone": (390, 844, "light"), "desk": (1280, 800, "dark"), "projector": (1920, 1080, "light")}
TAGS = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><b>bold</b>"
EXAMPLES = {"samples": [TAGS], "reconstructions": [[TAGS, "out"]], "interpolations": [["a", "b"]]}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium: Debian's, or the one that playwright has installed."""
    with playwright.sync_playwright() as started:
        own = started.chromium.executable_path
        found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
        path = next((one for one in [*found, own] if one and Path(one).exists()), None)
        if path is None:
            pytest.skip("there is no Chromium: `apt-get install chromium`, or `playwright install chromium`")
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a comparison and of a run whose every text would rather be something else."""
    at = tmp_path_factory.mktemp("report")
    make_comparison(at / "cmp", examples={"samples": ["fine"]})
    run = make_run(at / "run", f"a{TAGS}", 7, verdict=f"collapsed: {TAGS}", examples=EXAMPLES, nll=50.0)
    (make_run(at / "new", seed=9) / "evaluation-test-k100-s0.json").unlink()
    points = [{"step": n, "inferred": [[0.1 * n], [0.2]], "true": [[0.3], [0.4]]} for n in (0, 1, 2)]
    (at / "means.json").write_text(json.dumps({"points": points}))
    assert (
        main(["report", str(at / "cmp"), str(run), str(at / "new"), str(at / "means.json"), "-o", str(at / "r.html")])
        == 0
    )
    return at / "r.html"


class Open:
    """A page in a browser, and what went wrong in it or out of it."""

    def __init__(self, browser: Any, report: Path, screen: str) -> None:
        width, height, scheme = SCREENS[screen]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page = context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", lambda said: self.wrong.append(f"{said.type}: {said.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda sent: self.wrong.extend([sent.url] if sent.url.startswith("http") else []))
        self.page.goto(report.as_uri())
        self.page.wait_for_selector("html[data-ready]")

    def drawn(self, key: str) -> Any:
        """A figure's card, drawn."""
        card = self.page.locator(f"[data-figure='{key}']")
        card.scroll_into_view_if_needed()
        self.page.wait_for_selector(f"[data-figure='{key}'][data-drawn]")
        return card

    def until(self, holds: Callable[[], bool]) -> None:
        """Waits for something; not by `wait_for_function`, as the page lets nobody evaluate a text."""
        for _ in range(200):
            if holds():
                return
            self.page.wait_for_timeout(50)
        raise TimeoutError("it does not come to hold")

    def column(self, number: int) -> list[str]:
        return self.page.locator(f"#runs tbody tr > :nth-child({number})").all_text_contents()


@pytest.fixture(scope="module")
def at(browser: Any, report: Path) -> Open:
    """A page that tests share, as what one does to it is nothing to the others."""
    return Open(browser, report, "projector")


@pytest.mark.parametrize("screen", SCREENS)
def test_every_figure_is_drawn_without_an_error_or_a_request(browser: Any, report: Path, screen: str) -> None:
    at = Open(browser, report, screen)
    keys = at.page.eval_on_selector_all("[data-figure]", "all => all.map(one => one.dataset.figure)")
    shown = [key for key in keys if at.page.locator(f"[data-figure='{key}']").is_visible()]
    assert len(shown) == 4 + 2 + 1 + 1
    for key in shown:
        assert at.drawn(key).locator("svg.main-svg").count() > 0
    assert at.page.evaluate("document.documentElement.scrollWidth") <= SCREENS[screen][0]
    assert at.wrong == []


def test_text_from_data_does_nothing(at: Open) -> None:
    assert TAGS in at.page.locator("#texts").inner_text()
    assert at.page.locator("#texts img, #texts b, #runs img").count() == 0
    legend = at.drawn("curve-kl").locator(".legendtext").all_text_contents()
    assert any(TAGS in text for text in legend), legend
    assert at.page.title() != "owned"
    assert at.wrong == []


def test_the_film_plays_and_ends_and_the_slider_moves_it(at: Open) -> None:
    card = at.drawn("means-means")
    said, slider, play = card.locator("output"), card.locator("input"), card.locator("button.play")

    def heights() -> list[float]:
        return card.locator(".plot").evaluate("plot => [...plot.data[0].y]")

    assert (said.inner_text(), heights()) == ("step 2", [0.2, 0.2])
    slider.press("Home")
    assert said.inner_text() == "step 0"
    at.until(lambda: heights() == [0.0, 0.2])
    slider.press("ArrowRight")
    assert said.inner_text() == "step 1"
    play.press("Enter")
    assert play.get_attribute("aria-label") == "Pause"
    at.page.wait_for_selector("[data-figure='means-means'] button.play[aria-label='Play']")
    assert (said.inner_text(), slider.input_value()) == ("step 2", "2")
    at.until(lambda: heights() == [0.2, 0.2])
    assert at.wrong == []


def test_a_pointer_over_a_run_says_which(at: Open) -> None:
    card = at.drawn("nll-kl")
    card.locator(".scatterlayer .point").last.hover(force=True)
    at.page.wait_for_selector(".hoverlayer .hovertext")
    said = " ".join(card.locator(".hoverlayer").all_text_contents())
    assert "seed 7" in said
    assert "NLL 50" in said


def test_the_title_of_a_column_sorts_by_it_and_then_the_other_way(at: Open) -> None:
    title = at.page.locator("#runs thead button", has_text="NLL")
    title.press("Enter")  # By the keyboard.
    rising = at.column(3)
    assert [text[:5] for text in rising] == ["40.00", "40.00", "40.10", "40.10", "50.70", "n/a"]
    assert at.page.locator("#runs th[aria-sort]").get_attribute("aria-sort") == "ascending"
    title.click()
    assert at.column(3) == [*rising[-2::-1], "n/a"]
    at.page.locator("#runs thead button", has_text="run").first.click()
    assert [name[:10] for name in at.column(1)][:2] == ["a<script>d", "aggressive"]


def test_the_theme_follows_the_system_and_the_button(browser: Any, report: Path) -> None:
    at = Open(browser, report, "desk")
    at.drawn("curve-kl")

    def ink() -> tuple[str, str]:
        ground = at.page.evaluate("getComputedStyle(document.body).backgroundColor")
        title = "[data-figure='curve-kl'] .xtitle"
        return ground, at.page.locator(title).evaluate("text => getComputedStyle(text).fill")

    dark = ink()
    at.page.locator("#theme").press("Enter")
    light = ink()
    assert dark == ("rgb(18, 21, 26)", "rgb(232, 235, 238)")
    assert light == ("rgb(251, 251, 250)", "rgb(27, 31, 36)")
    assert at.wrong == []


def test_one_of_many_runs_is_picked(at: Open) -> None:
    pick = at.page.locator("#rates select")
    pick.select_option(label="aggressive, seed 1")
    assert at.page.locator("#rates figure:visible figcaption").all_text_contents() == ["aggressive, seed 1"]
    at.drawn("rate-aggressive-seed-1")


def test_bibtex_is_behind_a_button_that_copies_it(at: Open) -> None:
    assert not at.page.locator("#bibtex pre").is_visible()
    at.page.locator("#bibtex summary").press("Enter")
    at.page.locator("#copy").click()
    at.until(lambda: at.page.locator("#copy").inner_text() != "Copy")
    assert "@misc{he2019" in at.page.evaluate("getSelection().toString()")
