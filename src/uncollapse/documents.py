"""What is written as JSON."""

from __future__ import annotations

import math
from typing import Any


def finite(content: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON does not know."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {name: finite(value) for name, value in content.items()}
    return [finite(value) for value in content] if isinstance(content, list | tuple) else content
