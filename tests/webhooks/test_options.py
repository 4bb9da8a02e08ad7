"""Wrong options, files and URLs: one line that says what to do, no secret, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stripe_alloy.api import errors
from stripe_alloy.api.errors import AlloyError, SettingsError
from stripe_alloy.database import cause_of, checked_url, open_engine
from stripe_alloy.webhooks.inbox import Inbox
from stripe_alloy.write_log import WriteLog
from stripe_alloy_cli.cli import main
from target_stripe_alloy.write.journal import Journal, Scope
from tests.webhooks.helpers import SECRET, body_of, event, inbox_url, kept, listen, signed


def run(*command: str, **env: str) -> tuple[int, list[str]]:
    """Run `stripe-alloy`: in this process, if it is a command that never waits for anything."""
    if command[0] not in ("listen", "emulator"):
        found = CliRunner().invoke(main, list(command), env=env)
        return found.exit_code, found.stderr.splitlines()
    done = subprocess.run(
        [sys.executable, "-m", "stripe_alloy_cli.cli", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
        env={**{k: v for k, v in os.environ.items() if "STRIPE" not in k}, **env},
    )
    return done.returncode, done.stderr.decode().splitlines()


# ---------------------------------------------------------------------- database URLs

PASSWORDS = [
    "hush@sesame",
    "@hush",
    "hush@",
    "hush/sesame",
    "hush:sesame",
    "hush@sesame:1",
    "hush#sesame",
    "hush sesame",
    "hush%sesame",
    "hush?sesame=ajar",
    "hush@sesame/ajar",
    "hush@sesame#ajar",
    "hush@sesame?ajar=1",
    "hush@sesame ajar",
    "hush@a@sesame",
    "hush@[sesame",
    "hush%40sesame",
    "hush//sesame@ajar",
    "hush\\@sesame",
]
WORDS = ("hush", "sesame", "ajar")


def is_discreet(text: str) -> bool:
    return not any(word in text for word in WORDS)


def journal(url: str) -> None:
    Journal(url, Scope("acct_1", live=False, id_mode="same_account")).close()


def inbox(url: str) -> None:
    Inbox(url).close()


def written(url: str) -> None:
    WriteLog(url, "ignore_own_writes").by_idempotency_key(["alloy-1"])


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("use", [journal, inbox, written])
@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql", "mysql", "sqlite"])
def test_no_part_of_a_password_is_shown(password: str, use: Any, driver: str) -> None:
    with pytest.raises(AlloyError) as caught:
        use(f"{driver}://u:{password}@127.0.0.1:1/db?connect_timeout=2")
    assert is_discreet(str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "u:hush@sesame@host/db",
        "postgresql+psycopg//u:hush@host/db",
        "postgresql+psycopg://u:hush@host:sesame/db",
        "postgresql+psycopg://u:hush@host:99999/db",
        "postgresql+psycopg://127.0.0.1:1/db?password=hush@sesame",
        "postgresql+psycopg://127.0.0.1:1/db?password=hush&sesame=ajar",
        "postgresql+psycopg://127.0.0.1:1/db?user=u&password=hush",
        "postgresql+psycopg://u/hush@host/db",
        "postgresql+psycopg://u:hush\n@host/db",
        "postgresql+hush://u@host/db",
        "postgresql+asyncpg://u:hush@host/db",
        "sqlite+aiosqlite:///hush.db",
        "sqlite:///x.db?hush=sesame",
        "sqlite:///x.db?timeout=hush",
        "sqlite:///hush\0.db",
        "hush",
        "://",
        "",
        f"postgresql+psycopg://u:p@{'hush' * 30}/db",
        "postgresql+psycopg://u:p@hush..sesame/db",
    ],
)
def test_what_is_no_url_is_not_quoted(url: str, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    with pytest.raises(AlloyError) as caught:
        Inbox(url)
    assert "`webhook_inbox`" in str(caught.value)
    assert is_discreet(str(caught.value)), str(caught.value)


def test_how_to_write_an_at_sign_is_said() -> None:
    with pytest.raises(SettingsError, match="%40 for an at sign"):
        checked_url("postgresql+psycopg://u:a@b@host/db", "journal")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://u:hush%40sesame@db.example.com:5432/name",
        "postgresql+psycopg://user@server:hush@db.example.com/name",
        "postgresql+psycopg://u@/name?host=/var/run/postgresql",
        "postgresql+psycopg://u:p@[::1]:5432/name",
        "sqlite:////data/of@somebody/inbox.db",
    ],
)
def test_what_is_right_is_taken(url: str) -> None:
    assert checked_url(url, "journal").database


def test_a_password_in_a_databases_own_message_is_masked() -> None:
    checked_url("postgresql+psycopg://u:hush%20sesame@host/db", "journal")
    text = cause_of(
        RuntimeError('could not connect with "hush sesame" or hush%20sesame\nDETAIL: x')
    )
    assert text == 'could not connect with "***" or ***'


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="`journal` cannot be opened: "):
        open_engine(checked_url(f"sqlite:///{tmp_path}/file/x.db", "journal"), "journal")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://u:p@ss@host/db", "postgresql://***@host/db"),
        ("at postgresql://u:p ss/w@host/db now", "at postgresql://***@host/db now"),
        ("https://u:p@ss@host/x for a@b", "https://***@host/x for a@b"),
        ("https://host/x for a@b", "https://host/x for a@b"),
        ("host=h password=hush user=u", "host=h password=*** user=u"),
        ("PASSWORD = 'hu sh' x", "PASSWORD = *** x"),
        ("whsec_ab+c/d=", "whsec_***"),
    ],
)
def test_more_secrets_in_any_text_are_masked(text: str, masked: str) -> None:
    assert errors.without_secrets(text) == masked


# ---------------------------------------------------------------------- options

LISTEN = ["listen", "--inbox", "sqlite:///inbox.db"]


@pytest.mark.parametrize(
    "command",
    [
        [*LISTEN, "--port", "99999"],
        [*LISTEN, "--port", "-1"],
        [*LISTEN, "--port", "whsec_hush"],
        [*LISTEN, "--tolerance", "-5"],
        [*LISTEN, "--tolerance", "0"],
        [*LISTEN, "--tolerance", "1" + "0" * 400],
        [*LISTEN, "--max-body", "-1"],
        [*LISTEN, "--max-body", "0"],
        [*LISTEN, "--max-body", "1" + "0" * 30],
        [*LISTEN, "--host", "no.such.host.invalid"],
        [*LISTEN, "--host", "a" * 100],
        [*LISTEN, "--host", "a..b"],
        [*LISTEN, "--host", "300.1.1.1"],
        [*LISTEN, "--no-such-option"],
        [*LISTEN, "--secret-file", "/"],
        [*LISTEN, "--config", "/"],
        [*LISTEN, "--config", "missing.json"],
        [*LISTEN, "--name", "of Zoë", "--secret-file", "secrets"],
        ["listen", "--inbox", "sqlite:////"],
        ["listen", "--inbox", "sqlite:////proc/inbox.db"],
        ["listen", "--inbox", "postgresql+psycopg://u:hush@sesame@127.0.0.1:1/db"],
        ["no-such-command"],
        ["emulator", "serve", "--port", "99999"],
        ["emulator", "serve", "--port", "-1"],
        ["emulator", "serve", "--host", "a..b"],
        ["emulator", "serve", "--host", "no.such.host.invalid"],
        ["emulator", "serve", "--customers", "-1"],
        ["emulator", "serve", "--accounts", "-1"],
        ["emulator", "serve", "--latency", "-1"],
        ["emulator", "serve", "--latency", "nan"],
        ["emulator", "serve", "--db", "/"],
        ["emulator", "serve", "--db", "/no/such/folder/x.db"],
        ["plan", "--config", "/"],
        ["plan", "--config", "missing.json"],
        ["rejects", "replay", "--config", "missing.json", "x"],
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_one_line(command: list[str], tmp_path: Path) -> None:
    os.chdir(tmp_path)
    code, lines = run(*command, STRIPE_WEBHOOK_SECRET=SECRET)
    assert code in (1, 2)
    assert len(lines) == 1, lines
    assert lines[0].startswith("Error: ")
    assert is_discreet(lines[0])


CONFIGS = {
    "UTF-16": '{"api_key": "sk_test_hush"}'.encode("utf-16"),
    "Latin-1": '{"api_key": "sk_test_h\xfcsh"}'.encode("latin-1"),
    "binary": bytes(range(256)),
    "no JSON": b'{"api_key": "sk_test_hush"',
    "nothing": b"",
    "deep": b"[" * 100_000,
    "a list": b'["sk_test_hush"]',
    "a text": b'"sk_test_hush"',
    "null": b"null",
    "a number": b"1" + b"0" * 5_000,
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("command", ["listen", "plan", "replay"])
def test_a_config_that_cannot_be_read_is_one_line(name: str, command: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(CONFIGS[name])
    (tmp_path / "rejects").write_text("")
    commands = {
        "listen": ["listen", "--inbox", inbox_url(tmp_path)],
        "plan": ["plan"],
        "replay": ["rejects", "replay", str(tmp_path / "rejects")],
    }
    code, lines = run(*commands[command], "--config", str(file), STRIPE_WEBHOOK_SECRET=SECRET)
    assert code == 1
    assert len(lines) == 1, lines
    assert str(file) in lines[0]
    assert is_discreet(lines[0])


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("account_ids", {"acct_hush": 1}),
        ("account_ids", "hush"),
        ("account_ids", [5]),
        ("expand", ["hush"]),
        ("api_key", ["sk_test_hush"]),
        ("webhook_inbox", {"hush": 1}),
        ("start_date", 5),
        ("start_date", "hush"),
        ("timestamps", "hush"),
        ("max_concurrency", "hush"),
    ],
)
def test_a_setting_of_another_type_is_one_line(setting: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"webhook_inbox": inbox_url(tmp_path), setting: value}))
    code, lines = run("listen", "--config", str(file), STRIPE_WEBHOOK_SECRET=SECRET)
    assert code == 1
    assert len(lines) == 1, lines
    assert f"`{setting}" in lines[0]


SECRET_FILES = {
    "UTF-16": f"{SECRET}\n".encode("utf-16"),
    "UTF-16 without a mark": f"{SECRET}\n".encode("utf-16-le"),
    "UTF-32": f"{SECRET}\n".encode("utf-32"),
    "Latin-1": f"{SECRET}\xe9\n".encode("latin-1"),
    "with another text": f"{SECRET} of hush\n".encode(),
    "binary": bytes(range(256)),
    "only the beginning": b"whsec_\n",
}


@pytest.mark.parametrize("name", SECRET_FILES)
def test_a_file_of_secrets_that_cannot_be_read_is_one_line(name: str, tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_bytes(SECRET_FILES[name])
    code, lines = run("listen", "--inbox", inbox_url(tmp_path), "--secret-file", str(file))
    assert code == 1
    assert len(lines) == 1, lines
    assert str(file) in lines[0]
    assert SECRET[6:] not in lines[0]
    assert is_discreet(lines[0])


def test_a_file_of_secrets_may_have_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_bytes("whsec_marked  # we_1\n".encode("utf-8-sig"))
    with listen(tmp_path, "--secret-file", str(file)) as receiver:
        assert receiver.deliver(event(1), "whsec_marked") == 200


@pytest.mark.parametrize("content", [f"{SECRET}\n".encode("utf-16"), b"hush\n"])
def test_a_file_that_turns_bad_leaves_the_secrets_of_before(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secrets"
    file.write_text("whsec_old  # we_1\n")
    with listen(tmp_path, "--secret-file", str(file)) as receiver:
        assert receiver.deliver(event(1), "whsec_old") == 200
        file.write_bytes(content)
        body = body_of(event(2))
        assert receiver.post(body, signed(body, "whsec_old")) == 200
        assert receiver.deliver(event(3), "whsec_old") == 200
        lines = [line for line in receiver.log().splitlines() if "stay valid" in line]
        assert len(lines) == 1
        assert "Traceback" not in receiver.log()
    assert len(kept(tmp_path)) == 3


@pytest.mark.parametrize("given", ["hush", "whsec_", "whsec_é", "acct_=whsec_a", "acct_1=hush"])
def test_a_wrong_secret_in_the_environment_is_one_line(given: str, tmp_path: Path) -> None:
    code, lines = run("listen", "--inbox", inbox_url(tmp_path), STRIPE_WEBHOOK_SECRET=given)
    assert code == 1
    assert len(lines) == 1, lines
    assert "must hold signing secrets" in lines[0]
    assert is_discreet(lines[0])


@pytest.mark.parametrize(
    "register", ["hush", "ftp://x.example/", "https://u:hush@x.example/", "https://a b", ""]
)
def test_what_is_no_url_to_deliver_to_is_one_line(register: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"api_key": "sk_test_1", "webhook_inbox": inbox_url(tmp_path)}))
    code, lines = run(
        *("listen", "--config", str(file), "--secret-file", str(tmp_path / "secrets")),
        *("--register", register),
    )
    assert code == 1
    assert len(lines) == 1, lines
    assert is_discreet(lines[0])
