"""Webhook endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.errors import invalid
from stripe_alloy.emulator.routes import Ids, Route
from stripe_alloy.emulator.webhook_endpoints import KIND, new_secret
from stripe_alloy.emulator.writes.fields import given

if TYPE_CHECKING:
    from stripe_alloy.emulator.session import Session

PATH = "/v1/webhook_endpoints"


def _checked(params: JSON) -> JSON:
    if "url" in params and not _is_url(params["url"]):
        raise invalid("Invalid URL: An explicit scheme (such as https) must be provided.", "url")
    if "enabled_events" in params and not params["enabled_events"]:
        raise invalid("You must enable at least one event.", "enabled_events")
    return params


def _is_url(text: str) -> bool:
    if not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        place = urlsplit(text)
        return place.scheme in ("http", "https") and bool(place.hostname) and place.port != 0
    except ValueError:  # an invalid port or address
        return False


def _create(session: Session, _: Ids, params: JSON) -> JSON:
    fields = given(KIND, _checked(params))
    secret = new_secret(session.dice)
    private_fields = {"secret": secret, "connect": bool(params.get("connect"))}
    endpoint = session.add(KIND, private_fields=private_fields, **fields)
    return {**endpoint, "secret": secret}  # only in this response


def _update(session: Session, endpoint: JSON, params: JSON) -> JSON:
    fields = given(KIND, _checked(params), endpoint)
    if "disabled" in params:
        fields["status"] = "disabled" if params["disabled"] else "enabled"
    return session.change(endpoint, **fields)


def _delete(session: Session, endpoint: JSON, _: JSON) -> JSON:
    return session.remove(endpoint)


ROUTES = (
    Route("POST", PATH, KIND, "WebhookEndpointCreateParams", write=_create),
    Route("POST", PATH + "/{id}", KIND, "WebhookEndpointUpdateParams", change=_update),
    Route("DELETE", PATH + "/{id}", KIND, change=_delete),
)
