"""Training, evaluation and use on the device of `--device` (the CPU where it is not given)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import uncollapse as uc
from uncollapse.data.sentences import Sentences
from uncollapse.data.text import Corpus, corpus_from_lines
from uncollapse.distributions import scoring
from uncollapse.experiment.trained import Trained
from uncollapse.metrics.estimate import Estimate
from uncollapse.nets.lstm import LSTMDecoder, LSTMEncoder
from uncollapse.processes import Share
from uncollapse.training.checkpoints import Checkpoints
from uncollapse.training.procedures import Aggressive, Joint, Procedure
from uncollapse.training.trainer import Trainer

LINES = [f"{a} {b} {c}" * n for a in "abc" for b in "defg" for c in "hijk" for n in (1, 2)]


def corpus() -> Corpus:
    return corpus_from_lines(LINES[::2], LINES[1::4], LINES[3::4])


def model(words: Corpus) -> uc.VAE:
    torch.manual_seed(2)
    size = len(words.vocabulary)
    encoder = uc.Posterior(LSTMEncoder(size, 6, 8, 6), uc.gaussian, (3, 3))
    return uc.VAE(encoder, LSTMDecoder(size, 6, 8, 3, skip=True), uc.StandardNormal(3))


def figures(vae: uc.VAE, words: Corpus, batch_size: int, kind: str, **sizes: int) -> list[float]:
    found = uc.evaluate(vae, words.batches("test", batch_size, kind), **{"samples": 7, **sizes})
    names = ("nll", "neg_elbo", "distortion", "kl", "mi", "marginal_kl", "active_units", "perplexity")
    answers = [getattr(found, name) for name in names]
    assert all(isinstance(answer, Estimate) for answer in answers)
    return [number for answer in answers for number in (answer.value, answer.se)]


@pytest.mark.parametrize("procedure", [Joint(), Aggressive(window=2), Aggressive(budget=2, clip="own")])
def test_a_text_vae_trains_resumes_and_speaks(tmp_path: Path, device: torch.device, procedure: Procedure) -> None:
    words = corpus()
    train, valid = words.batches("train", 8), words.batches("valid", 8)
    for epochs in (1, 2):
        vae = model(words)
        folder = Checkpoints(tmp_path)
        run = Trainer(vae, train, valid, procedure=procedure, max_epochs=epochs, device=device, checkpoints=folder)
        run.fit()
    trained = Trained(vae, Sentences(words.vocabulary))
    assert trained.encode(LINES[:3]).device.type == device.type
    assert len(trained.interpolate(LINES[0], LINES[1], decode="beam")) == 5
    assert len(trained.generate(4)) == 4


@pytest.mark.parametrize(("batch_size", "kind"), [(1, "equal"), (7, "equal"), (5, "padded"), (1000, "padded")])
def test_figures_of_text_do_not_depend_on_the_batching(batch_size: int, kind: str, device: torch.device) -> None:
    words = corpus()
    vae = model(words).to(device)
    reference = figures(vae, words, 32, "equal")
    assert figures(vae, words, batch_size, kind) == pytest.approx(reference, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_figures_of_text_do_not_depend_on_the_chunk(chunk: int, device: torch.device) -> None:
    words = corpus()
    vae = model(words).to(device)
    reference = figures(vae, words, 32, "padded")
    assert figures(vae, words, 32, "padded", chunk=chunk) == pytest.approx(reference, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("at_a_time", [2 * 11, 2**27], ids=["few rows", "all rows"])
def test_scores_and_their_gradients_are_those_of_all_logits(
    at_a_time: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "LOGITS", at_a_time)
    monkeypatch.setattr(scoring, "LOGITS_ON_GPU", at_a_time)
    h, w = (torch.randn(rows, 4, device=device, requires_grad=True) for rows in (9, 11))
    x = torch.randint(11, (9,), device=device)
    counts = torch.linspace(-1, 2, 9, device=device)

    found, expected = scoring.scores(h, w, x), (h @ w.T).log_softmax(-1)[torch.arange(9), x]

    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(scoring.scores(h.detach(), w.detach(), x), expected.detach())
    for a, b in zip(*(torch.autograd.grad((s * counts).sum(), (h, w)) for s in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.cuda
def test_half_precision_keeps_laws_figures_and_parameters_whole(device: torch.device) -> None:
    words = corpus()
    train, valid = words.batches("train", 8), words.batches("valid", 8)
    runs = [Trainer(model(words), train, valid, device=device, precision=p, max_epochs=3) for p in ("32", "bf16-mixed")]
    x = runs[1].descent.batch(0)
    with runs[1].descent.computing(Share(slice(0, 8), 8, 1.0)):
        bound = runs[1].model(x)
        assert runs[1].model.encoder.net(x).dtype == torch.bfloat16
    assert {t.dtype for t in (bound.z, bound.log_likelihood, bound.log_q, bound.log_p, bound.kl)} == {torch.float32}
    for run in runs:
        run.fit()
    assert {p.dtype for p in runs[1].model.parameters()} == {torch.float32}
    assert runs[0].best == pytest.approx(runs[1].best, rel=0.02)
    assert runs[0].best != runs[1].best
