"""What samples are worth: each figure on texts whose answer is known, and `uncollapse score`."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from test_cli import SET, write_text
from uncollapse.cli import main
from uncollapse.metrics.estimate import Estimate
from uncollapse.metrics.generated import copies, distinct, repeated, score, self_bleu


def text(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    words = [f"w{i}" for i in range(30)]
    return [" ".join(draw.choices(words, weights=range(1, 31), k=draw.randint(3, 8))) for _ in range(count)]


def value(found: Any) -> float:
    assert isinstance(found, Estimate)
    return found.value


def test_a_phrase_again_and_again_is_fluent_and_not_diverse() -> None:
    real, test, same = text(800, 0), text(200, 1), text(800, 2)
    one = [same[0]] * 800

    whole, single = score(same, real, test), score(one, real, test)

    assert value(single["rppl"]) > 2 * value(whole["rppl"])
    assert value(single["repeated"]) == pytest.approx(799 / 800)
    assert value(single["distinct_2"]) < 0.05 < value(whole["distinct_2"])


def test_noise_is_not_fluent() -> None:
    draw, real, test = random.Random(3), text(800, 0), text(200, 1)
    noise = [" ".join(draw.choices([f"w{i}" for i in range(30)], k=5)) for _ in range(800)]
    assert value(score(noise, real, test)["fppl"]) > 1.2 * value(score(text(800, 4), real, test)["fppl"])


def test_samples_of_few_words_do_not_win_by_knowing_few_words() -> None:
    """Both models know the words of the real text, so that an unknown word is not cheap."""
    real, test = text(300, 0), text(100, 1)
    few = [" ".join(word for word in one.split() if int(word[1:]) > 20) or "w29" for one in text(300, 2)]
    found = score(few, real, test)
    assert value(found["rppl_unknown"]) == 0
    assert value(found["rppl"]) > value(score(text(300, 2), real, test)["rppl"])


def test_distinct_by_hand() -> None:
    samples = ["a b a b", "a b", "c"]
    assert value(distinct(samples, 1)) == pytest.approx(3 / 7)
    assert value(distinct(samples, 2)) == pytest.approx(2 / 4)
    assert value(distinct(samples, 4)) == 1
    assert "no sample has 5 words" in str(distinct(samples, 5))


def test_the_jackknifes_error_is_that_of_a_mean_where_the_figure_is_one() -> None:
    """Of sentences of one word each, all different or all alike, nothing varies."""
    assert distinct([f"w{i}" for i in range(40)], 1).se == pytest.approx(0)  # pyright: ignore
    spread = [value(distinct(text(300, seed), 2)) for seed in range(30)]
    middle = sum(spread) / 30
    true = (sum((one - middle) ** 2 for one in spread) / 29) ** 0.5
    assert 0.5 * true < distinct(text(300, 99), 2).se < 2 * true  # pyright: ignore


def test_copies_are_whole_sentences_whatever_the_blanks() -> None:
    assert value(copies(["a  b", "b a", "a"], ["a b", "c"])) == pytest.approx(1 / 3)
    assert value(repeated(["a b", "a  b", "c", "a b"])) == 0.5


def test_self_bleu_is_100_of_samples_that_are_alike_and_0_of_those_without_a_common_word() -> None:
    pytest.importorskip("sacrebleu")
    assert value(self_bleu(["a b c d e"] * 5)) == pytest.approx(100)
    assert value(self_bleu(["a b c d", "e f g h", "i j k l"])) < 20
    assert value(self_bleu(text(300, 0), most=50)) == value(self_bleu(text(300, 0), most=50))
    assert "one sample has no other" in str(self_bleu(["a"]))


def test_files_are_scored_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("samples", 0), ("real", 1), ("test", 2)):
        (tmp_path / f"{name}.txt").write_text("\n".join(text(60, seed)))
    files = [str(tmp_path / f"{name}.txt") for name in ("samples", "real", "test")]
    assert main(["score", files[0], "--train-lm", files[1], "--held-out", files[2], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = score(text(60, 0), text(60, 1), text(60, 2))
    assert found["samples"] == 60
    assert {name: one.to_json() for name, one in expected.items()} == {k: v for k, v in found.items() if k != "samples"}
    assert main(["score", files[0], "--against", files[1], "-n", "10"]) == 0
    assert "10 samples" in capsys.readouterr().out


def test_a_run_draws_its_samples_and_counts_copies_of_its_own_text(tmp_path: Path, capsys: Any) -> None:
    path = write_text(tmp_path / "a.txt", 60)
    small = [*SET, "--set", "training.max_epochs=1", "--samples", "0", "--quiet"]
    assert main(["fit", "text", "--train", str(path), "--out", str(tmp_path / "run"), *small]) == 0
    capsys.readouterr()
    command = ["score", str(tmp_path / "run"), "--against", str(path), "-n", "40", "-o", str(tmp_path / "s.txt")]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    written = (tmp_path / "s.txt").read_text().split("\n")[:-1]
    assert len(written) == found["samples"] == 40
    assert found["copies"]["value"] == value(copies(written, path.read_text().splitlines()))
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
