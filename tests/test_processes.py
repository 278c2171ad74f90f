"""Several processes train, decide and measure as one process does on the same batches."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

import uncollapse as uc
from ranks import together
from test_device import LINES, model
from test_trainer import Stochastic, data
from uncollapse.data.text import Corpus, corpus_from_lines
from uncollapse.metrics.rows import Rows
from uncollapse.processes import ALONE, Processes
from uncollapse.training import state
from uncollapse.training.checkpoints import Checkpoints
from uncollapse.training.listeners import Moment
from uncollapse.training.optimisers import SGD
from uncollapse.training.plateau import Plateau
from uncollapse.training.procedures import Aggressive, Joint, Procedure, UntilInformationDrops
from uncollapse.training.trainer import Trainer

PROCEDURES: dict[str, Procedure] = {
    "joint": Joint(),
    # By its own rule, and back to joint training after the first epoch.
    "rule": Aggressive(window=2, limit=6, until=UntilInformationDrops(start=9.0)),
    "own": Aggressive(budget=2, clip="own"),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the other processes; threads that wait for each other take most of the time of networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Run(NamedTuple):
    """What a training came to."""

    weights: dict[str, Tensor]
    told: list[tuple[str, int, dict[str, Any]]]
    """Windows and epochs, without times."""


class Killed(Exception):
    pass


def corpus() -> Corpus:
    return corpus_from_lines(LINES[::2], LINES[1::4], LINES[3::4])


def trainer(processes: Processes, procedure: str, folder: Path | None = None, **settings: Any) -> Trainer:
    words = corpus()
    return Trainer(
        model(words),
        words.batches("train", 5),  # of one length: batches of 5, and of 3 and 4 items
        words.batches("valid", 8),
        procedure=copy.deepcopy(PROCEDURES[procedure]),
        optimisers={name: SGD(0.5) for name in ("inference", "generation")},
        plateau=Plateau(patience=1, not_before=0, limit=3),
        max_epochs=3,
        window=5,
        checkpoints=Checkpoints(folder),
        processes=processes,
        **settings,
    )


def run(processes: Processes, procedure: str, folder: Path | None = None, kill: int = 0, **settings: Any) -> Run:
    told: list[Any] = []

    def hear(moment: Moment) -> None:
        if moment.kind in ("window", "epoch"):
            values = {k: v for k, v in moment.values.items() if "seconds" not in k}
            told.append((moment.kind, moment.step, values))
        if moment.kind == "step" and moment.step == kill:
            raise Killed

    training = trainer(processes, procedure, folder, listeners=[hear], **settings)
    training.fit()
    return Run(state.weights(training.model), told)


@functools.cache
def alone(procedure: str) -> Run:
    return run(ALONE, procedure)


def difference(a: Run, b: Run) -> float:
    return max(float((a.weights[name] - b.weights[name]).abs().max()) for name in a.weights)


def assert_same_story(one: Run, several: Run) -> None:
    """The same steps, inner steps and decisions, and figures that are near."""
    assert [(kind, step) for kind, step, _ in one.told] == [(kind, step) for kind, step, _ in several.told]
    for (_, _, a), (_, _, b) in zip(one.told, several.told, strict=True):
        a, b = _flat(a), _flat(b)
        numbers = {name for name, value in a.items() if isinstance(value, float)}
        assert {k: v for k, v in a.items() if k not in numbers} == {k: v for k, v in b.items() if k not in numbers}
        assert [b[k] for k in numbers] == pytest.approx([a[k] for k in numbers], rel=1e-4, abs=1e-5)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Figures with their errors and caps, by name."""
    inner = {f"{k}.{j}": w for k, v in values.items() if isinstance(v, dict) for j, w in v.items()}
    return {**{k: v for k, v in values.items() if not isinstance(v, dict)}, **inner}


@pytest.mark.parametrize(("procedure", "ranks"), [("joint", 2), ("joint", 6), ("rule", 3), ("own", 2)])
def test_several_processes_train_as_one_does(procedure: str, ranks: int) -> None:
    several = together(run, procedure, ranks=ranks)
    one = alone(procedure)
    assert all(difference(each, several[0]) == 0 and each.told == several[0].told for each in several)
    assert 0 < difference(one, several[0]) < 2e-6
    assert_same_story(one, several[0])
    inner = [values["descents"] for kind, _, values in one.told if kind == "window"]
    assert (max(inner) > 1) == (procedure != "joint")


@pytest.mark.parametrize("procedure", ["joint", "own"])
def test_sharded_parameters_train_as_whole_ones_do(procedure: str, tmp_path: Path) -> None:
    several = together(sharded, procedure, tmp_path)
    one = alone(procedure)
    assert difference(several[0], several[1]) == 0
    assert several[0].told == several[1].told
    assert difference(one, several[0]) < 2e-6
    assert_same_story(one, several[0])
    last = Checkpoints(tmp_path).last()
    assert last is not None
    for name, tensor in last.tensors.items():
        if name.startswith("model/"):
            assert tensor.shape == one.weights[name.removeprefix("model/")].shape


def sharded(processes: Processes, procedure: str, folder: Path) -> Run:
    training = trainer(processes, procedure, folder, sharded=True)
    held = sum(p.to_local().numel() for p in training.model.parameters())  # pyright: ignore[reportAttributeAccessIssue]
    assert held < 0.6 * sum(p.numel() for p in training.model.parameters())
    return run(processes, procedure, folder, sharded=True)


def killed(processes: Processes, procedure: str, folder: Path, step: int, **settings: Any) -> Run:
    """A training that was stopped after a step, and the same command again."""
    with pytest.raises(Killed):
        run(processes, procedure, folder, kill=step, checkpoint_seconds=0.0, **settings)
    return run(processes, procedure, folder, **settings)


@pytest.mark.parametrize(("procedure", "settings"), [("rule", {}), ("joint", {"sharded": True})])
def test_a_killed_run_of_two_processes_goes_on_bit_for_bit(tmp_path: Path, procedure: str, settings: Any) -> None:
    whole = together(run_with, procedure, tmp_path / "whole", settings)[0]
    again = together(killed_with, procedure, tmp_path / "cut", settings)
    assert not isinstance(again[0], Exception)
    assert difference(again[0], whole) == 0
    assert difference(again[1], whole) == 0
    assert again[0].told == whole.told[-len(again[0].told) :]
    # One process takes the checkpoint too, and has nothing left to train.
    one = run(ALONE, procedure, tmp_path / "cut")
    assert one.told == []
    assert difference(one, whole) == 0


def run_with(processes: Processes, procedure: str, folder: Path, settings: Any) -> Run:
    return run(processes, procedure, folder, **settings)


def killed_with(processes: Processes, procedure: str, folder: Path, settings: Any) -> Run:
    return killed(processes, procedure, folder, 17, **settings)


def test_only_the_first_clock_and_the_first_folder_count(tmp_path: Path) -> None:
    assert all(together(clocks, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def clocks(processes: Processes, folder: Path) -> bool:
    often = 0.0 if processes.leads else 1e9
    run(processes, "joint", folder / str(processes.rank), checkpoint_seconds=often)
    return True


class Normalised(nn.Linear):
    """A decoder that starts differently in every process and has memory that is no parameter."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        super().__init__(2, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, z: Tensor, seen: Tensor) -> Distribution:
        mean = self.norm(super().forward(z).flatten(0, 1)).view(*z.shape[:2], 4)
        return Independent(Normal(mean, 1.0), 1)


def test_what_differs_between_processes_is_made_the_same() -> None:
    first, second = together(different)
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)
    assert first["generation.decoder.norm.num_batches_tracked"] > 0


def different(processes: Processes) -> dict[str, Tensor]:
    torch.manual_seed(processes.rank)
    encoder = uc.Posterior(nn.Linear(4, 4), uc.gaussian, (2, 2))
    vae = uc.VAE(encoder, Normalised(processes.rank), uc.StandardNormal(2))
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    Trainer(vae, list(x.split(8)), list(x.split(8)), max_epochs=2, processes=processes).fit()
    return vae.state_dict()


def test_figures_do_not_depend_on_the_processes() -> None:
    several = together(figures, ranks=3)
    one = figures(ALONE)
    for rows in several:
        assert rows.items.equal(one.items)
        assert rows.neg_elbo.equal(one.neg_elbo)
        assert rows.log_evidence is not None
        assert one.log_evidence is not None
        assert rows.log_evidence.equal(one.log_evidence)
        assert rows.warnings == one.warnings


def figures(processes: Processes) -> Rows:
    words = corpus()
    return uc.evaluate(model(words), words.batches("test", 7), samples=5, processes=processes).rows


@pytest.mark.parametrize("rank", [0, 1])
def test_nobody_waits_for_a_process_that_failed(rank: int) -> None:
    began = time.monotonic()
    ended = together(failing, rank)
    assert isinstance(ended[rank], Killed)
    assert isinstance(ended[1 - rank], uc.TrainingError)
    assert "another process of this training has ended" in str(ended[1 - rank])
    assert time.monotonic() - began < 30


def failing(processes: Processes, rank: int) -> None:
    run(processes, "rule", kill=3 if processes.rank == rank else 0)


class OutOfMemory(nn.Linear):
    """Fails at its third batch."""

    batches = 0

    def forward(self, x: Tensor) -> Tensor:
        self.batches += 1
        if self.batches == 3:
            raise RuntimeError("out of memory")
        return super().forward(x)


def test_an_error_within_a_player_in_pieces_is_told_as_it_is() -> None:
    first, second = together(breaking)
    assert isinstance(first, uc.TrainingError)
    assert "another process of this training has ended" in str(first)
    assert str(second) == "out of memory"


def breaking(processes: Processes) -> None:
    encoder = (nn.Linear, OutOfMemory)[processes.rank](4, 4)
    vae = uc.VAE(uc.Posterior(encoder, uc.gaussian, (2, 2)), Stochastic(2, 4), uc.StandardNormal(2))
    Trainer(vae, data(), data(), processes=processes, sharded=True).fit()


def test_a_weight_that_one_process_alone_sees_to_be_bad_stops_all() -> None:
    ended = together(spoilt)
    assert len({str(error) for error in ended}) == 1
    assert all(isinstance(error, uc.TrainingError) for error in ended)
    assert "the parameter `encoder.net.bias` became nan by step 5" in str(ended[0])


def spoilt(processes: Processes) -> None:
    vae = uc.VAE(uc.Posterior(nn.Linear(4, 4), uc.gaussian, (2, 2)), Stochastic(2, 4), uc.StandardNormal(2))
    run = Trainer(vae, data(), data(), processes=processes, sharded=True)
    run.descent.standing.step = 5
    bias: Any = vae.encoder.net.bias
    if processes.rank == 1:
        bias.detach().to_local().fill_(float("nan"))
    run.loop.watch.check()


def test_a_parameter_that_nobody_used_has_no_gradient_and_adam_lets_it_rest() -> None:
    for found in together(unused):
        assert found == [None, [1.0, 1.0], [2.0]]


def unused(processes: Processes) -> list[Any]:
    nobodys, one, both = (nn.Parameter(torch.zeros(size)) for size in (3, 2, 1))
    if processes.rank == 1:
        one.grad = torch.ones(2)
    both.grad = torch.ones(1)
    processes.sum_gradients([nobodys, one, both])
    return [None if p.grad is None else p.grad.tolist() for p in (nobodys, one, both)]


def test_an_error_of_the_first_process_is_everybodys() -> None:
    ended = together(refusing)
    assert [str(error) for error in ended] == ["no folder"] * 2
    assert all(isinstance(error, uc.InputError) for error in ended)


def refusing(processes: Processes) -> None:
    def refuse() -> None:
        raise uc.InputError("no folder")

    processes.first(refuse)


@pytest.mark.cuda
@pytest.mark.parametrize("procedure", PROCEDURES)
def test_two_processes_on_a_gpu_train_as_one_does(procedure: str, device: torch.device) -> None:
    one = on_a_gpu(ALONE, procedure, str(device))
    several = together(on_a_gpu, procedure, str(device))
    assert difference(several[0], several[1]) == 0
    assert difference(one, several[0]) < 1e-4
    assert_same_story(one, several[0])


def on_a_gpu(processes: Processes, procedure: str, device: str) -> Run:
    # TF32 rounds to about 5e-4, and differently where a batch is divided.
    with torch.backends.cudnn.flags(allow_tf32=False):
        return run(processes, procedure, device=device)
