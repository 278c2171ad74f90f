"""Damaged and hostile run folders: `load` and `evaluate` answer or refuse them in one line, and do nothing else."""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from test_cli import write_text
from uncollapse import files
from uncollapse.cli.options import Options
from uncollapse.errors import InputError
from uncollapse.experiment import execute
from uncollapse.experiment.api import load
from uncollapse.training import checkpoints
from uncollapse.training.checkpoints import Snapshot

MUTATIONS, SEED = 2000, 0
SLOW = 20.0  # seconds of the processor that no answer may take
ROOM = 2 << 30  # bytes that no answer may ask for
WRITTEN = ("rows-test-k1-n3-s0", "evaluation-test-k1-n3-s0")

VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 3, 10**12, 10**30, -0.5, float("nan"), float("inf"), 1e308),
    *("", "x" * 5000, "\0", "\ud800", "../../../etc/passwd", "/dev/zero", "9" * 5000, "1 epochs", "last"),
    *([], {}, [[[]]], {"kind": "x"}, {"a": 1}, ["a", "a"], ["a", 1], [None]),
]
HOSTILE = [
    "!!python/object/apply:os.system ['touch SENTINEL']",
    "seed: !!python/object/new:subprocess.Popen [['touch', 'SENTINEL']]",
    "!!python/module:antigravity",
    "seed: !!python/name:os.system",
    "seed: !!timestamp x",
    "seed: 2001-99-99",
    "seed: !!bool x",
    "seed: !!binary é",
    "? [a]\n: b",
    "1: 2\n? {a: b}\n: c",
    "seed: " + "9" * 5000,
    "[" * 2000,
    "{a: " * 2000,
    "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmnopq")),
    "<<: {a: b}",
    "---\na: b\n---\nc: d",
    "%YAML 9.9\n---\na: b",
    "\x00\x01",
    "",
]


class Payload:
    def __reduce__(self) -> Any:
        return os.system, ("touch SENTINEL",)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, another run of another size, and a file that is nobody's business."""
    folder = tmp_path_factory.mktemp("place")
    for name, size, lines in (("one", 4, 40), ("two", 5, 50)):
        text = write_text(folder / f"{name}.txt", lines)
        sizes = [f"model.{part}.{what}={size}" for part in ("encoder", "decoder") for what in ("hidden", "embedding")]
        options = Options(train=text, overrides=(*sizes, "model.latent=2", "training.max_epochs=2"))
        execute.train(options.spec("text", ["plain"], 0), folder / name, {"remedy": "plain"}, checkpoint_seconds=0)
        execute.judge(folder / name, samples=1, items=3)
    (folder / "victim").write_text("mine", encoding="utf-8")
    return folder


# What may be done to a folder.


def paths(run: Path) -> list[Path]:
    return sorted(path for path in run.rglob("*") if path.is_file())


def flip(run: Path, draw: random.Random) -> None:
    path = draw.choice(paths(run))
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice([1, 1, 1, 20])):
        if content:
            content[draw.randrange(len(content))] = draw.randrange(256)
    path.write_bytes(content)


def cut(run: Path, draw: random.Random) -> None:
    path = draw.choice(paths(run))
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size + 1)])


def delete(run: Path, draw: random.Random) -> None:
    path = draw.choice([*paths(run), run / "checkpoints", run / "probe"])
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def swap(run: Path, draw: random.Random) -> None:
    path = draw.choice(paths(run))
    theirs = [p for p in paths(run.parent.parent / "two") if p.suffix == path.suffix]
    shutil.copy(draw.choice(theirs or [path.parent.parent / "victim"]), path) if theirs else path.unlink()


def replaced(content: Any, draw: random.Random) -> Any:
    """JSON with one value, at any depth, replaced, removed or added."""
    if isinstance(content, dict | list) and content and draw.random() < 0.8:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        key = draw.choice(keys)
        if draw.random() < 0.1:
            del content[key]
        else:
            content[key] = replaced(content[key], draw)
        if isinstance(content, dict) and draw.random() < 0.05:
            content[draw.choice(["x", "kind", ""])] = draw.choice(VALUES)
        return content
    return draw.choice(VALUES)


def change_json(run: Path, draw: random.Random) -> None:
    path = draw.choice([p for p in paths(run) if p.suffix in (".json", ".jsonl") and "evaluation" not in p.name])
    lines = path.read_text(encoding="utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text("utf-8")]
    line = draw.randrange(len(lines))
    lines[line] = json.dumps(replaced(json.loads(lines[line]), draw))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def change_spec(run: Path, draw: random.Random) -> None:
    path = run / "spec.yaml"
    content = replaced(yaml.safe_load(path.read_text(encoding="utf-8")), draw)
    path.write_text(yaml.safe_dump(content), encoding="utf-8", errors="surrogatepass")


def make_hostile(run: Path, draw: random.Random) -> None:
    path, text = run / "spec.yaml", draw.choice(HOSTILE)
    before = path.read_text(encoding="utf-8") if draw.random() < 0.5 else ""
    path.write_text(f"{before}{text}\n", encoding="utf-8")


def pickled(run: Path, draw: random.Random) -> None:
    draw.choice(paths(run)).write_bytes(pickle.dumps(Payload()))


def change_tensors(run: Path, draw: random.Random) -> None:
    """A checkpoint whose digest fits, or which has none, with other tensors or another state."""
    path = draw.choice(sorted((run / "checkpoints").iterdir()))
    tensors, state = checkpoints.read(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    name = draw.choice(sorted(tensors))
    some = tensors[name].float()
    ways = {
        "shape": lambda: tensors.update({name: torch.zeros(draw.choice([(0,), (7, 3), (), (1, 1, 1)]))}),
        "type": lambda: tensors.update({name: some.to(draw.choice([torch.int64, torch.float64, torch.bfloat16]))}),
        "nan": lambda: tensors.update({name: some * float("nan")}),
        "more": lambda: tensors.update({draw.choice(["x", "", "../x", "é"]): some}),
        "less": lambda: tensors.pop(name),
        "none": tensors.clear,
        "state": lambda: None,
    }
    ways[draw.choice(sorted(ways))]()
    if draw.random() < 0.3:
        state = replaced(state, draw)
    if draw.random() < 0.3:
        said = draw.choice([{}, {"schema": "1"}, {"schema": "3", "state": "[" * 5000}, {"schema": "3", "state": "{}"}])
        save_file({k: v.clone() for k, v in tensors.items()}, path, metadata=said)
    else:
        checkpoints.write(path, Snapshot(tensors, state))


def other_kind(run: Path, draw: random.Random) -> None:
    """Something else where a file or folder is, or will be written."""
    written = [run / f"{name}.{end}" for name in WRITTEN for end in ("partial", "json", "safetensors")]
    path = draw.choice([*paths(run), run / "checkpoints", *written])
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    outside = run.parent.parent
    links = [outside / "victim", outside / "absent", path, outside, Path("/dev/zero"), Path("/dev/null"), run]
    ways = [path.mkdir, path.touch, lambda: os.mkfifo(path), lambda: path.symlink_to(draw.choice(links))]
    draw.choice([*ways, ways[-1], ways[-1]])()


WAYS: list[Callable[[Path, random.Random], None]] = [
    *(flip, cut, delete, swap, change_json, change_json, change_spec, change_spec),
    *(make_hostile, pickled, change_tensors, change_tensors, other_kind, other_kind),
]


# What must not happen.

FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect")
_watched: list[Path] = []
_seen: list[str] = []


def _audit(event: str, given: tuple[Any, ...]) -> None:
    if not _watched:
        return
    writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if event in FORBIDDEN or (writes and not os.path.realpath(os.fsdecode(given[0])).startswith(str(_watched[0]))):
        _seen.append(f"{event} {given[0]!r}")


@contextmanager
def nothing_else(run: Path) -> Iterator[None]:
    """Within it nothing is run, and nothing written but in one folder."""
    _watched.append(run.resolve())
    try:
        yield
    finally:
        _watched.clear()
    assert _seen == []


@pytest.fixture
def little_memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def answer(do: Callable[[], Any]) -> str:
    """ "" where it did, the words where it refused; any other error passes."""
    said = ""
    try:
        do()
    except InputError as error:
        said = str(error) or "\n"
    assert "\n" not in said
    return said


@pytest.mark.timeout(900)  # A minute on a quiet machine.
@pytest.mark.skipif(sys.platform != "linux", reason="limits its memory as Linux does")
def test_no_run_folder_does_more_than_answer_or_be_refused(
    place: Path, little_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "work").mkdir()
    monkeypatch.chdir(place / "work")
    load(place / "one"), execute.judge(place / "one", samples=1, items=3)  # What torch imports late is not held to.
    sys.addaudithook(_audit)
    run, outcomes = place / "work" / "run", Counter()
    for number in range(MUTATIONS):
        draw = random.Random(f"{SEED}/{number}")
        shutil.copytree(place / "one", run)
        way = draw.choice(WAYS)
        way(run, draw)
        began = time.process_time()
        try:
            with nothing_else(run):
                said = answer(lambda: load(run)), answer(lambda: execute.judge(run, samples=1, items=3))
        except BaseException as error:
            raise AssertionError(f"mutation {number} ({way.__name__}) of seed {SEED}: {error!r}") from error
        assert time.process_time() - began < SLOW, f"mutation {number} ({way.__name__}) of seed {SEED}"
        assert [path.name for path in (place / "work").iterdir()] == ["run"], f"mutation {number} of seed {SEED}"
        outcomes.update(bool(words) for words in said)
        shutil.rmtree(run)
    assert (place / "victim").read_text(encoding="utf-8") == "mine"
    assert sorted(p.name for p in place.iterdir()) == ["one", "one.txt", "two", "two.txt", "victim", "work"]
    assert min(outcomes[True], outcomes[False]) > MUTATIONS // 4


def test_a_checkpoint_of_any_one_byte_changed_is_refused_or_the_very_same(place: Path, tmp_path: Path) -> None:
    path = sorted((place / "one" / "checkpoints").glob("best-*"))[-1]
    content, whole = path.read_bytes(), checkpoints.read(path)
    draw = random.Random(SEED)
    header = 8 + int.from_bytes(content[:8], "little")
    spots = [*range(header), *(draw.randrange(header, len(content)) for _ in range(200))]
    refused = 0
    for spot in spots:
        changed = bytearray(content)
        changed[spot] ^= 1 << draw.randrange(8)
        (tmp_path / "x.safetensors").write_bytes(changed)
        try:
            found = checkpoints.read(tmp_path / "x.safetensors")
        except InputError:
            refused += 1
            continue
        assert found.state == whole.state
        assert all(torch.equal(tensor, whole.tensors[name]) for name, tensor in found.tensors.items())
    assert refused > 0.9 * len(spots)


def test_every_type_of_tensor_is_kept_whole(tmp_path: Path) -> None:
    tensors = {str(kind): torch.tensor([0, 1, 1]).to(kind) for kind in files._TYPES}
    tensors |= {"empty": torch.empty(0, 3), "number": torch.tensor(2.5), "across": torch.arange(6.0).view(2, 3).T}
    tensors |= {"tied": tensors["torch.float32"]}
    files.write_tensors(tmp_path / "x.safetensors", tensors, {"a": "é"})
    found, said = files.read_tensors(tmp_path / "x.safetensors")
    assert said["a"] == "é"
    assert found.keys() == tensors.keys()
    assert all(
        found[k].dtype == v.dtype and torch.equal(found[k].float(), v.float())
        for k, v in tensors.items()
        if not v.is_complex()
    )
    assert torch.equal(found["torch.complex64"], tensors["torch.complex64"])
