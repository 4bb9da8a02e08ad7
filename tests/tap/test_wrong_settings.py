"""Settings, files and stream maps of the tap that are wrong: one line that says what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stripe_alloy.api import errors
from stripe_alloy.connection_settings import check_key
from stripe_alloy.emulator import Emulator
from tap_stripe_alloy.settings import read_settings
from tests.commands import Ended, run
from tests.conftest import Command, config_of, read

Call = Callable[..., Ended]
KEY = "sk_test_51Planted"


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    """Run a command that fails; returns what it says."""
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> Ended:
        ended = run(monkeypatch, capsys, *words)
        assert ended.code == 1, ended.all
        assert len(ended.errors) == 1, ended.all
        assert "Traceback" not in ended.all
        assert "Planted" not in ended.all
        return ended

    return command


BROKEN: dict[str, tuple[bytes, str]] = {
    "a list": (b'[{"api_key": "sk_test_51Planted"}]', "must be a JSON object"),
    "a text": (b'"sk_test_51Planted"', "must be a JSON object"),
    "half": (b'{"api_key": "sk_test_51Planted', "is not valid JSON"),
    "nothing": (b"", "is not valid JSON"),
    "UTF-16": ('{"api_key": "sk_test_51Planted"}'.encode("utf-16"), "is not UTF-8"),
    "UTF-16 without a mark": ('{"api_key": "Planted"}'.encode("utf-16-le"), "is not UTF-8"),
    "Latin-1": ('{"api_key": "Plant\xe9d"}'.encode("latin-1"), "is not UTF-8"),
    "NaN": (b'{"api_key": "Planted", "relist_days": NaN}', "is not valid JSON"),
    "Infinity": (b'{"api_key": "Planted", "relist_days": -Infinity}', "is not valid JSON"),
    "too deep": (b"[" * 100_000, "is not valid JSON"),
    "a long number": (b"1" + b"0" * 5_000, "is not valid JSON"),
}
COMMANDS: dict[str, tuple[tuple[str, ...], str]] = {
    "config": (("tap-stripe-alloy",), "--config"),
    "discover": (("tap-stripe-alloy", "--discover"), "--config"),
    "test": (("tap-stripe-alloy", "--test"), "--config"),
    "state": (("tap-stripe-alloy", "--config", "good.json"), "--state"),
    "catalog": (("tap-stripe-alloy", "--config", "good.json"), "--catalog"),
    "source": (("source-stripe-alloy", "discover"), "--config"),
    "catalog of the source": (
        ("source-stripe-alloy", "read", "--config", "good.json"),
        "--catalog",
    ),
    "listen": (("stripe-alloy", "listen"), "--config"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("which", COMMANDS)
def test_a_file_that_is_none_is_named(call: Call, tmp_path: Path, which: str, kind: str) -> None:
    command, option = COMMANDS[which]
    content, said = BROKEN[kind]
    (tmp_path / "good.json").write_text('{"api_key": "emulator"}')
    (tmp_path / "given.json").write_bytes(content)
    [error] = call(*command, option, "given.json").errors
    assert said in error
    assert f"{option}: given.json " in error


@pytest.mark.parametrize(
    ("file", "said"),
    [("missing.json", "No such file"), ("folder", "Is a directory"), ("file/x", "Not a directory")],
)
@pytest.mark.parametrize("which", COMMANDS)
def test_a_file_that_cannot_be_read_is_named(
    call: Call, tmp_path: Path, which: str, file: str, said: str
) -> None:
    command, option = COMMANDS[which]
    (tmp_path / "good.json").write_text('{"api_key": "emulator"}')
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    [error] = call(*command, option, file).errors
    assert f"{option}: {file} cannot be read: {said}" in error


def test_a_byte_order_mark_is_read_over(
    account: Emulator, command: Command, tmp_path: Path
) -> None:
    first = command.run("--select", "customers", config=config_of(account))
    for name, content in (("config", config_of(account)), ("state", first.state)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8-sig")
    options = [f"--{name}={tmp_path / name}.json" for name in ("config", "state")]
    second = command.run("--select", "customers", *options)
    assert second.exit_code == 0
    assert second.records == {}


WRONG: dict[str, list[Any]] = {
    "api_key": [5, [KEY], {"Planted": KEY}, "", "pk_test_Planted", "Planted", f"{KEY} x"],
    "api_url": [5, [], "Planted", "https://u:Planted @x", "http://", "https://a\\Planted"],
    "api_version": [5, "Planted", ["2020-01-01"]],
    "account_ids": [5, [5], {"acct_1": 1}, "Planted", ["acct_1", "Planted9"], "acct_1,Planted9"],
    "start_date": [5, "Planted9", ["2020-01-01"], "2020-13-45"],
    "expand": [5, ["Planted"], {"charges": "Planted"}, {"charges": ["Planted9"]}, {"Planted9": []}],
    "timestamps": [5, "Planted", ["unix"]],
    "max_requests_per_second": [0, -1, "Planted", 10**400, True, 1.5],
    "max_concurrency": [0, -1, "Planted", 10**400, 10**12],
    "relist_days": [-1, "Planted", 10**30, 0.5],
    "include_test_clocks": [1, "Planted", "true"],
    "webhook_inbox": [5, ["Planted"], {"Planted": 1}, "Planted", "postgresql://u:Planted@x@y/z"],
    "ignore_own_writes": [5, ["Planted"], {"Planted": 1}, "Planted", "mysql://u:Planted@y/z"],
    "emit_activate_version_messages": [1, "Planted"],
    "stream_maps": [5, ["Planted"], "Planted"],
    "stream_map_config": [5, ["Planted"]],
    "flattening_enabled": ["Planted"],
    "flattening_max_depth": ["Planted"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_setting_that_is_wrong_is_named(
    empty: Emulator, call: Call, tmp_path: Path, name: str, value: Any
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**config_of(empty), name: value}))
    [error] = call("tap-stripe-alloy", "--config", "config.json").errors
    assert f"`{name}" in error


@pytest.mark.parametrize("value", [5, ["Planted"], {"charges": "Planted"}])
def test_discovery_names_a_setting_that_is_wrong(call: Call, tmp_path: Path, value: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"expand": value}))
    [error] = call("tap-stripe-alloy", "--config", "config.json", "--discover").errors
    assert "`expand" in error


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RELIST_DAYS", "Planted", "must be an integer"),
        ("RELIST_DAYS", "NaN", "must be an integer"),
        ("INCLUDE_TEST_CLOCKS", "ture", "must be true or false"),
        ("EXPAND", "Planted", "must be a JSON object"),
        ("EXPAND", '["Planted"]', "must be a JSON object"),
        ("STREAM_MAPS", "{Planted", "must be a JSON object"),
        ("ACCOUNT_IDS", '["Planted', "must be a JSON list"),
    ],
)
def test_a_variable_that_is_wrong_is_named(
    call: Call, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv("TAP_STRIPE_ALLOY_API_KEY", KEY)
    monkeypatch.setenv(f"TAP_STRIPE_ALLOY_{name}", value)
    [error] = call("tap-stripe-alloy", "--config", "ENV").errors
    assert f"TAP_STRIPE_ALLOY_{name} {said}" in error


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("apikey", "api_key"),
        ("API_KEY", "api_key"),
        ("api-key", "api_key"),
        ("apiKey", "api_key"),
        ("webhookInbox", "webhook_inbox"),
    ],
)
@pytest.mark.parametrize(
    "command", ["tap-stripe-alloy", "target-stripe-alloy", "source-stripe-alloy"]
)
def test_a_setting_that_there_is_not_is_named_where_one_is_missing(
    call: Call, tmp_path: Path, command: str, given: str, meant: str
) -> None:
    if meant == "webhook_inbox" and command == "target-stripe-alloy":
        given, meant = "dryRun", "dry_run"
    (tmp_path / "config.json").write_text(json.dumps({given: "sk_test_51Planted"}))
    sub = ("discover",) if command.startswith("source") else ()
    [error] = call(command, *sub, "--config", "config.json").errors
    assert f"Unknown setting {given!r}: did you mean {meant!r}?; `api_key` is not set" in error


def test_a_setting_that_there_is_not_is_named_where_none_is_missing(
    empty: Emulator, command: Command
) -> None:
    code, _, err = command.text("--discover", config={**config_of(empty), "relistDays": 5})
    assert code == 0
    assert "Unknown setting 'relistDays': did you mean 'relist_days'?" in err


# ---------------------------------------------------------------------- accounts


@pytest.mark.parametrize("given", ["all", ["all"], " all "])
def test_all_accounts_may_be_a_text(given: Any) -> None:
    with Emulator(customers=2, accounts=2) as platform:
        found = read(config_of(platform, account_ids=given), "customers")
        owners = {row["_account_id"] for row in found.records["customers"]}
        assert owners == set(platform.account_ids)


def test_accounts_may_be_a_text_with_commas() -> None:
    with Emulator(customers=2, accounts=3) as platform:
        wanted = platform.account_ids[:2]
        found = read(config_of(platform, account_ids=", ".join(wanted)), "customers")
        owners = {row["_account_id"] for row in found.records["customers"]}
        assert owners == set(wanted)


@pytest.mark.parametrize("given", ["all", '["all"]'])
def test_all_accounts_may_stand_in_a_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, given: str
) -> None:
    with Emulator(customers=2, accounts=1) as platform:
        (tmp_path / "config.json").write_text(json.dumps(config_of(platform)))
        monkeypatch.setenv("TAP_STRIPE_ALLOY_ACCOUNT_IDS", given)
        ended = run(
            monkeypatch,
            capsys,
            *("tap-stripe-alloy", "--config", str(tmp_path / "config.json"), "--config", "ENV"),
            *("--select", "customers"),
        )
        assert ended.code == 0
        asked = {request.account for request in platform.requests}
        assert set(platform.account_ids) <= asked


# ---------------------------------------------------------------------- the way to Stripe


@pytest.mark.parametrize(
    "url",
    [
        "http://api.stripe.com",
        "HTTP://api.stripe.com".lower(),
        "http://localhost.example.com",
        "http://localhost@example.com",
        "http://127.0.0.1.example.com",
        "http://10.0.0.5:12111",
        "http://[2001:db8::1]",
        "http://0.0.0.0",
    ],
)
@pytest.mark.parametrize("key", ["sk_live_1", "rk_live_1", "sk_org_live_1"])
def test_a_live_key_is_not_sent_unencrypted(url: str, key: str) -> None:
    with pytest.raises(errors.SettingsError, match="Use https://"):
        check_key(read_settings({"api_key": key, "api_url": url}))


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://localhost:12111", "sk_live_1"),
        ("http://127.0.0.1:12111", "rk_live_1"),
        ("http://[::1]:12111", "sk_live_1"),
        ("https://api.stripe.com", "sk_live_1"),
        ("http://stripe-emulator:12111", "sk_test_1"),
    ],
)
def test_other_keys_and_this_machine_may_do_without_encryption(url: str, key: str) -> None:
    check_key(read_settings({"api_key": key, "api_url": url}))


# ---------------------------------------------------------------------- stream maps

MAPS: dict[str, tuple[dict[str, Any], str]] = {
    "half an expression": ({"customers": {"name": "1 + # Planted"}}, "customers.name"),
    "no expression": ({"customers": {"name": "x = 'Planted'"}}, "customers.name"),
    "nothing": ({"customers": {"name": ""}}, "customers.name"),
    "a NUL": ({"customers": {"name": "1\0Planted"}}, "stream_maps"),
    "a number": ({"customers": {"name": 5}}, "customers.name"),
    "a list": ({"customers": {"name": ["Planted"]}}, "customers.name"),
    "a filter": ({"customers": {"__filter__": "email == 'Planted"}}, "customers.__filter__"),
    "a filter of another type": ({"customers": {"__filter__": ["Planted"]}}, "__filter__"),
    "an else": ({"customers": {"__else__": "Planted"}}, "customers.__else__"),
    "an else for all": ({"__else__": ["Planted"]}, "__else__"),
    "an option": ({"__Else__": None}, "'__Else__'"),
    "keys": ({"customers": {"__key_properties__": "Planted"}}, "customers.__key_properties__"),
    "an alias": ({"customers": {"__alias__": 5}}, "customers.__alias__"),
    "a map": ({"customers": "Planted"}, "customers must be"),
    "a stream": ({"custmers": {"name": None}}, "'custmers'. Did you mean 'customers'?"),
    "a source": ({"x": {"__source__": "charge"}}, "'charge'. Did you mean 'charges'?"),
    "a function": ({"customers": {"name": "sha265('Planted')"}}, "customers.name"),
    "a function within": ({"customers": {"name": "str(sha265(name))"}}, "'sha265'"),
    "a key is removed": ({"customers": {"id": None}}, "'id'"),
    "a name": ({"customers": {"name": "nmae + 'Planted'"}}, "customers.name"),
    "an operation": ({"customers": {"created": "created + 5"}}, "customers.created"),
    "a method": ({"customers": {"email": "email.uper()"}}, "customers.email"),
    "a lambda": ({"customers": {"email": "[lambda: 'Planted']"}}, "customers.email"),
    "a failing filter": ({"customers": {"__filter__": "name > 5"}}, "customers.__filter__"),
}


@pytest.mark.parametrize("kind", MAPS)
def test_a_mistake_in_a_stream_map_is_named(
    account: Emulator, call: Call, tmp_path: Path, kind: str
) -> None:
    maps, said = MAPS[kind]
    config = config_of(account, stream_maps=maps)
    (tmp_path / "config.json").write_text(json.dumps(config))
    ended = call("tap-stripe-alloy", "--config", "config.json", "--select", "customers")
    [error] = ended.errors
    assert "`stream_maps" in error
    assert said in error
    for customer in account.objects("customer"):
        assert customer["email"] not in ended.err
        assert customer["name"] not in ended.err


@pytest.mark.parametrize("kind", sorted(set(MAPS) - {"a stream", "a source"}))
def test_the_target_names_it_too(
    account: Emulator, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from tests.target.helpers import record, schema, settings_for  # noqa: PLC0415

    maps, said = MAPS[kind]
    (tmp_path / "config.json").write_text(
        json.dumps(settings_for(account, tmp_path, stream_maps=maps))
    )
    text = {"type": "string"}
    columns = schema("customers", name=text, email=text, created=text)
    row = record("customers", id="cus_1", name="Planted", email="Planted@x.com", created="2020")
    lines = "".join(json.dumps(message) + "\n" for message in (columns, row))
    ended = run(
        monkeypatch,
        capsys,
        *("target-stripe-alloy", "--config", str(tmp_path / "config.json")),
        stdin=lines,
    )
    assert ended.code == 1, ended.all
    [error] = ended.errors
    assert "`stream_maps" in error
    assert said in error
    assert "Planted" not in ended.all
    assert [request for request in account.requests if request.method != "GET"] == []


def test_a_pattern_in_a_stream_map_is_for_all_it_matches(account: Emulator) -> None:
    maps = {"custom*": {"email": "md5(email)"}}
    found = read(config_of(account, stream_maps=maps), "customers")
    assert all(len(row["email"]) == 32 for row in found.records["customers"] if row.get("email"))


# ---------------------------------------------------------------------- the output


def shell(folder: Path, config: dict[str, Any], command: str) -> subprocess.CompletedProcess[str]:
    (folder / "config.json").write_text(json.dumps(config))
    python = sys.executable
    return subprocess.run(
        ["/bin/sh", "-c", command.format(python=python)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "command",
    [
        "{python} -m tap_stripe_alloy.tap --config config.json >&-",
        "{python} -m tap_stripe_alloy.tap --config config.json --discover >&-",
        "{python} -m source_stripe_alloy discover --config config.json >&-",
    ],
)
def test_a_closed_stdout_is_said(empty: Emulator, tmp_path: Path, command: str) -> None:
    done = shell(tmp_path, config_of(empty), command)
    assert done.returncode == 1
    assert "stdout is closed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--discover", "--select customers", "--test"])
def test_a_pipe_that_nobody_reads_ends_it_in_one_line(
    account: Emulator, tmp_path: Path, option: str
) -> None:
    tap = "{python} -m tap_stripe_alloy.tap --config config.json"
    done = shell(tmp_path, config_of(account), f"({tap} {option}; echo $? >code) | true")
    assert (tmp_path / "code").read_text().strip() == "1"
    assert "The output cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


# ---------------------------------------------------------------------- the log


def test_a_message_of_stripes_forges_no_line(
    account: Emulator, command: Command, tmp_path: Path
) -> None:
    forged = "No.\n2026-01-01 00:00:00,000 | CRITICAL | tap | all is lost\r\x1b[2J\u2028\u202eend"
    account.faults.add("status", "/v1/customers", status=400, message=forged, times=None)
    ended = command.run("--select", "customers", config=config_of(account))
    assert ended.exit_code == 1
    assert "No.\\n2026-01-01" in ended.errors
    assert not any(line.startswith("2026-01-01") for line in ended.errors.splitlines())
    assert not any(mark in ended.errors for mark in "\r\x1b\u2028\u202e")


def test_an_error_that_was_not_foreseen_shows_no_message(
    monkeypatch: pytest.MonkeyPatch, account: Emulator, call: Call, tmp_path: Path
) -> None:
    account.faults.add("null_field", "/v1/customers", times=None, field="created")
    (tmp_path / "config.json").write_text(json.dumps(config_of(account)))

    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("jane.Planted@example.com")

    monkeypatch.setattr("tap_stripe_alloy.stream.StripeStream.write", broken)
    [error] = call("tap-stripe-alloy", "--config", "config.json", "--select", "products").errors
    assert "Unexpected error: KeyError at test_wrong_settings.py:" in error
