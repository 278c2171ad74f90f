"""Lightning's modules as models, and the watch in its trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import uncollapse as uc

#: Of Lightning about the size of the machine, and of torch about Lightning.
pytestmark = pytest.mark.filterwarnings("ignore")
_DRAW = torch.Generator().manual_seed(3)
X = torch.randn(160, 2, generator=_DRAW) @ torch.randn(2, 8, generator=_DRAW) + 0.1
PAIRS = TensorDataset(X, torch.zeros(len(X)))


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def lightning(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = pytest.importorskip(request.param, reason="lightning is not installed")
    if request.param == "pytorch_lightning":
        from uncollapse.diagnosis import lightning

        monkeypatch.setattr(lightning, "_alone", lambda: True)
    return found


def module_of(lightning: Any, gives: str = "mean", weight: float = 1.0) -> Any:
    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.nets = nn.ModuleDict({"there": nn.Linear(8, 4), "back": nn.Linear(2, 8)})

        def encode(self, x: Tensor) -> Any:
            return self.nets["there"](x).chunk(2, 1)

        def decode(self, z: Tensor) -> Tensor:
            return self.nets["back"](z)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, _ = batch
            bound = model(x)
            loss = (bound.distortion + weight * bound.rate).mean()
            self.log("loss", loss)
            mean, log_variance = self.encode(x)
            return {
                "mean": {"loss": loss, "mean": mean, "log_variance": log_variance},
                "bound": {"loss": loss, "bound": bound},
                "loss": loss,
            }[gives]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.02)

    torch.manual_seed(0)
    found = Module()
    model = uc.from_lightning(found, likelihood="gaussian")
    return found


def fitted(lightning: Any, module: Any, callback: Any, epochs: int = 3, **settings: Any) -> Any:
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=callback,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"enable_checkpointing": False, **settings},
    )
    trainer.fit(module, DataLoader(PAIRS, batch_size=20))
    return trainer


def test_names_and_callables_make_the_model_that_foreign_makes(lightning: Any) -> None:
    module = module_of(lightning)
    ways: list[dict[str, Any]] = [{}, {"decode": "nets.back"}, {"encode": module.encode, "decode": module.nets["back"]}]
    expected = uc.foreign(module, likelihood="gaussian")
    for way in ways:
        torch.manual_seed(1)
        found = uc.from_lightning(module, likelihood="gaussian", **way)(X)
        torch.manual_seed(1)
        torch.testing.assert_close(found.log_likelihood, expected(X).log_likelihood)
        torch.testing.assert_close(found.kl, expected(X).kl)


def test_a_name_that_is_not_there_is_told_with_those_that_are(lightning: Any) -> None:
    with pytest.raises(uc.InputError, match=r"`decode` of a `Module` `nets.bak`. Did you mean `nets.back`"):
        uc.from_lightning(module_of(lightning), decode="nets.bak", likelihood="gaussian")


def test_a_trained_module_is_diagnosed_with_the_loss_of_its_training_step(lightning: Any) -> None:
    module = module_of(lightning, weight=6.0)
    fitted(lightning, module, [], epochs=1)
    model = uc.from_lightning(module, likelihood="gaussian", example=X[:4])
    found = uc.diagnose(model, PAIRS, loss=uc.lightning_loss(module))
    assert found["loss-scale"].value == pytest.approx(6.0, rel=0.02)
    assert found.verdict == "loss mis-scaled"
    assert "log" not in vars(module)


def test_a_module_that_steps_by_itself_has_no_loss_to_look_at(lightning: Any) -> None:
    module = module_of(lightning)
    module.automatic_optimization = False
    with pytest.raises(uc.InputError, match="`Module` steps by itself"):
        uc.lightning_loss(module)


@pytest.mark.parametrize(("gives", "encode"), [("mean", None), ("bound", None), ("loss", "encode")])
def test_the_callback_sees_what_the_watch_sees(lightning: Any, gives: str, encode: str | None) -> None:
    callback = uc.watch_callback(uc.Watch(every=4, say=lambda alarm: None), encode=encode)
    module = module_of(lightning, gives)
    trainer = fitted(lightning, module, callback)
    assert [look.step for look in callback.watch.looks] == [4, 8, 12, 16, 20, 24]
    last = callback.watch.looks[-1]
    logged = trainer.callback_metrics
    assert logged["watch/active"].item() == last.active == 2
    assert logged["watch/rate"].item() == pytest.approx(last.rates.sum().item())
    assert logged["watch/mi"].item() == pytest.approx(last.mi)
    assert module.training


def test_a_training_is_the_same_with_the_callback(lightning: Any) -> None:
    states = []
    for callback in ([], uc.watch_callback(uc.Watch(every=2), encode="encode")):
        module = module_of(lightning, "loss")
        torch.manual_seed(5)
        fitted(lightning, module, callback)
        states.append(module.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_the_alarm_is_raised_when_units_die_in_training(lightning: Any) -> None:
    alarms = {}
    for weight in (0.1, 50.0):
        watch = uc.Watch(every=2, patience=3, say=lambda alarm: None)
        fitted(lightning, module_of(lightning, weight=weight), uc.watch_callback(watch), epochs=20)
        alarms[weight] = watch.alarm
    assert alarms[0.1] is None
    assert "of 2 units died between steps" in str(alarms[50.0])


def test_steps_go_on_from_a_checkpoint(lightning: Any, tmp_path: Path) -> None:
    first = uc.watch_callback(uc.Watch(every=3), encode="encode")
    trainer = fitted(lightning, module_of(lightning, "loss"), first, epochs=1)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = uc.watch_callback(uc.Watch(every=3), encode="encode")
    module = module_of(lightning, "loss")
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", callbacks=again, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)  # fmt: skip
    trainer.fit(module, DataLoader(PAIRS, batch_size=20), ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert [look.step for look in again.watch.looks] == [9, 12, 15]


def test_a_step_that_shows_no_posterior_is_told_what_to_give(lightning: Any) -> None:
    with pytest.raises(uc.InputError, match=r"a dictionary with 'loss', .*watch_callback\(encode=\"encode\"\)"):
        fitted(lightning, module_of(lightning, "loss"), uc.watch_callback(uc.Watch(every=1)))
