"""A tap as the Singer SDK's own template has it: what one gets without doing anything special."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import requests
from singer_sdk import RESTStream, Tap
from singer_sdk.authenticators import BearerTokenAuthenticator
from singer_sdk.pagination import BaseAPIPaginator
from typing_extensions import override

from tap_stripe_alloy.records.stream_schemas import stream_schema


class ByLastId(BaseAPIPaginator[str]):
    """Stripe's cursor."""

    @override
    def has_more(self, response: requests.Response) -> bool:
        return bool(response.json()["has_more"])

    @override
    def get_next(self, response: requests.Response) -> str:
        return str(response.json()["data"][-1]["id"])


class Charges(RESTStream[str]):
    """Charges, one page after the other."""

    name = "charges"
    path = "/v1/charges"
    primary_keys: ClassVar[tuple[str, ...]] = ("id",)
    schema: ClassVar[dict[str, Any]] = stream_schema("charges", expand=[], unix=True)
    records_jsonpath = "$.data[*]"
    url_base = os.environ.get("STOCK_URL", "")

    @property
    @override
    def authenticator(self) -> BearerTokenAuthenticator:
        return BearerTokenAuthenticator(token="sk_test_bench")

    @override
    def get_new_paginator(self) -> ByLastId:
        return ByLastId("")

    @override
    def get_url_params(self, context: Any, next_page_token: str | None) -> dict[str, Any]:
        params: dict[str, Any] = {"limit": 100}
        if next_page_token:  # none on the first page
            params["starting_after"] = next_page_token
        return params


class Stock(Tap):
    """One stream."""

    name = "tap-stock"
    config_jsonschema: ClassVar[dict[str, Any]] = {"properties": {}}

    @override
    def discover_streams(self) -> list[Charges]:
        return [Charges(self)]


if __name__ == "__main__":
    Stock.cli()
