"""`/_emulator/`: inspects and controls a running emulator, also from another process."""

from __future__ import annotations

from dataclasses import asdict
from ipaddress import ip_address
from typing import TYPE_CHECKING

import msgspec

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.timestamps import DAY
from stripe_alloy.emulator.http_messages import HttpResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from stripe_alloy.emulator.http_messages import HttpRequest
    from stripe_alloy.emulator.service import Service

PREFIX = "/_emulator/"
_DONE: JSON = {"ok": True}


def _counts(service: Service, _: JSON) -> JSON:
    rows = service.store.execute(
        "SELECT account, object, count(*) FROM objects WHERE shown = 0 GROUP BY 1, 2 ORDER BY 1, 2"
    )
    counts: dict[str, dict[str, object]] = {}
    for account, kind, count in rows:
        counts.setdefault(str(account), {})[str(kind)] = count
    return {"account_id": service.platform, "counts": counts}


def _requests(service: Service, _: JSON) -> JSON:
    return {"requests": [asdict(request) for request in service.log.all()]}


def _forget_requests(service: Service, _: JSON) -> JSON:
    service.log.clear()
    return _DONE


def _add_fault(service: Service, given: JSON) -> JSON:
    service.faults.add(**given)
    return _DONE


def _clear_faults(service: Service, _: JSON) -> JSON:
    service.faults.clear()
    return _DONE


def _clock(service: Service, given: JSON) -> JSON:
    service.clock.advance(float(given.get("advance", 0)))
    return {"now": service.clock()}


def _keys(service: Service, given: JSON) -> JSON:
    unknown = given.keys() - {"key", "permissions", "revoke"}
    if unknown:
        raise ValueError(f"expected key, permissions or revoke, got {', '.join(sorted(unknown))}")
    if given.get("revoke"):
        service.keys.revoke(str(given["revoke"]))
    else:
        service.keys.add(str(given["key"]), given.get("permissions"))
    return _DONE


def _accounts(service: Service, given: JSON) -> JSON:
    unknown = given.keys() - {"revoke", "restore"}
    if unknown:
        raise ValueError(f"expected revoke or restore, got {', '.join(sorted(unknown))}")
    service.revoked.update([given["revoke"]] if "revoke" in given else [])
    service.revoked.discard(given.get("restore", ""))
    return _DONE


def _webhooks(service: Service, _: JSON) -> JSON:
    found = service.webhooks
    return {"pending": found.pending(), "deliveries": [asdict(one) for one in found.deliveries]}


def _steer_webhooks(service: Service, given: JSON) -> JSON:
    unknown = given.keys() - {"duplicates", "disorder", "paused", "roll", "expires_in"}
    if unknown:
        raise ValueError(f"no such option: {', '.join(sorted(unknown))}")
    webhooks = service.webhooks
    duplicates = float(given.get("duplicates", webhooks.duplicates))
    disorder = float(given.get("disorder", webhooks.disorder))
    expires_in = float(given.get("expires_in", DAY))
    done = _DONE
    if "roll" in given:
        done = {"secret": webhooks.roll_secret(str(given["roll"]), expires_in=expires_in)}
    webhooks.duplicates, webhooks.disorder = duplicates, disorder
    webhooks.paused = bool(given.get("paused", webhooks.paused))
    return done


_ACTIONS: dict[tuple[str, str], Callable[[Service, JSON], JSON]] = {
    ("GET", "counts"): _counts,
    ("GET", "requests"): _requests,
    ("DELETE", "requests"): _forget_requests,
    ("POST", "faults"): _add_fault,
    ("DELETE", "faults"): _clear_faults,
    ("GET", "clock"): _clock,
    ("POST", "clock"): _clock,
    ("POST", "keys"): _keys,
    ("POST", "accounts"): _accounts,
    ("GET", "webhooks"): _webhooks,
    ("POST", "webhooks"): _steer_webhooks,
}


class ControlledService:
    """A service with control endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def admits(self, incoming: HttpRequest) -> bool:
        """Return whether a request's body is worth reading."""
        if incoming.path.startswith(PREFIX):
            return _is_local(incoming)
        return self._service.admits(incoming)

    def answer(self, incoming: HttpRequest) -> HttpResponse:
        """Answer one request, whatever happens."""
        if incoming.path.startswith(PREFIX):
            return _control(self._service, incoming)
        return self._service.answer(incoming)


def _is_local(incoming: HttpRequest) -> bool:
    return ip_address(incoming.peer).is_loopback


def _control(service: Service, incoming: HttpRequest) -> HttpResponse:
    if not _is_local(incoming):
        return _answer(403, {"error": "control endpoints answer to this machine only"})
    action = _ACTIONS.get((incoming.method, incoming.path.removeprefix(PREFIX).strip("/")))
    if action is None:
        return _answer(404, {"error": "no such control endpoint"})
    try:
        given = msgspec.json.decode(incoming.body) if incoming.body else {}
        return _answer(200, action(service, given))
    except (ValueError, TypeError, KeyError, msgspec.DecodeError) as wrong:
        return _answer(400, {"error": f"{type(wrong).__name__}: {wrong}"})


def _answer(status: int, body: JSON) -> HttpResponse:
    return HttpResponse(status, msgspec.json.encode(body))
