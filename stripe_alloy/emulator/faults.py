"""Simulated faults of the network, of proxies and of Stripe."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote

from stripe_alloy.emulator.errors import ApiError

KINDS = (
    "status",
    "cut_before",
    "cut_after",
    "truncate",
    "garbage",
    "html",
    "answer",
    "cycle",
    "date",
    "delay",
    "unknown_field",
    "null_field",
    "hide",
    "late_events",
    "late_search",
)
LATE = ("late_events", "late_search")  # until removed, for all requests
PAGES = ("list", "search_result")
DEFORMING = ("unknown_field", "null_field", "hide")
_TYPES = {402: "card_error", 400: "invalid_request_error", 429: "invalid_request_error"}


@dataclass
class Fault:
    """A fault, and the requests that it affects."""

    kind: str
    path: str | None = None  # includes the paths below it; `*` matches anything
    method: str | None = None
    times: int | None = 1  # None: until it is removed
    after: int = 0  # number of matches that pass first
    options: dict[str, Any] = field(default_factory=dict)

    def matches(self, method: str, path: str) -> bool:
        """Whether a request is affected."""
        if self.method is not None and self.method != method:
            return False
        pattern = self.path  # encoded or not
        return pattern is None or _is_below(path, pattern) or _is_below(_decoded(path), pattern)

    def error(self) -> ApiError:
        """Return the response of a `status` fault."""
        status = int(self.options.get("status", 500))
        headers = {name: str(value) for name, value in self.options.get("headers", {}).items()}
        if "reason" in self.options:
            headers["Stripe-Rate-Limited-Reason"] = str(self.options["reason"])
        message = self.options.get("message", "Something went wrong on Stripe's end.")
        kind = self.options.get("type", _TYPES.get(status, "api_error"))
        return ApiError(status, message, kind=kind, code=self.options.get("code"), headers=headers)


class Faults:
    """The active faults."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(
        self,
        kind: str,
        path: str | None = None,
        method: str | None = None,
        times: int | None = 1,
        after: int = 0,
        **options: Any,
    ) -> None:
        """Add a fault for the requests that match."""
        if kind not in KINDS:
            raise ValueError(f"expected one of {', '.join(KINDS)}, got {kind!r}")
        if kind in LATE:
            times = None
        with self._lock:
            self._faults.append(Fault(kind, path, method, times, after, options))

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def take(self, method: str, path: str, query: str = "", account: str = "") -> list[Fault]:
        """Return the faults of a request, and count down their remaining uses."""
        paged = "starting_after=" in query
        with self._lock:
            met = [
                fault
                for fault in self._faults
                if fault.kind not in LATE
                and fault.matches(method, path)
                and (paged or not fault.options.get("paged"))
                and fault.options.get("account", account) == account
            ]
            return [fault for fault in met if self._use(fault)]

    def _use(self, fault: Fault) -> bool:
        if fault.after > 0:
            fault.after -= 1
            return False
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                self._faults.remove(fault)
        return True

    def delay_of(self, kind: str) -> float:
        """Return the delay in seconds before events are listed, or objects are found."""
        with self._lock:
            late = [float(f.options.get("seconds", 0)) for f in self._faults if f.kind == kind]
        return max(late, default=0.0)


def _decoded(path: str) -> str:
    """Return the path with each segment decoded; a slash in an ID starts no new segment."""
    return "/".join(unquote(part).replace("/", "%2F") for part in path.split("/"))


def _is_below(path: str, pattern: str) -> bool:
    """Whether a path is the one that a pattern names, or below it."""
    if path == pattern or path.startswith(pattern.rstrip("/") + "/"):
        return True
    return "*" in pattern and fnmatchcase(path, pattern)


def first(faults: list[Fault], *kinds: str) -> Fault | None:
    """Return the first fault of one of these kinds."""
    return next((fault for fault in faults if fault.kind in kinds), None)


def deform(body: Any, faults: list[Fault]) -> Any:
    """Return the body with a field added, a field set to null, or list entries removed."""
    for fault in faults:
        if fault.kind == "unknown_field":
            name = str(fault.options.get("field", "brand_new_field"))
            body = _each(body, name, fault.options.get("value", "brand new"))
        elif fault.kind == "null_field":
            body = _each(body, str(fault.options["field"]), None)
        elif fault.kind == "hide" and body.get("object") in PAGES:
            private_fields = fault.options.get("ids", ())
            body = {
                **body,
                "data": [row for row in body["data"] if row["id"] not in private_fields],
            }
    return body


def _each(body: Any, path: str, value: Any) -> Any:
    if isinstance(body, dict) and body.get("object") in PAGES:
        return {**body, "data": [_set(entry, path.split("."), value) for entry in body["data"]]}
    return _set(body, path.split("."), value)


def _set(node: Any, path: list[str], value: Any) -> Any:
    if isinstance(node, list):
        return [_set(entry, path, value) for entry in node]
    if not isinstance(node, dict):
        return node
    name, rest = path[0], path[1:]
    return {**node, name: _set(node.get(name), rest, value) if rest else value}
