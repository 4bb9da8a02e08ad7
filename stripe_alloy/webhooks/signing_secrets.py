"""Signing secrets: which endpoint each belongs to, and which account that endpoint is of.

A file has one a line. Behind a `#` stand, in any order, the endpoint's id, the account that the
endpoint belongs to, and anything else:

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
"""The environment variable with signing secrets, with commas between them."""
_SECRET = re.compile(rf"{PREFIX}[!-\"$-~]+")
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9_]{1,200}")
_ENDPOINT = re.compile(r"we_[A-Za-z0-9_]{1,60}")


class SigningSecret(NamedTuple):
    """A secret, and what is known of the endpoint that signs with it."""

    secret: str
    endpoint: str
    """The endpoint's id, or a digest of the secret that stands for it."""
    account: str
    """The account that the endpoint belongs to; "" if nobody said."""


def signing_secret(secret: str, notes: Iterable[str] = ()) -> SigningSecret:
    """Make one out of a secret and the words that describe it."""
    words = list(notes)
    endpoint = next(filter(_ENDPOINT.fullmatch, words), None)
    account = next(filter(_ACCOUNT.fullmatch, words), "")
    return SigningSecret(secret, endpoint or _digest(secret), account)


def _digest(secret: str) -> str:
    return "secret " + hashlib.sha256(b"stripe-alloy " + secret.encode()).hexdigest()[:16]


def secrets_in(file: Path) -> list[SigningSecret]:
    """Read the secrets of a file; raises `SettingsError` where a line is none."""
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
    """Read the secrets of the environment: `whsec_…`, or `acct_…=whsec_…` to say whose it is."""
    found = []
    for part in filter(None, map(str.strip, env.get(VARIABLE, "").split(","))):
        account, _, secret = part.partition("=") if part.startswith("acct_") else ("", "", part)
        known = not account or _ACCOUNT.fullmatch(account.strip())
        if not (known and _SECRET.fullmatch(secret.strip())):
            raise SettingsError(
                f"{VARIABLE} must hold signing secrets ({PREFIX}… or acct_…={PREFIX}…), "
                "commas between them"
            )
        found.append(signing_secret(secret.strip(), [account.strip()]))
    return found


class Secrets:
    """The secrets that are good now: some given, some in a file that is read when it changes."""

    def __init__(self, given: Sequence[SigningSecret], file: Path | None) -> None:
        self._given = list(given)
        self._file = file
        self._stamp: tuple[int, int, int] | None = None
        self._read: list[SigningSecret] = []
        self._all = self._merged()
        self._complaints = Complaints()

    def __call__(self) -> Sequence[SigningSecret]:
        """Return them; while the file cannot be read, those of before."""
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
                _logger.warning("%s. Those of before stay good.", error, extra={"limited": True})
            return
        self._all = self._merged()

    def _merged(self) -> list[SigningSecret]:
        """Each secret once, by whoever knows more of it."""
        found: dict[str, SigningSecret] = {}
        for one in [*self._given, *self._read]:
            known = found.get(one.secret)
            if known is None or not known.account:
                found[one.secret] = one
        return list(found.values())
