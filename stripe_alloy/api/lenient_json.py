"""Parses responses that strict JSON refuses, so that one odd value does not block a run."""

from __future__ import annotations

import json
import logging
import math
from typing import Any

_logger = logging.getLogger(__name__)
_named: set[str] = set()


def decode(content: bytes) -> Any:
    """Parse JSON that may contain half a surrogate pair, NaN, or an out-of-range number.

    Half a pair becomes U+FFFD and such a number null, because no target can store them. Raises
    ValueError if it is not JSON.
    """
    value = json.loads(content.decode())
    return _cleaned(value, "")


def _cleaned(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        kind = value.get("object")
        return {
            _text(key, name): _cleaned(inner, name or (f"{kind}.{key}" if _is_one(kind) else ""))
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_cleaned(inner, name) for inner in value]
    if isinstance(value, str):
        return _text(value, name)
    if isinstance(value, float) and not math.isfinite(value):
        _report(name, "a number that is out of range: it becomes null")
        return None
    return value


def _is_one(kind: Any) -> bool:
    return isinstance(kind, str) and kind != "list"


def _text(text: str, name: str) -> str:
    if text.isascii():
        return text
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if whole != text:
        _report(name, "text that UTF-8 cannot encode: it becomes U+FFFD")
    return whole


def _report(name: str, what: str) -> None:
    """Log a field's name once, never its value."""
    if name not in _named:
        _named.add(name)
        _logger.warning("%s holds %s", name or "An answer", what)
