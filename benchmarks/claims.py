"""Whether remedies do on real text what their sources claim: runs every row of the catalogue, resumes, and reports.

    python benchmarks/claims.py run FOLDER --data SNLI_FOLDER [--only free-bits mae] [--seeds 1] [--jobs 2]
    python benchmarks/claims.py run DIGITS_FOLDER --digits pixels
    python benchmarks/claims.py report FOLDER --keep docs/results/claims.json

3,000 sentences, the networks of the recipe `snli-small`, 40 epochs at most; as many runs at a time as jobs, which share
the cores. What starts from a language model does so from that of its seed, which is trained before. Rows that are not
of text are tried on scikit-learn's digits (`--digits`), each sort in a folder of its own. A claim is of the same model
trained plainly, and its source's margin is for other data: what is asked here is the direction. It holds where the
paired difference has it beyond two standard errors over items and beyond 0.05, and for "same" where it is within as
much of the margin.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import yaml

from uncollapse.data.kinds import KINDS
from uncollapse.experiment import compare
from uncollapse.experiment.catalogue import Claim, Remedy, remedies
from uncollapse.experiment.run import read_json, write_json
from uncollapse.experiment.start import ENTRIES

OUTCOMES = Path(__file__).parents[1] / "src" / "uncollapse" / "experiment" / "outcomes.yaml"
SAMPLES = 20
WORTH = 0.05  # nats or units: no less is of any use, however certain.
LONG = ("procedure", "inference")
SETTINGS = ["data.items=3000", "training.max_epochs=40", "training.plateau.not_before=8"]
#: Of what is tried on digits, the settings and the rows.
DIGITS = {
    "pixels": ([], ["without-z", "lidvae", "inverse-lipschitz"]),
    "labels": (["data.labels=true"], ["fader", "vfae", "dc-ign"]),
    "levels": (["data.binarise=null", "model.decoder.likelihood=gaussian"], ["sigma-vae"]),
}
FIGURES = ("nll", "neg_elbo", "kl", "mi", "active_units")


def rows() -> dict[str, Remedy]:
    """The rows whose networks read text, the baselines first and what takes longest last."""
    there = {name: one for name, one in remedies().items() if set(one.needs) <= set(KINDS["text"].facts)}
    return dict(sorted(there.items(), key=lambda item: (item[1].place is not None, item[1].place in LONG)))


def run_digits(folder: Path, of: str, seeds: int, jobs: int) -> None:
    """Rows whose networks read no text, beside a plain one of the same digits."""
    settings, names = DIGITS[of]
    fit = ["digits", *(word for one in settings for word in ("--set", one))]
    compare.run(fit, ["plain", *names], range(seeds), folder, jobs=jobs, samples=SAMPLES)


def starts(name: str) -> list[str]:
    """The entries of the model in which a row names the language model that it starts from."""
    return [f"model.{entry}" for entry in ENTRIES if entry in remedies()[name].patch.get("model", {})]


def run(folder: Path, data: Path, names: list[str], seeds: int, jobs: int) -> None:
    files = [f"--{split}={data / f'snli_18k.{split}.txt.gz'}" for split in ("train", "valid", "test")]
    fit = ["text", "--recipe", "snli-small", *files, *(word for one in SETTINGS for word in ("--set", one))]
    begins = {name: entries for name in names if (entries := starts(name))}
    asked = list(dict.fromkeys(["plain", *names]))
    compare.run(fit, asked, range(seeds), folder, jobs=jobs, samples=SAMPLES, begins=begins)


def outcome(claim: Claim, difference: tuple[float, float] | None) -> str:
    """What came of a claim, by the difference to plain and its standard error."""
    if difference is None:
        return "not measured"
    value, error = difference
    least = max(2 * error, WORTH)
    if claim.direction == "same":
        held = abs(value) <= claim.margin + least
    else:
        held = value * (1 if claim.direction == "higher" else -1) > least
    came = ("held" if claim.direction == "same" else "the direction held") if held else "did not hold"
    return f"{came} ({value:+.2f} ± {error:.2f})"


def differences(row: Any, plain: Any, paired: Any) -> dict[str, tuple[float, float]]:
    """What a row's figures are above plain ones, and the standard errors over items."""
    found = {name: (one["value"], one["over_items"]) for name, one in paired.items()}
    for name in FIGURES:
        one, other = row[name], plain[name]
        if name not in found and None not in (one.get("value"), other.get("value")):
            found[name] = (one["value"] - other["value"], math.hypot(one.get("se") or 0, other.get("se") or 0))
    return found


def report(folder: Path, kept: Path) -> None:
    """Prints each row's figures and its claims' outcomes, and keeps both; what was kept before stays."""
    comparison = compare.collect(folder, SAMPLES)
    beside = "" if read_json(folder / compare.ABOUT)["fit"][0] == "text" else f" of {folder.name}"
    paired, known = comparison.to_json()["differences"], read_json(kept) if kept.is_file() else {}
    done = {row["remedy"]: row for row in comparison.rows if "verdict" in row and row["seed"] == 0}
    for name, row in done.items():
        found = differences(row, done["plain"], paired.get(name, {}))
        claims = {
            f"{one.metric} {one.direction}": outcome(one, found.get(one.metric)) for one in remedies()[name].claims
        }
        figures = {figure: [row[figure].get("value"), row[figure].get("se")] for figure in FIGURES}
        time = row["cpu_seconds"]["value"] / done["plain"]["cpu_seconds"]["value"]
        key = name + beside if name == "plain" else name
        known[key] = {**figures, "time": time, "verdict": row["verdict"], "claims": claims}
    write_json(kept, dict(sorted(known.items())))
    said = {name: one["claims"] for name, one in sorted(known.items()) if one["claims"]}
    head = (
        "# What came of remedies' claims on real text, by `python benchmarks/claims.py`; see docs/results/claims.md.\n"
    )
    OUTCOMES.write_text(head + yaml.safe_dump(said, width=200, allow_unicode=True), encoding="utf-8")
    print(f"| remedy | {' | '.join(FIGURES)} | time | verdict | claims |")
    print("|---" * (len(FIGURES) + 4) + "|")
    for name in [*(name for name in rows() if name in known), *(name for name in known if name not in rows())]:
        one = known[name]
        cells = [_said(*one[figure]) for figure in FIGURES]
        claims = "; ".join(f"{claim}: {came}" for claim, came in one["claims"].items())
        print(f"| {name} | {' | '.join(cells)} | {one['time']:.1f} | {one['verdict'].split(':')[0]} | {claims} |")


def _said(value: float | None, error: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}" + (f" ± {error:.2f}" if error else "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("run", "report"):
        commands.add_parser(command).add_argument("folder", type=Path)
    commands.choices["run"].add_argument("--data", type=Path)
    commands.choices["run"].add_argument("--digits", choices=list(DIGITS))
    commands.choices["run"].add_argument("--only", nargs="+", choices=list(rows()), default=list(rows()))
    commands.choices["run"].add_argument("--seeds", type=int, default=1)
    commands.choices["run"].add_argument("--jobs", type=int, default=2)
    commands.choices["report"].add_argument("--keep", type=Path, required=True)
    given = parser.parse_args()
    if given.command == "run" and given.digits:
        run_digits(given.folder, given.digits, given.seeds, given.jobs)
    elif given.command == "run":
        run(given.folder, given.data, given.only, given.seeds, given.jobs)
    else:
        report(given.folder, given.keep)
