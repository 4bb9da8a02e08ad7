"""Pages of records straight from Stripe's bytes, by a type made of the stream's schema.

Most of an object goes out as it came in: only what holds a time is built, the rest is handed on
as the bytes it is. That takes a third of the time of parsing all of it and writing it again.
"""

from __future__ import annotations

import copy
import keyword
from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from stripe_alloy.api.schemas import Schema, nested_lists
from tap_stripe_alloy.records.conversion import times_of

Integer = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
StructField = tuple[Any, Any]
"""Type and default."""


class PassThroughPage(msgspec.Struct):
    """A page of a list; its objects are records."""

    object: str
    has_more: bool
    data: list[Any]


class PassThroughDecoder:
    """Makes pages of one stream's records of one account."""

    def __init__(self, schema: Schema, *, account_id: str | None, unix: bool) -> None:
        time: Any = int if unix else datetime
        added: dict[str, StructField] = {
            "id": (str, ...),
            "created": (time, ...),
            "updated": (time | UnsetType, UNSET),
            "deleted": (bool, False),
            "_account_id": (str | None, None),
        }
        self.account_id = account_id
        nested = nested_lists(schema)
        self._nested = [(path, attrgetter(path[0])) for path in nested]
        properties = {**schema["properties"]}
        del properties["_sdc_deleted_at"]
        record = _struct({"properties": properties}, nested, added)
        page = msgspec.defstruct("Page", [("data", list[record])], bases=(PassThroughPage,))  # type: ignore[valid-type]
        # Not strict: Unix seconds make a time. What else that lets pass, Stripe never sends.
        self._decoder = msgspec.json.Decoder(page, strict=False)

    def of(self, account_id: str | None) -> PassThroughDecoder:
        """Return the same for another account; making the types is what costs."""
        other = copy.copy(self)
        other.account_id = account_id
        return other

    def page(self, content: bytes) -> Any:
        """Parse a page; msgspec.ValidationError where it is more than its schema or its bytes say.

        That is a field that the schema does not know, or a nested list with more to fetch.
        """
        if b"\n" in content or b"\r" in content:  # Stripe's lay-out; it would cut messages in two
            content = msgspec.json.format(content, indent=-1)
        if not content.isascii():
            content.decode()  # what is handed on unparsed is to be UTF-8 all the same
        try:
            page: Any = self._decoder.decode(content)
        except ValueError as error:  # a time beyond the year 9999 is no ValidationError
            raise msgspec.ValidationError(str(error)) from None
        for record in page.data:
            record._account_id = self.account_id  # noqa: SLF001 - a column of the record
            if record.updated is UNSET:
                record.updated = record.created
        for path, outermost in self._nested:
            if any(map(outermost, page.data)) and any(_cut_short(r, path) for r in page.data):
                raise msgspec.ValidationError(f"More to fetch at {path}")
        return page


def seconds(time: datetime | int) -> int:
    """A record's time as Unix seconds."""
    return time if isinstance(time, int) else int(time.timestamp())


def is_on_test_clock_raw(record: Any) -> bool:
    """Whether a record is of an object on a test clock."""
    return record.test_clock is not UNSET and bytes(record.test_clock) != b"null"


def _cut_short(record: Any, path: Sequence[str]) -> bool:
    for key in path:
        record = getattr(record, key)
        if record is None or record is UNSET:
            return False
    return bool(record.has_more)


def _struct(
    schema: Schema, nested: Sequence[Sequence[str]], known: Mapping[str, StructField]
) -> Any:
    """A type that knows the schema's fields and no others; what is absent stays absent."""
    rename, fields = {}, []
    for number, (key, value) in enumerate(schema["properties"].items()):
        name = f"field_{number}" if keyword.iskeyword(key) or not key.isidentifier() else key
        rename[name] = key
        inner = [path[1:] for path in nested if path and path[0] == key]
        of, default = known.get(key) or (_type(value, inner) | UnsetType, UNSET)
        fields.append((name, of, default))
    required = [(name, of) for name, of, default in fields if default is ...]
    optional = [field for field in fields if field[2] is not ...]
    return msgspec.defstruct(
        "Object", [*required, *optional], rename=rename, forbid_unknown_fields=True, gc=False
    )


def _type(schema: Schema, nested: Sequence[Sequence[str]]) -> Any:
    if schema.get("format") == "date-time":
        return datetime | None
    if "integer" in schema.get("type", ()):
        return Integer | None
    if [] in [list(path) for path in nested]:
        listed = _struct(schema, (), {"has_more": (bool, False)})
        return listed | None
    times = times_of(schema)
    if not (nested or times.fields or times.nested):
        return Raw
    if "items" in schema:
        return list[_type(schema["items"], ())] | None  # type: ignore[misc]
    return _struct(schema, nested, {}) | None
