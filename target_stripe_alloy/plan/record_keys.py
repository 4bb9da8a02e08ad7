"""Pure: a record's key as text, with its names and types, and its stamp in an object's metadata.

A key is the canonical JSON of its properties, `{"crm_id":5}`: text "5" and number 5 are two keys,
and so are `crm_id` 5 and `erp_id` 5. Numbers that are equal are one: 7, 7.0 and 7e0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from itertools import product
from typing import Any

from target_stripe_alloy.params_tree import InvalidRecord
from target_stripe_alloy.plan.plan_types import IdMode

COPY_OF = "stripe_alloy_copy_of"
"""Metadata of a copy: the id of the object it was made from."""
KEY_TYPES = "stripe_alloy_key_types"
"""Metadata beside a stamp: the types of its values, where the values alone are ambiguous.

Text that looks like a number is ambiguous, and so are several properties: one of them alone may be
another key.
"""
STAMP = "stamp:"
"""Begins the journal's key of an object that was found by its stamp."""
LONGEST = 400
"""Characters of a key in the journal; of a longer one it keeps a hash."""
LONGEST_ID = 500
"""Characters of an object's id: the limit of the journal and of a metadata value."""
_HASH = "sha256:"
_SHOWN = 84
_MOST_DIGITS = 400
_PLAIN = 40
"""Powers of ten up to which a number is written without an exponent."""

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,6})?")
_BOOLEANS = {"true": True, "True": True, "false": False, "False": False}
_KINDS = {str: "text", bool: "boolean", Decimal: "number"}

Value = str | Decimal | bool
"""One property of a key."""
Values = Mapping[str, Value]


class UnusableKey(InvalidRecord):
    """A record's key, or its `match_by` values, cannot be used; the message says why."""


# ---------------------------------------------------------------------- values


def value_of(name: str, value: Any) -> Value:
    """Return a property of a key; raises `UnusableKey` for a list, an object, NaN and the like."""
    if isinstance(value, (str, bool)):
        return value
    if isinstance(value, (int, float, Decimal)):
        number = Decimal(value) if isinstance(value, int) else Decimal(str(value))
        if not number.is_finite():
            raise UnusableKey(f"its {name} is {value}, and no number")
        if len(number.as_tuple().digits) > _MOST_DIGITS:
            raise UnusableKey(f"its {name} has more than {_MOST_DIGITS} digits")
        return number
    kinds = {"dict": "an object", "list": "a list"}
    name_of = type(value).__name__
    kind = kinds.get(name_of, name_of)
    raise UnusableKey(f"its {name} is {kind}: a key is text, a number, true or false")


def number_text(number: Decimal) -> str:
    """Return the digits of a number, the same for all that are equal.

    >>> [number_text(Decimal(text)) for text in ("7.00", "7e0", "-0.0", "1.50", "1E+400")]
    ['7', '7', '0', '1.5', '1E+400']
    """
    sign, digits, power = number.as_tuple()
    significant = "".join(map(str, digits)).lstrip("0")
    stripped = significant.rstrip("0")
    exponent = int(power) + len(significant) - len(stripped)
    if not stripped:
        return "0"
    exact = Decimal((sign, tuple(map(int, stripped)), exponent))
    return format(exact, "f" if abs(exact.adjusted()) <= _PLAIN else "E")


def text_of(value: Value) -> str:
    """Return a property in the form of stamps and references."""
    return number_text(value) if isinstance(value, Decimal) else str(value)


def parsed_value(text: str) -> Value:
    """Return the number or the boolean that a text represents, else the text itself.

    >>> parsed_value("7.0") == 7, parsed_value("007"), parsed_value("True"), parsed_value("a")
    (True, '007', True, 'a')
    """
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _NUMBER.fullmatch(text):
        try:
            return Decimal(text)
        except InvalidOperation:
            return text
    return text


def _equal(one: Value, other: Value) -> bool:
    """Whether two values are equal: a boolean is no number, a text neither."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


# ---------------------------------------------------------------------- keys as text


def canonical(values: Values) -> str:
    """Return a key in the form of the journal."""
    pairs = (f"{json.dumps(name)}:{_token(values[name])}" for name in sorted(values))
    text = "{" + ",".join(pairs) + "}"
    if len(text) <= LONGEST:
        return text
    return _HASH + sha256(text.encode()).hexdigest()


def _token(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return number_text(value) if isinstance(value, Decimal) else json.dumps(value)


def values_of(key: str) -> dict[str, Value] | None:
    """Return the properties of a key; None if the key is a hash, or a plain id."""
    text = key.removeprefix(STAMP)
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text, parse_int=Decimal, parse_float=Decimal)
    except ValueError:
        return None
    return {str(name): value for name, value in found.items()}


def described(key: str) -> str:
    """Return a key for a message: `crm_id "5" (text)`."""
    values = values_of(key)
    if values is None:
        return key
    return ", ".join(f"{name} {_token(v)} ({_KINDS[type(v)]})" for name, v in values.items())


def reference_to(key: str) -> str:
    """Return how other records refer to a key: its values, joined by `|`."""
    values = values_of(key)
    return form_of("|".join(text_of(value) for value in values.values())) if values else key


def form_of(text: str) -> str:
    """Return the form of a reference by which keys are found: the same for equal numbers."""
    text = "|".join(text_of(parsed_value(part)) for part in text.split("|"))
    return text if len(text) <= LONGEST else _HASH + sha256(text.encode()).hexdigest()


def shortened(text: str) -> str:
    """Return a text, but of a long one its beginning and a hash: it stays in memory.

    >>> len(shortened("x" * 100_000))
    157
    """
    if len(text) <= LONGEST_ID:
        return text
    digest = sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{text[:_SHOWN]}… {_HASH}{digest}"


def keys_for_reference(name: str, text: str) -> Iterator[str]:
    """Yield the keys of one property that a reference may stand for."""
    other = parsed_value(text)
    for value in (text,) if isinstance(other, str) else (text, other):
        key = canonical({name: value})
        yield key
        yield STAMP + key


# ---------------------------------------------------------------------- a stream's keys


class RecordKey:
    """What identifies a stream's records, and how it is stamped on an object.

    `match` are the fields of `match_by`: they identify a record without a key.
    """

    def __init__(self, id_mode: str, properties: Sequence[str], match: Sequence[str] = ()) -> None:
        self.external = id_mode == IdMode.EXTERNAL
        self.properties = tuple(properties) if self.external else ("id",)
        self.match = tuple(match)

    def values(self, record: Mapping[str, Any]) -> dict[str, Value] | None:
        """Return a record's key properties; None if one is missing. Raises `UnusableKey`."""
        found = {name: record.get(name) for name in self.properties}
        if not found or any(value is None or value == "" for value in found.values()):
            return None
        return {name: value_of(name, value) for name, value in found.items()}

    def of(self, record: Mapping[str, Any]) -> str | None:
        """Return the key of a record; None if it has none. Raises `UnusableKey`."""
        values = self.values(record)
        if values is None:
            return canonical(self.match_values(record)) if self.by_match(record) else None
        if self.external:
            return canonical(values)
        text = text_of(values["id"])
        if len(text) > LONGEST_ID:
            raise UnusableKey(f"its id has {len(text)} characters: an id has at most {LONGEST_ID}")
        return text

    def by_match(self, record: Mapping[str, Any]) -> bool:
        """Whether a record has no key but what it is matched by."""
        if self.external and self.properties:
            return False
        absent = all(record.get(name) in (None, "") for name in self.properties)
        return bool(self.match) and absent

    def label(self, record: Mapping[str, Any]) -> str:
        """Return a record's key for messages: its values, joined by `|`, shortened if long."""
        if self.by_match(record):
            return shortened("|".join(list(self.match_values(record).values())))
        return shortened("|".join([str(record.get(name)) for name in self.properties]))

    def match_values(self, record: Mapping[str, Any], *, present: bool = False) -> dict[str, str]:
        """Return the `match_by` values of a record, as Stripe has them. Raises `UnusableKey`.

        With `present`, fields that the record does not have are left out.
        """
        fields = [name for name in self.match if not present or _has_field(record, name)]
        return {field: _match_text(field, at_field(record, field)) for field in fields}

    # ------------------------------------------------------------------ stamps

    def stamp(self, record: Mapping[str, Any]) -> dict[str, str]:
        """Return the metadata by which a new object is found again."""
        if not self.external:
            return {COPY_OF: str(record["id"])}
        values = self.values(record)
        if values is None:
            return {}
        stamp = {name: text_of(value) for name, value in values.items()}
        types = {
            name: _KINDS[type(value)]
            for name, value in sorted(values.items())
            if len(values) > 1
            or (isinstance(value, str) and not isinstance(parsed_value(value), str))
        }
        if types:
            stamp[KEY_TYPES] = json.dumps(types, separators=(",", ":"))
        return stamp

    def stamp_of(self, source: Mapping[str, Any]) -> str | None:
        """Return the key of an object's stamp; the types follow from the values."""
        metadata = source.get("metadata") or {}
        if not self.external:
            return metadata.get(COPY_OF) or None
        raw = {name: str(metadata.get(name) or "") for name in self.properties}
        if not raw or not all(raw.values()) or self._has_more_properties(metadata):
            return None
        texts = _texts(metadata)
        return canonical({n: v if n in texts else parsed_value(v) for n, v in raw.items()})

    def stamps_for(self, record: Mapping[str, Any], key: str) -> list[str]:
        """Return the keys that `stamp_of` may return for a record's object."""
        values = self.values(record) if self.external else None
        if values is None:
            return [key]
        choices = [[v, parsed_value(v)] if isinstance(v, str) else [v] for v in values.values()]
        return _combinations(list(values), choices)

    def possible_keys(self, source: Mapping[str, Any]) -> list[str]:
        """Return the user's keys that an object's stamp may stand for."""
        if not self.external:
            return []
        metadata = source.get("metadata") or {}
        texts = _texts(metadata)
        choices: list[list[Value]] = []
        for name in self.properties:
            raw = str(metadata.get(name) or "")
            choices.append([raw] if name in texts else [raw, parsed_value(raw)])
        return _combinations(self.properties, choices)

    def fits(self, record: Mapping[str, Any], source: Mapping[str, Any]) -> bool | None:
        """Whether an object carries a record's stamp, another (False), or none (None)."""
        metadata = source.get("metadata") or {}
        if not self.external:
            original = metadata.get(COPY_OF)
            return original == str(record.get("id")) if original else None
        if self._has_more_properties(metadata):
            return False
        texts, values = _texts(metadata), self.values(record) or {}
        found = [
            _fits(value, str(metadata[name]), name in texts)
            for name, value in values.items()
            if metadata.get(name)
        ]
        if not all(found):
            return False
        return True if found and len(found) == len(values) else None

    def _has_more_properties(self, metadata: Mapping[str, Any]) -> bool:
        """Whether an object's key has more properties than these."""
        return set(self.properties) < _types(metadata).keys()


def _combinations(names: Sequence[str], choices: Sequence[Sequence[Value]]) -> list[str]:
    """Return the keys with one of the values that each property may have."""
    keys = (canonical(dict(zip(names, values, strict=True))) for values in product(*choices))
    return list(dict.fromkeys(keys))


def _fits(value: Value, raw: str, is_text: bool) -> bool:
    if isinstance(value, str):
        return value == raw
    return not is_text and _equal(value, parsed_value(raw))


def _types(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the types of a stamp's values."""
    try:
        found = json.loads(metadata.get(KEY_TYPES) or "{}")
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _texts(metadata: Mapping[str, Any]) -> frozenset[str]:
    """Return the properties of a stamp whose type is text."""
    return frozenset(name for name, kind in _types(metadata).items() if kind == "text")


def at_field(source: Mapping[str, Any], field: str) -> Any:
    """Return a field of a record or of an object; `metadata.crm_id` is one inside another."""
    outer, _, inner = field.partition(".")
    value = source.get(outer)
    if not inner:
        return value
    return value.get(inner) if isinstance(value, Mapping) else None


def _has_field(record: Mapping[str, Any], field: str) -> bool:
    outer, _, inner = field.partition(".")
    within = record.get(outer)
    return outer in record and (not inner or not isinstance(within, Mapping) or inner in within)


def _match_text(field: str, value: Any) -> str:
    if value is None or value == "":
        raise UnusableKey(f"`match_by`: its {field} is empty")
    if isinstance(value, bool):
        return "true" if value else "false"
    return text_of(value_of(field, value))
