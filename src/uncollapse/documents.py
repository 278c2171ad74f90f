"""What is written: JSON, and text that a terminal shows."""

from __future__ import annotations

import math
import re
from typing import Any

#: Characters that a terminal obeys instead of showing them, but for the tab and the end of a line.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def finite(content: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON does not know."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {name: finite(value) for name, value in content.items()}
    return [finite(value) for value in content] if isinstance(content, list | tuple) else content


def visible(text: str) -> str:
    r"""The same with control characters as JSON writes them, such as \u001b, so that a terminal obeys none."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
