"""Stripe's search query language: docs.stripe.com/search."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from stripe_alloy.api.json_types import JSON
from stripe_alloy.emulator.errors import ApiError, invalid

MAX_CLAUSES = 10
SHORTEST = 3
"""Minimum number of characters of a substring."""
STRING, TOKEN, NUMBER = "string", "token", "number"
_OPERATORS = {STRING: (":", "~"), TOKEN: (":",), NUMBER: (":", ">", "<", ">=", "<=")}
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {
        ":": operator.eq,
        ">": operator.gt,
        "<": operator.lt,
        ">=": operator.ge,
        "<=": operator.le,
    }
)
_QUOTED = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_CLAUSE = re.compile(
    rf"(?P<no>-?)(?P<field>[A-Za-z_][\w.]*)(?:\[(?P<key>{_QUOTED})\])?"
    rf"\s*(?P<sign>>=|<=|[:~<>])\s*(?P<value>{_QUOTED}|[^\s\"'()]+)(?=\s|$)"
)
_JOINT = re.compile(r"(AND|OR)\s+", re.IGNORECASE)
_NUMERAL = re.compile(r"-?\d+(\.\d+)?")
_WORD = re.compile(r"\w+")
_BY_SOURCE = re.compile(r"payment_method_details\.(card|card_present|interac_present)\.")

_COMMON = {"created": NUMBER, "metadata": TOKEN}
_MONEY = {"currency": TOKEN, "customer": TOKEN, "status": TOKEN, **_COMMON}
_CARD = ("brand", "exp_month", "exp_year", "fingerprint", "last4")
FIELDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "charge": {
            "amount": NUMBER,
            "billing_details.address.postal_code": TOKEN,
            "disputed": TOKEN,
            "refunded": TOKEN,
            **_MONEY,
            **{f"payment_method_details.card.{name}": TOKEN for name in _CARD},
        },
        "customer": {"email": STRING, "name": STRING, "phone": STRING, **_COMMON},
        "invoice": {
            "last_finalization_error_code": TOKEN,
            "last_finalization_error_type": TOKEN,
            "number": STRING,
            "receipt_number": STRING,
            "subscription": TOKEN,
            "total": NUMBER,
            **_MONEY,
        },
        "payment_intent": {"amount": NUMBER, **_MONEY},
        "price": {
            "active": TOKEN,
            "currency": TOKEN,
            "lookup_key": STRING,
            "metadata": TOKEN,
            "product": STRING,
            "type": TOKEN,
        },
        "product": {
            "active": TOKEN,
            "description": STRING,
            "metadata": TOKEN,
            "name": STRING,
            "shippable": TOKEN,
            "url": STRING,
        },
        "subscription": {"canceled_at": NUMBER, "status": TOKEN, **_COMMON},
    }
)
"""Object type → its fields that can be searched, with their types."""
_PATHS = {
    "last_finalization_error_code": "last_finalization_error.code",
    "last_finalization_error_type": "last_finalization_error.type",
    "subscription": "parent.subscription_details.subscription",
}


class Clause(NamedTuple):
    """A field, an operator and a value; `value` is None for `null`."""

    path: tuple[str, ...]
    type: str
    sign: str
    value: str | None
    negated: bool

    def matches(self, obj: JSON) -> bool:
        """Whether an object matches."""
        found = _value(obj, self.path)
        return self._holds(found) != self.negated

    def _holds(self, found: Any) -> bool:
        if self.value is None or found in (None, ""):
            return self.value is None and found in (None, "")
        if self.type == NUMBER:
            return _COMPARE[self.sign](float(found), float(self.value))
        text, wanted = _text(found), self.value.lower()
        if self.type == TOKEN:
            return text == wanted
        return wanted in text if self.sign == "~" else _has_phrase(text, wanted)


class Search(NamedTuple):
    """Clauses, of which an object must match all or any."""

    clauses: list[Clause]
    any: bool

    def matches(self, obj: JSON) -> bool:
        """Whether an object is found."""
        matched = (clause.matches(obj) for clause in self.clauses)
        return any(matched) if self.any else all(matched)


def _value(obj: JSON, path: tuple[str, ...]) -> Any:
    if path == ("refunded",):  # null: nothing is refunded; false: a part
        return obj["refunded"] if obj["amount_refunded"] else None
    node: Any = obj
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _text(found: Any) -> str:
    return str(found).lower()  # `true` and `false` as in JSON


def _has_phrase(text: str, wanted: str) -> bool:
    """Whether a text has all words of a phrase, in the same order."""
    words, phrase = _WORD.findall(text), _WORD.findall(wanted)
    if not phrase:
        return text == wanted
    starts = range(len(words) - len(phrase) + 1)
    return any(words[start : start + len(phrase)] == phrase for start in starts)


# ---------------------------------------------------------------------- parsing


def parse(kind: str, resource: str, text: str) -> Search:
    """Return the search of a query; raises Stripe's 400."""
    rest = text.strip()
    clauses: list[Clause] = []
    joints: set[str] = set()
    while rest:
        found = _CLAUSE.match(rest)
        if found is None:
            raise _unparsable()
        clauses.append(_clause(kind, resource, found))
        rest = rest[found.end() :].lstrip()
        joint = _JOINT.match(rest)
        if rest:  # a space means AND
            joints.add(joint[1].upper() if joint else "AND")
        rest = rest[joint.end() :] if joint else rest
    _check(clauses, joints)
    return Search(clauses, "OR" in joints)


def _check(clauses: list[Clause], joints: set[str]) -> None:
    if not clauses:
        raise _unparsable()
    if len(joints) > 1:
        raise invalid("You cannot combine AND and OR in one search query.")
    if len(clauses) > MAX_CLAUSES:
        raise invalid(f"A search query can have up to {MAX_CLAUSES} clauses.")


def _clause(kind: str, resource: str, found: re.Match[str]) -> Clause:
    field, key, sign = found["field"], found["key"], found["sign"]
    known = _BY_SOURCE.sub("payment_method_details.card.", field)
    field_type = FIELDS[kind].get(known)
    if field_type is None or (field == "metadata") != bool(key):
        raise _unsupported_field(field, resource)
    value = _given(found["value"], field_type)
    _check_operator(field, field_type, sign, value)
    path = ("metadata", _unquoted(key)) if key else tuple(_PATHS.get(field, field).split("."))
    return Clause(path, field_type, sign, value, found["no"] == "-")


def _check_operator(field: str, field_type: str, sign: str, value: str | None) -> None:
    if sign not in _OPERATORS[field_type] or (value is None and sign != ":"):
        raise invalid(f"Operator `{sign}` is not supported for field `{field}`.")
    if sign == "~" and len(value or "") < SHORTEST:
        raise invalid(f"A substring must have at least {SHORTEST} characters: `{field}`.")


def _given(text: str, field_type: str) -> str | None:
    """Return the value of a clause; only numbers and null need no quotation marks."""
    if text[0] in "\"'":
        value = _unquoted(text)
    elif text.lower() == "null":
        return None
    else:
        value = text
        if not _NUMERAL.fullmatch(text):
            raise _unparsable()
    if field_type == NUMBER and not _NUMERAL.fullmatch(value):
        raise invalid(f"Invalid number in the search query: {value}")
    return value


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _unparsable() -> ApiError:
    return invalid(
        "We were unable to parse your search query. Try using the format "
        '`metadata["key"]:"value"` to query for metadata or key:"value" to query for other fields.'
    )


def _unsupported_field(field: str, resource: str) -> ApiError:
    page = f"http://stripe.com/docs/search#query-fields-for-{resource.replace('_', '-')}"
    return invalid(
        f"Field `{field}` is an unsupported search field for resource `{resource}`. "
        f"See {page} for a list of supported fields."
    )
