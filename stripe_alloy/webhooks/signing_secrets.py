"""Signing secrets: which endpoint each belongs to, and which account that endpoint is of.

A file has one per line. A comment after it contains, in any order, the ID of the endpoint, the
account that the endpoint belongs to, and other words:

    whsec_…  # we_1Abc acct_1Abc
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stripe_alloy.api.errors import SettingsError
from stripe_alloy.text_files import read_text
from stripe_alloy.webhooks.rate_limited_log import Complaints

_logger = logging.getLogger(__name__)

PREFIX = "whsec_"
VARIABLE = "STRIPE_WEBHOOK_SECRET"
"""Environment variable with signing secrets, separated by commas."""
_SECRET = re.compile(rf"{PREFIX}[!-\"$-~]+")
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9_]{1,200}")
_ENDPOINT = re.compile(r"we_[A-Za-z0-9_]{1,60}")


class SigningSecret(NamedTuple):
    """A secret and its endpoint."""

    secret: str
    endpoint: str
    """The endpoint's ID, or a digest of the secret in its place."""
    account: str
    """Account that the endpoint belongs to; "" if unknown."""


def signing_secret(secret: str, notes: Iterable[str] = ()) -> SigningSecret:
    """Create a secret with the words that describe it."""
    words = list(notes)
    endpoint = next(filter(_ENDPOINT.fullmatch, words), None)
    account = next(filter(_ACCOUNT.fullmatch, words), "")
    return SigningSecret(secret, endpoint or _digest(secret), account)


def _digest(secret: str) -> str:
    return "secret " + hashlib.sha256(b"stripe-alloy " + secret.encode()).hexdigest()[:16]


def secrets_in(file: Path) -> list[SigningSecret]:
    """Read the secrets of a file; raises `SettingsError` if a line is not one."""
    found = []
    for line in read_text(file).splitlines():
        secret, _, note = line.partition("#")
        if not secret.strip():
            continue
        if not _SECRET.fullmatch(secret.strip()):
            raise SettingsError(f"{file}: each line must be a signing secret, {PREFIX}…")
        found.append(signing_secret(secret.strip(), note.split()))
    return found


def secrets_given(env: Mapping[str, str]) -> list[SigningSecret]:
    """Read the secrets of the environment: `whsec_…`, or `acct_…=whsec_…` with their account."""
    found = []
    for part in filter(None, map(str.strip, env.get(VARIABLE, "").split(","))):
        account, _, secret = part.partition("=") if part.startswith("acct_") else ("", "", part)
        known = not account or _ACCOUNT.fullmatch(account.strip())
        if not (known and _SECRET.fullmatch(secret.strip())):
            raise SettingsError(
                f"{VARIABLE} must hold signing secrets ({PREFIX}… or acct_…={PREFIX}…), "
                "separated by commas"
            )
        found.append(signing_secret(secret.strip(), [account.strip()]))
    return found


class Secrets:
    """The current secrets: given ones, and those of a file, which is reloaded when it changes."""

    def __init__(self, given: Sequence[SigningSecret], file: Path | None) -> None:
        self._given = list(given)
        self._file = file
        self._stamp: tuple[int, int, int] | None = None
        self._read: list[SigningSecret] = []
        self._all = self._merged()
        self._complaints = Complaints()

    def __call__(self) -> Sequence[SigningSecret]:
        """Return them; while the file is unreadable, the previous ones."""
        if self._file:
            with contextlib.suppress(OSError):  # it is being replaced
                found = os.stat(self._file)  # noqa: PTH116 - once a request
                stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
                if stamp != self._stamp:
                    self._read_again(self._file)
                    self._stamp = stamp
        return self._all

    def _read_again(self, file: Path) -> None:
        try:
            self._read = secrets_in(file)
        except SettingsError as error:
            if self._complaints.is_due(str(error)):
                _logger.warning(
                    "%s. The previous secrets stay valid.", error, extra={"limited": True}
                )
            return
        self._all = self._merged()

    def _merged(self) -> list[SigningSecret]:
        """Return each secret once, from the source that knows more about it."""
        found: dict[str, SigningSecret] = {}
        for one in [*self._given, *self._read]:
            known = found.get(one.secret)
            if known is None or not known.account:
                found[one.secret] = one
        return list(found.values())
