"""Checks a request's parameters against the endpoint's, and converts them."""

from __future__ import annotations

import re
from typing import Any

from stripe_alloy.api.json_types import JSON
from stripe_alloy.api.params import ParamType
from stripe_alloy.emulator.errors import ApiError, invalid, required, unknown_parameter

_INTEGER = re.compile(r"^-?\d{1,18}$")
_DECIMAL = re.compile(r"^-?\d+(\.\d{1,12})?$")
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
MAX_METADATA = 50


class CoercedParams(JSON):
    """Parameters; reading a missing one raises Stripe's 400.

    The types of the `stripe` package do not say all that is required, such as one of `customer`
    and `customer_account`.
    """

    def __init__(self, values: JSON, prefix: str = "") -> None:
        super().__init__(values)
        self._prefix = prefix

    def __missing__(self, name: str) -> Any:
        raise required(_name(self._prefix, name))


def coerce(raw: JSON, shape: ParamType) -> JSON:
    """Return the typed parameters of a request; raises Stripe's 400."""
    return _hash(raw, shape, "")


def _hash(raw: JSON, shape: ParamType, prefix: str) -> JSON:
    fields = shape.fields or {}
    strange = [_name(prefix, name) for name in raw if name not in fields]
    if strange:
        raise unknown_parameter(strange)
    for name in sorted(shape.needed):
        if name not in raw:
            raise required(_name(prefix, name))
    values = {name: _value(raw[name], fields[name], _name(prefix, name)) for name in raw}
    return CoercedParams(values, prefix)


def _value(raw: Any, shape: ParamType, name: str) -> Any:
    if isinstance(raw, str):
        return _scalar(raw, shape, name)
    if shape.items is not None and all(key.isdigit() for key in raw):
        ordered = sorted(raw, key=int)
        return [_value(raw[key], shape.items, f"{name}[{key}]") for key in ordered]
    if shape.fields is not None:
        return _hash(raw, shape, name)
    if shape.values is not None:
        return _map(raw, shape.values, name)
    expected = "array" if shape.items is not None else "string"
    raise invalid(f"Invalid {expected}: {name} was a hash", name, f"parameter_invalid_{expected}")


def _map(raw: JSON, values: ParamType, name: str) -> JSON:
    if name == "metadata":
        check_metadata(raw)
    return {key: _value(raw[key], values, f"{name}[{key}]") for key in raw}


def check_metadata(metadata: JSON) -> None:
    """Check the limits of metadata: docs.stripe.com/api/metadata."""
    if len(metadata) > MAX_METADATA:
        raise too_much_metadata()
    for key, value in metadata.items():
        if len(key) > 40:
            raise invalid(f"Metadata keys can have up to 40 characters: {key}", "metadata")
        if len(str(value)) > 500:
            raise invalid(
                f"Metadata values can have up to 500 characters, but you passed in a value that "
                f"is {len(str(value))} characters. Invalid value: {key}",
                f"metadata[{key}]",
            )


def too_much_metadata() -> ApiError:
    """Return the error for more metadata keys than Stripe stores."""
    return invalid(f"Metadata can have up to {MAX_METADATA} keys.", "metadata")


def _scalar(raw: str, shape: ParamType, name: str) -> Any:
    if raw == "":
        return _empty(shape, name)
    if raw in shape.literals:
        return raw
    for kind, convert in _CONVERSIONS.items():
        if kind in shape.scalars:
            value = convert(raw)
            if value is not None:
                return value
    if "string" in shape.scalars and not shape.literals:
        return raw
    raise _refusal(raw, shape, name)


def _empty(shape: ParamType, name: str) -> str:
    if shape.clearable or "string" in shape.scalars or shape.values or shape.items:
        return ""
    raise invalid(
        f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset "
        f"a parameter; however '{name}' cannot be unset. You should remove '{name}' from your "
        "request or supply a non-empty value.",
        name,
        "parameter_invalid_empty",
    )


def _integer(raw: str) -> int | None:
    return int(raw) if _INTEGER.match(raw) else None


def _number(raw: str) -> float | None:
    return float(raw) if _DECIMAL.match(raw) else None


def _decimal(raw: str) -> str | None:
    return raw if _DECIMAL.match(raw) else None


_CONVERSIONS: dict[str, Any] = {
    "boolean": _BOOLEANS.get,
    "integer": _integer,
    "number": _number,
    "decimal": _decimal,
}


def _refusal(raw: str, shape: ParamType, name: str) -> ApiError:
    if "integer" in shape.scalars:
        return invalid(f"Invalid integer: {raw}", name, "parameter_invalid_integer")
    if shape.literals:
        choices = ", ".join(shape.literals)
        return invalid(f"Invalid {name}: must be one of {choices}", name)
    if shape.fields is not None or shape.values is not None:
        return invalid(f"Invalid object: {raw}", name, "parameter_invalid_object")
    if shape.items is not None:
        return invalid(f"Invalid array: {raw}", name, "parameter_invalid_array")
    kind = next(iter(shape.scalars), "value")
    return invalid(f"Invalid {kind}: {raw}", name, f"parameter_invalid_{kind}")


def _name(prefix: str, name: str) -> str:
    return f"{prefix}[{name}]" if prefix else name
