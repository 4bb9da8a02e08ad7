"""Default names of the journal and the rejects file: by account and mode."""

from __future__ import annotations

from pathlib import Path

from stripe_alloy.api.errors import SettingsError

_BEGIN = "target-stripe-alloy"
UNKNOWN = "unknown-account"
"""In place of the id of an account that the key may not read."""


_SUFFIXES = {"journal": ".db", "rejects": "-rejects.jsonl"}
"""By the name of the setting."""


def default_journal(account: str | None, *, live: bool) -> str:
    """Return the URL of an account's journal; `account` is None if the key may not read it."""
    return f"sqlite:///{_file('journal', account, live=live)}"


def default_rejects(account: str | None, *, live: bool) -> str:
    """Return the path of an account's rejects file; `account` is None if it is unknown."""
    return _file("rejects", account, live=live)


def _file(setting: str, account: str | None, *, live: bool) -> str:
    """Return the existing file, under any name that it may have, or else a new one.

    A journal under another name that is ignored would let requests be sent twice.
    """
    end = f"-{'live' if live else 'test'}{_SUFFIXES[setting]}"
    unknown, older = f"{_BEGIN}-{UNKNOWN}{end}", f"{_BEGIN}{_SUFFIXES[setting]}"
    current = f"{_BEGIN}-{account}{end}" if account else unknown
    others = [] if account else _of_accounts(setting, end)
    names: list[str] = [current, *others, unknown, older]
    return next((name for name in names if Path(name).exists()), current)


def _of_accounts(setting: str, end: str) -> list[str]:
    """Return the file of a time when the key could read its account, if there is one."""
    found = sorted(path.name for path in Path().glob(f"{_BEGIN}-acct_*{end}"))
    if len(found) > 1:
        raise SettingsError(
            f"The key may not read its account, and there are files of several: "
            f"{', '.join(found)}. Set `{setting}`"
        )
    return found
