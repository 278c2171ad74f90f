"""The watch: what it logs, when it raises its alarm, and that a training is the same with it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import uncollapse as uc
from linear_gaussian import evidence, orthogonal, vae
from uncollapse.cli import main
from uncollapse.diagnosis.watch import Alarm, Look, Watch
from uncollapse.experiment.run import WATCH
from uncollapse.experiment.watching import alarm_of, records
from uncollapse.report.content import content
from uncollapse.report.folders import find

MEANS = torch.randn(64, 8, generator=torch.Generator().manual_seed(2))


def watched(sizes: list[Tensor], **settings: Any) -> tuple[Watch, list[Alarm]]:
    heard: list[Alarm] = []
    watch = Watch(**{"every": 10, "patience": 3, "say": heard.append, **settings})
    for size in sizes:
        watch.step(size * MEANS, torch.zeros_like(MEANS))
    return watch, heard


def test_units_that_die_are_one_alarm_with_its_dates() -> None:
    some = torch.tensor([1.0] * 5 + [0.0] * 3)
    watch, heard = watched([torch.ones(8)] * 400 + [some] * 300)
    assert len(heard) == 1
    assert heard[0].units == (5, 6, 7)
    assert str(heard[0]).startswith("3 of 8 units died between steps 400 and 410: go back to before step 400 and ")
    assert watch.alarm is heard[0]


def test_a_death_is_dated_however_long_others_take() -> None:
    sizes = (
        [torch.ones(8)] * 100 + [torch.tensor([0.0] + [1.0] * 7)] * 200 + [torch.tensor([0.0] * 4 + [1.0] * 4)] * 100
    )
    _, heard = watched(sizes)
    assert len(heard) == 1
    assert (heard[0].first, heard[0].last) == (100, 310)


def test_what_comes_back_did_not_die_and_what_never_lived_is_told_late() -> None:
    _, heard = watched([torch.ones(8)] * 100 + [torch.zeros(8)] * 20 + [torch.ones(8)] * 100)
    assert heard == []
    _, heard = watched([torch.zeros(8)] * 300, grace=200)
    assert [str(alarm).partition(":")[0] for alarm in heard] == ["none of 8 units has carried 0.01 nats by step 200"]


def test_a_rate_without_information_is_no_life() -> None:
    """As of a batch-normalised shift: KL 4.5 a unit, and the same q for all items."""
    watch = Watch(every=1, patience=2, grace=4, say=lambda alarm: None)
    for _ in range(5):
        watch.step(torch.full((32, 2), 3.0), torch.zeros(32, 2))
    assert watch.looks[-1].active == 0
    torch.testing.assert_close(watch.looks[-1].rates, torch.full((2,), 4.5))
    assert watch.alarm is not None


def test_what_it_logs_is_the_closed_form() -> None:
    weight = orthogonal(3.0, 1.0, size=10)
    x = evidence(weight, 1.0).sample((4000,))
    watch = Watch(every=1)
    watch.step(vae(weight, 1.0)(x))
    look = watch.looks[0]
    truth = 0.5 * torch.tensor([10.0, 2.0]).log()
    torch.testing.assert_close(look.information, truth, rtol=0.05, atol=0)
    torch.testing.assert_close(look.rates, truth, rtol=0.1, atol=0)
    assert look.mi is not None
    assert 0 < look.mi < math.log(64)
    assert look.to_json()["active"] == 2


def test_the_state_from_before_the_first_death_is_kept() -> None:
    module = nn.Linear(1, 1, bias=False)
    watch = Watch(every=10, patience=3, keep=module, keep_every=50, say=lambda alarm: None)
    for step in range(1, 301):
        with torch.no_grad():
            module.weight.fill_(step)
        watch.step(float(step <= 120) * MEANS, torch.zeros_like(MEANS))
    assert watch.alarm is not None
    assert watch.alarm.first == 120
    assert watch.before is not None
    assert watch.before["weight"].item() == 100


def test_a_training_is_the_same_with_it() -> None:
    weight = orthogonal(2.0, 1.0, size=6)
    x = evidence(weight, 1.0).sample((200,))

    def trained(listen: bool) -> tuple[dict[str, Tensor], Watch]:
        torch.manual_seed(0)
        encoder = uc.Posterior(nn.Linear(6, 4), uc.gaussian, (2, 2))
        model = uc.VAE(encoder, vae(weight, 1.0).decoder, uc.StandardNormal(2))
        model.generation.register_parameter("unused", nn.Parameter(torch.zeros(1)))
        watch = Watch(every=2, say=lambda alarm: None)
        listeners = [watch.listener(model, x[:32])] if listen else []
        uc.fit(model, x, x, max_epochs=2, listeners=listeners, progress=False)
        return dict(model.state_dict()), watch

    (without, _), (with_it, watch) = trained(False), trained(True)
    assert all(torch.equal(value, with_it[name]) for name, value in without.items())
    assert [look.step for look in watch.looks] == [2, 4, 6, 8, 10, 12, 14]


def test_what_it_cannot_watch_is_said() -> None:
    with pytest.raises(uc.InputError, match="lacks the log-variance"):
        Watch(every=1).step(MEANS)
    with pytest.raises(uc.InputError, match="give 1 or more"):
        Watch(every=0)


def test_a_watch_goes_on_where_another_stood_and_tells_an_alarm_once() -> None:
    sizes = [torch.ones(8)] * 100 + [torch.zeros(8)] * 100
    whole, _ = watched(sizes)
    kept = [json.loads(json.dumps(look.to_json())) for look in whole.looks]
    for cut in (5, 12, 15):
        heard: list[Alarm] = []
        other = Watch(every=10, patience=3, say=heard.append, step=10 * cut)
        other.recall(Look.of_json(one) for one in kept[:cut])
        for size in sizes[10 * cut :]:
            other.step(size * MEANS, torch.zeros_like(MEANS))
        assert other.alarm == whole.alarm
        assert len(heard) == (cut < 13)
        assert [look.active for look in other.looks] == [look.active for look in whole.looks]


def test_a_run_keeps_what_its_watch_saw_and_its_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", torch.randn(600, 3).numpy())
    whole = [*"fit vectors --samples 0 --quiet --watch --set data.batch_size=2".split(), "--train", tmp_path / "x.npy"]
    fit = [str(one) for one in [*whole, "--out", tmp_path / "run", "--set", "training.objective.weights.rate=50.0"]]
    sizes = ["--set", "training.max_epochs=6"]
    assert main([*fit, *sizes]) == 0
    kept = list(records(tmp_path / "run" / WATCH))
    looks = [one for one in kept if "rates" in one]
    assert [one["step"] for one in looks] == list(range(100, 100 * len(looks) + 1, 100))
    alarm = alarm_of(tmp_path / "run")
    assert alarm is not None
    assert "units" in alarm
    assert alarm in "\n".join(content(find([tmp_path / "run"])).remarks)
    assert capsys.readouterr().err.count(alarm) == 1
    assert main([*fit, *sizes]) == 0
    assert list(records(tmp_path / "run" / WATCH)) == kept
    assert alarm not in capsys.readouterr().err
