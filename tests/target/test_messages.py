"""Messages: BATCH is written as RECORDs are, and what is malformed stops the run in one line."""

from __future__ import annotations

import gzip
import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from stripe_alloy.emulator import Emulator
from target_stripe_alloy.messages import MessageError
from target_stripe_alloy.target import TargetStripeAlloy
from tests.target.helpers import Message, lines_of, record, schema, settings_for, state, write
from tests.target.test_failures import Command

EXTERNAL = {"id_mode": "external"}
ROWS = [{"crm_id": f"c{n}", "name": f"Number {n}", "email": "a@example.com"} for n in range(5)]
SECRET = "Very Private Name"


@pytest.fixture
def command(empty: Emulator, tmp_path: Path) -> Command:
    return Command(empty, tmp_path)


def batch(*files: Path | str, **encoding: Any) -> Message:
    urls = [file if isinstance(file, str) else file.as_uri() for file in files]
    return {
        "type": "BATCH",
        "stream": "customers",
        "encoding": {"format": "jsonl", **encoding},
        "manifest": urls,
    }


def file_of(folder: Path, *rows: dict[str, Any], name: str = "b.jsonl") -> Path:
    file = folder / name
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return file


def keys(emulator: Emulator) -> list[str]:
    return sorted(found["metadata"]["crm_id"] for found in emulator.objects("customer"))


ALL = [row["crm_id"] for row in ROWS]


def stopped(
    emulator: Emulator, folder: Path, messages: list[Message], more: bytes = b""
) -> tuple[str, list[Message]]:
    """What a run that is stopped says, one line without contents, and the states it wrote."""
    content = "".join(json.dumps(message) + "\n" for message in messages).encode() + more
    config = settings_for(emulator, folder, **EXTERNAL)
    output = io.StringIO()
    with redirect_stdout(output), pytest.raises(MessageError) as error:
        TargetStripeAlloy(config=config).listen(io.TextIOWrapper(io.BytesIO(content), "utf-8"))
    told = str(error.value)
    assert "\n" not in told
    assert "Very Pri" not in told
    return told, [json.loads(line) for line in output.getvalue().splitlines()]


# ---------------------------------------------------------------------- BATCH


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("b.jsonl", {}),
        ("b.jsonl", {"compression": None}),
        ("b.jsonl", {"compression": "none"}),
        ("b.jsonl.gz", {"compression": "gzip"}),
    ],
)
def test_the_rows_of_a_batch_are_written(
    empty: Emulator, tmp_path: Path, name: str, encoding: dict[str, Any]
) -> None:
    file = file_of(tmp_path, *ROWS, name=name)
    messages = [schema("customers", "crm_id"), batch(file, **encoding), state(done=True)]
    run = write(empty, tmp_path, messages, **EXTERNAL)
    assert keys(empty) == ALL
    assert run.counts("customers") == {"read": 5, "created": 5}
    assert run.states == [{"done": True}]


def test_a_path_without_scheme_is_a_file(empty: Emulator, tmp_path: Path) -> None:
    file = file_of(tmp_path, *ROWS)
    write(empty, tmp_path, [schema("customers", "crm_id"), batch(str(file))], **EXTERNAL)
    assert keys(empty) == ALL


def test_several_files_and_records_are_written_in_their_order(
    empty: Emulator, tmp_path: Path
) -> None:
    first = file_of(tmp_path, {"crm_id": "a", "name": "1"}, {"crm_id": "a", "name": "2"}, name="1")
    second = file_of(tmp_path, {"crm_id": "a", "name": "3"}, name="2")
    last = record("customers", crm_id="a", name="4")
    messages = [schema("customers", "crm_id"), batch(first, second), last]
    run = write(empty, tmp_path, messages, **EXTERNAL)
    names = [request.params["name"] for request in run.writes]
    assert names == [["1"], ["2"], ["3"], ["4"]]


def test_stream_maps_hold_for_a_batch(empty: Emulator, tmp_path: Path) -> None:
    maps = {"customers": {"name": "name.upper()", "email": None}}
    messages = [
        schema("customers", "crm_id", name={"type": "string"}),
        batch(file_of(tmp_path, *ROWS)),
    ]
    write(empty, tmp_path, messages, stream_maps=maps, **EXTERNAL)
    found = {(customer["name"], customer["email"]) for customer in empty.objects("customer")}
    assert found == {(f"NUMBER {n}", None) for n in range(5)}


def test_a_bad_row_of_a_batch_is_rejected(empty: Emulator, tmp_path: Path) -> None:
    bad = {"crm_id": "bad", "name": "B", "tax_exempt": "perhaps"}
    file = file_of(tmp_path, ROWS[0], bad, ROWS[1])
    messages = [schema("customers", "crm_id"), batch(file), state(done=True)]
    run = write(empty, tmp_path, messages, **EXTERNAL)
    assert [line["record"] for line in run.rejects] == [bad]
    assert keys(empty) == ["c0", "c1"]
    assert run.states == [{"done": True}]


def test_a_batch_without_files_is_nothing(empty: Emulator, tmp_path: Path) -> None:
    messages = [schema("customers", "crm_id"), batch(), state(done=True)]
    assert write(empty, tmp_path, messages, **EXTERNAL).states == [{"done": True}]


BROKEN: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a format of columns": (b"", {"format": "parquet"}),
    "an unknown format": (b"", {"format": "csv"}),
    "no format": (b"", {"format": None}),
    "an unknown compression": (b"", {"compression": "zstd"}),
    "a field of the encoding that nobody knows": (b"", {"cipher": "aes"}),
    "a torn line": (b'{"crm_id": "c9"}\n{"crm_id": "Very Pri', {}),
    "a row that is no object": (b'{"crm_id": "c9"}\n["Very Private Name"]\n', {}),
    "a blank line": (b'{"crm_id": "c9"}\n\n', {}),
    "no UTF-8": (b'{"crm_id": "\xff\xfe"}\n', {}),
    "no gzip": (b'{"crm_id": "c9"}\n', {"compression": "gzip"}),
    "half a gzip": (gzip.compress(b'{"crm_id": "c9"}\n' * 999)[:-12], {"compression": "gzip"}),
    "gzip that is not said": (gzip.compress(b'{"crm_id": "c9"}\n'), {}),
    "a row without its key": (b'{"crm_id": "c9"}\n{"name": "Very Private Name"}\n', {}),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_batch_that_cannot_be_read_stops_the_run(
    empty: Emulator, tmp_path: Path, kind: str
) -> None:
    content, encoding = BROKEN[kind]
    file = tmp_path / "b.jsonl"
    file.write_bytes(content)
    told, states = stopped(empty, tmp_path, [KEYED, batch(file, **encoding), state(up_to=0)])
    assert told.startswith("Line 2 of the input: ")
    assert states == []


def test_the_command_ends_with_one_line_and_1(command: Command) -> None:
    file = command.folder / "b.jsonl"
    file.write_bytes(BROKEN["a torn line"][0])
    ended = command.run([KEYED, batch(file), state(up_to=0)])
    assert ended.code == 1, ended.errors
    assert ended.states == []
    assert "Traceback" not in ended.errors
    assert "Very Pri" not in ended.errors
    assert ended.errors.count("CRITICAL") == 1


@pytest.mark.parametrize(
    "files",
    [["file:///nothing-here/at/all.jsonl"], ["nothing://x/y"], [""], [7], "b.jsonl", None],
)
def test_a_file_that_is_not_there_stops_the_run(
    empty: Emulator, tmp_path: Path, files: Any
) -> None:
    messages = [KEYED, {**batch(), "manifest": files}, state(up_to=0)]
    told, states = stopped(empty, tmp_path, messages)
    assert told.startswith("Line 2 of the input: BATCH: ")
    assert states == []


def test_looking_for_a_file_creates_no_folder(empty: Emulator, tmp_path: Path) -> None:
    folder = tmp_path / "none here"
    told, _ = stopped(empty, tmp_path, [KEYED, batch(folder / "b.jsonl")])
    assert "cannot be read: No such file or directory" in told
    assert not folder.exists()


@pytest.mark.parametrize("form", ["file://{}", "file://localhost{}", "file:{}", "{}", "quoted"])
@pytest.mark.parametrize("name", ["rows.jsonl", "a row.jsonl", "100%20.jsonl", "zürich#1?.jsonl"])
def test_all_forms_of_a_local_url_are_read(
    empty: Emulator, tmp_path: Path, form: str, name: str
) -> None:
    folder = tmp_path / "some where"
    folder.mkdir()
    file = file_of(folder, *ROWS[:1], name=name)
    url = file.as_uri() if form == "quoted" else form.format(file)
    write(empty, tmp_path, [KEYED, batch(url)], **EXTERNAL)
    assert keys(empty) == ["c0"]


# ---------------------------------------------------------------------- what is malformed

GOOD = record("customers", crm_id="c0", name="A", email="a@example.com")
KEYED = schema("customers", "crm_id")

MALFORMED: dict[str, Any] = {
    "no type": {"stream": "customers", "record": {"name": SECRET}},
    "an unknown type": {"type": "UPSERT", "record": {"name": SECRET}},
    "a type in small letters": {**GOOD, "type": "record"},
    "a type that is a list": {**GOOD, "type": ["RECORD"]},
    "a type that is null": {**GOOD, "type": None},
    "no object": [SECRET],
    "a number": 5,
    "a record before its schema": {**GOOD, "stream": "invoices"},
    "a batch before its schema": {**batch(), "stream": "invoices"},
    "a record without a stream": {"type": "RECORD", "record": {"name": SECRET}},
    "a stream that is a list": {**GOOD, "stream": [SECRET]},
    "a record that is null": {**GOOD, "record": None},
    "a record that is a list": {**GOOD, "record": [SECRET]},
    "a record that is a text": {**GOOD, "record": SECRET},
    "no record": {"type": "RECORD", "stream": "customers"},
    "a record without its key": record("customers", name=SECRET),
    "a state without value": {"type": "STATE"},
    "a state that is null": {"type": "STATE", "value": None},
    "a state that is a list": {"type": "STATE", "value": [SECRET]},
    "a schema without properties": {**KEYED, "schema": {"type": "object"}},
    "a schema that is a list": {**KEYED, "schema": []},
    "no schema": {"type": "SCHEMA", "stream": "customers", "key_properties": []},
    "a schema without a stream": {"type": "SCHEMA", "schema": {"properties": {}}},
    "a key that the schema lacks": {**KEYED, "key_properties": ["erp_id"]},
    "keys that are a text": {**KEYED, "key_properties": "crm_id"},
    "a key that is a number": {**KEYED, "key_properties": [1]},
    "a batch without encoding": {k: v for k, v in batch().items() if k != "encoding"},
}
RAW = {
    "a torn line": b'{"type": "RECORD", "stream": "customers", "record": {"name": "Very Pri',
    "NaN": b'{"type": "RECORD", "stream": "customers", "record": {"crm_id": NaN}}\n',
    "no UTF-8": b'{"type": "RECORD", "stream": "\xff"}\n',
    "a blank line": b"\n",
    "a depth without end": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("kind", [*MALFORMED, *RAW])
def test_a_malformed_message_stops_the_run(empty: Emulator, tmp_path: Path, kind: str) -> None:
    bad = RAW.get(kind) or json.dumps(MALFORMED[kind]).encode() + b"\n"
    told, states = stopped(empty, tmp_path, [KEYED, GOOD, state(up_to=0)], bad)
    assert told.startswith("Line 4 of the input: ") or kind == "no UTF-8"
    assert not states or keys(empty) == ["c0"]


def test_an_error_of_reading_names_the_line(empty: Emulator, tmp_path: Path) -> None:
    with pytest.raises(MessageError, match=r"^Line 2 of the input: RECORD: `record` must be"):
        write(empty, tmp_path, [KEYED, {**GOOD, "record": [SECRET]}], **EXTERNAL)
    assert lines_of(tmp_path / "rejects.jsonl") == []
