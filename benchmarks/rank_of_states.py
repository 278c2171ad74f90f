"""Whether the hidden states of an item's draws lie in a small subspace, whose logits they could share.

    make demo
    python benchmarks/rank_of_states.py runs/demo/cells/aggressive-seed0

For 500 draws of one item, at several positions: what is left of the states' deviations from their mean (the root of the
mean square) outside their r leading directions, and how far the softmax's log-normaliser is off without it. With the
weights of `benchmarks/speed.py`'s NLL, and with those of a trained text model. About half a minute.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

import uncollapse as uc
from speed_worker import SIZES, batch, stock
from uncollapse.data.sentences import Sentences
from uncollapse.data.text import Text, as_text
from uncollapse.model import posterior

DRAWS, RANKS, POSITIONS = 500, (16, 32, 64), (0, 4, 8)
SENTENCE = "return a list of all names in the module"


def lines(name: str, model: nn.Module, x: Text) -> None:
    """One row of the table for each position."""
    torch.manual_seed(0)
    law = posterior(model, x)
    assert law is not None
    said = model.get_submodule("decoder")(law.sample(torch.Size((DRAWS,))), x.seen)
    for position in [p for p in POSITIONS if p < said.hidden.shape[2]]:
        states = said.hidden[:, 0, position].double()
        print(f"| {name} | {states.shape[1]} | {position} | {' | '.join(shares(states, said.weight.double()))} |")


def shares(states: Tensor, weight: Tensor) -> list[str]:
    """What is left outside of so many directions, and the largest error of the normaliser in nats."""
    middle = states.mean(0)
    exact, away = (states @ weight.T).logsumexp(1), states - middle
    directions = torch.linalg.svd(away, full_matrices=False)[2]
    found = []
    for rank in RANKS:
        near = middle + away @ directions[:rank].T @ directions[:rank]
        left = (states - near).square().sum().sqrt() / away.square().sum().sqrt()
        error = ((near @ weight.T).logsumexp(1) - exact).abs().max()
        found.append(f"{left:.2f}, {error:.1e}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a trained text model")
    given = parser.parse_args()
    torch.manual_seed(0)
    print(f"| weights | H | position | {' | '.join(f'outside of {rank}, nats' for rank in RANKS)} |")
    print("|---|---|---|---|---|---|")
    trained = uc.load(given.run)
    assert isinstance(trained.interface, Sentences)
    with torch.no_grad():
        for name, size in SIZES.items():
            lines(f"{name}, as in speed.py", stock(size, "torch").eval(), Text(batch(size)[:1]))
        lines(given.run.name, trained.model.eval(), as_text([trained.interface.vocabulary.encode(SENTENCE)]))
