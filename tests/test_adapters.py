"""The ways in for other libraries' models, without the libraries."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import uncollapse as uc

PAGE = (Path(__file__).parents[1] / "docs" / "bring-your-own.md").read_text(encoding="utf-8")

LIBRARIES = ("pythae", "diffusers", "scvi", "lightning", "pytorch_lightning")
NEEDS: dict[str, tuple[str, Any]] = {
    "from_pythae": ("pythae.models", lambda: uc.from_pythae(None)),
    "from_diffusers": ("diffusers.models.autoencoders.vae", lambda: uc.from_diffusers(None)),
    "from_scvi": ("scvi", lambda: uc.from_scvi(None)),
    "watch_callback": ("lightning.pytorch", lambda: uc.watch_callback()),
}


@pytest.mark.parametrize("name", NEEDS)
def test_a_library_that_is_not_there_is_named_with_how_to_get_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, call = NEEDS[name]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(uc.InputError, match=rf"`uncollapse.{name}` needs {module}: `pip install '\S+>=\d"):
        call()


def test_no_library_is_imported_before_a_model_of_it_is_asked_for() -> None:
    asked = "; ".join(f"uc.{name}" for name in ("from_lightning", "lightning_loss", *NEEDS))
    code = f"import sys, uncollapse as uc; {asked}; print(sorted({set(LIBRARIES)} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_page_shows_calls_that_there_are() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 6
    for block in blocks:
        compile(block, "bring-your-own.md", "exec")
    assert set(re.findall(r"`?uc\.(\w+)\(", PAGE)) <= set(uc.__all__)
    named = [name for name in uc.__all__ if name.startswith("from_") or "lightning" in name or "callback" in name]
    assert all(f"uc.{name}(" in PAGE for name in named)
