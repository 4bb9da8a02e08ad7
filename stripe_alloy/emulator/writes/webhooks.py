"""Webhook endpoints: where events are delivered to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from stripe_alloy.emulator.errors import invalid
from stripe_alloy.emulator.routes import Route
from stripe_alloy.emulator.writes.fields import given

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stripe_alloy.emulator.ledger import Ledger

JSON = dict[str, Any]
KIND = "webhook_endpoint"
PATH = "/v1/webhook_endpoints"


def _checked(params: JSON) -> JSON:
    url = params.get("url")
    if url is not None and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url):
        raise invalid("Invalid URL: An explicit scheme (such as https) must be provided.", "url")
    return params


def _create(ledger: Ledger, _: Mapping[str, str], params: JSON) -> JSON:
    fields = given(KIND, _checked(params))
    secret = "whsec_" + ledger.dice.text(32)
    hidden = {"secret": secret, "connect": bool(params.get("connect"))}
    endpoint = ledger.add(KIND, hidden=hidden, **fields)
    return {**endpoint, "secret": secret}  # shown this once


def _update(ledger: Ledger, ids: Mapping[str, str], params: JSON) -> JSON:
    endpoint = ledger.get(KIND, ids["id"])
    fields = given(KIND, _checked(params), endpoint)
    if "disabled" in params:
        fields["status"] = "disabled" if params["disabled"] else "enabled"
    return ledger.change(endpoint, **fields)


def _delete(ledger: Ledger, ids: Mapping[str, str], _: JSON) -> JSON:
    return ledger.remove(ledger.get(KIND, ids["id"]))


ROUTES = (
    Route("POST", PATH, KIND, "WebhookEndpointCreateParams", write=_create),
    Route("POST", PATH + "/{id}", KIND, "WebhookEndpointUpdateParams", write=_update),
    Route("DELETE", PATH + "/{id}", KIND, None, write=_delete),
)
