"""No output shows a setting's value: a word is planted in each, in many ways that are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stripe_alloy.emulator import Emulator
from tap_stripe_alloy.tap import TapStripeAlloy
from target_stripe_alloy.target import TargetStripeAlloy
from tests.commands import Ended, run
from tests.conftest import config_of
from tests.target.helpers import record, schema, settings_for

WORD = "Planted7Word"

Call = Callable[..., Ended]


@pytest.fixture(scope="module")
def stripe() -> Iterator[Emulator]:
    with Emulator(customers=2) as emulator:
        yield emulator


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGLEVEL", "DEBUG")
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", "whsec_a")

    def command(*words: str, stdin: str = "") -> Ended:
        ended = run(monkeypatch, capsys, *words, stdin=stdin)
        assert WORD not in ended.all
        assert "Traceback" not in ended.all
        return ended

    return command


VALUES: dict[str, Any] = {
    "text": WORD,
    "blank": f"{WORD} {WORD}",
    "list": [WORD],
    "object": {WORD: WORD},
    "lists": {"customers": [WORD]},
    "deep": [{"a": [WORD]}],
    "url": f"postgresql+psycopg://u:{WORD}@{WORD}@127.0.0.1:1/db",
    "NUL": f"{WORD}\0",
    "key": f"sk_test_{WORD}\n",
}


def declared(plugin: Any) -> list[str]:
    properties = dict(plugin.config_jsonschema)
    plugin.append_builtin_config(properties)
    return sorted(properties["properties"])


FILES = {"rejects", "plan", "summary", "pipeline"}
"""Settings that name what a message has to name."""
CASES = [
    (command, name, kind)
    for command, plugin in (
        ("tap-stripe-alloy", TapStripeAlloy),
        ("target-stripe-alloy", TargetStripeAlloy),
        ("source-stripe-alloy", TapStripeAlloy),
        ("stripe-alloy", TapStripeAlloy),
    )
    for name in declared(plugin)
    for kind in VALUES
    if not (name in FILES and isinstance(VALUES[kind], str))
    if (name, kind) != ("stream_maps", "object")  # names of streams are shown
]


@pytest.mark.parametrize(("command", "name", "kind"), CASES)
def test_no_value_of_a_setting_is_shown(
    stripe: Emulator, call: Call, tmp_path: Path, command: str, name: str, kind: str
) -> None:
    config = config_of(stripe)
    if command == "target-stripe-alloy":
        config = settings_for(stripe, tmp_path)
    if command == "stripe-alloy":
        config["webhook_inbox"] = f"sqlite:///{tmp_path}"  # so that it never serves
    config[name] = VALUES[kind]
    (tmp_path / "config.json").write_text(json.dumps(config))
    row = record("customers", id="cus_no", name="A")
    messages = "".join(json.dumps(message) + "\n" for message in (schema("customers"), row))
    options = {
        "tap-stripe-alloy": ("--select", "products"),
        "source-stripe-alloy": ("check",),
        "stripe-alloy": ("listen",),
    }
    call(command, *options.get(command, ()), "--config", "config.json", stdin=messages)


VARIABLES = [
    (plugin, name)
    for plugin in (TapStripeAlloy, TargetStripeAlloy)
    for name in declared(plugin)
    if name not in FILES
]


@pytest.mark.parametrize(("plugin", "name"), VARIABLES)
@pytest.mark.parametrize("value", [WORD, f"[{WORD}", f'{{"{WORD}"'])
def test_no_value_of_a_variable_is_shown(
    stripe: Emulator,
    call: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plugin: Any,
    name: str,
    value: str,
) -> None:
    config = config_of(stripe) if plugin is TapStripeAlloy else settings_for(stripe, tmp_path)
    config.pop(name, None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv(f"{plugin.name.upper().replace('-', '_')}_{name.upper()}", value)
    select = ("--select", "products") if plugin is TapStripeAlloy else ()
    call(plugin.name, *select, "--config", "config.json", "--config", "ENV")


INLINE = [
    f'{{"api_key": "{WORD}"}}',
    f"[{WORD}]",
    f"postgresql://u:{WORD}@host/db",
    f'{{"api_key": "{WORD * 100}"}}',
    f"api_key={WORD}",
]


@pytest.mark.parametrize("given", INLINE)
@pytest.mark.parametrize(
    "command",
    [
        ("tap-stripe-alloy", "--config"),
        ("tap-stripe-alloy", "--config", "good.json", "--state"),
        ("tap-stripe-alloy", "--config", "good.json", "--catalog"),
        ("target-stripe-alloy", "--config"),
        ("target-stripe-alloy", "--config", "good.json", "--input"),
        ("target-stripe-alloy", "--config", "good.json"),
        ("source-stripe-alloy", "check", "--config"),
        ("source-stripe-alloy", "read", "--config", "good.json", "--catalog"),
        ("source-stripe-alloy", "discover", "--config"),
        ("stripe-alloy", "listen", "--config"),
        ("stripe-alloy", "plan", "--config"),
        ("stripe-alloy", "plan", "--config", "good.json", "--input"),
        ("stripe-alloy", "rejects", "replay", "--config"),
        ("stripe-alloy", "rejects", "replay", "--config", "good.json"),
        ("stripe-alloy", "listen", "--port"),
    ],
    ids=" ".join,
)
def test_settings_given_for_a_file_are_not_shown(
    stripe: Emulator, call: Call, tmp_path: Path, command: tuple[str, ...], given: str
) -> None:
    (tmp_path / "good.json").write_text(json.dumps(config_of(stripe)))
    ended = call(*command, given)
    assert ended.code in ((0,) if "check" in command else (1, 2))  # Airbyte's check told it
    assert len(ended.errors) == 1, ended.all


def test_an_option_that_wants_a_file_says_so(call: Call) -> None:
    [error] = call("tap-stripe-alloy", "--config", INLINE[0]).errors
    assert "--config: the value of --config cannot be read" in error
    assert "takes the name of a file, not JSON" in error


@pytest.mark.parametrize("command", ["tap-stripe-alloy", "target-stripe-alloy"])
def test_a_level_that_there_is_not_is_not_shown(
    call: Call, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("LOGLEVEL", WORD)
    ended = call(command, "--config", "x.json")
    assert "`LOGLEVEL` must be one of DEBUG, INFO" in ended.err
