"""Finds the account that is written to, so that the journal is used for it and no other."""

from __future__ import annotations

import logging
from hashlib import blake2b

from stripe_alloy.api.errors import InvalidRequestError, MissingPermissionError, SettingsError
from target_stripe_alloy.resources import BY_STREAM
from target_stripe_alloy.write.account_client import AccountClient
from target_stripe_alloy.write.journal import Journal

_logger = logging.getLogger(__name__)

KEY = "key:"
"""Prefix of the account's name in the journal if the key may not read the account."""
_PROBED = ("customers", "products", "prices", "payment_intents", "invoices", "subscriptions")
"""Streams whose objects identify an account: Stripe never gives an id twice."""
_PROBES = 3
"""Objects of a stream that are tried."""


def account_id(client: AccountClient, account: str | None, expected: str | None) -> str | None:
    """Return the id of the account that is written to; None if the key may not read it.

    Raises `SettingsError` if it is not the expected one, or if that cannot be known.
    """
    try:
        found = str(client.request("GET", "/v1/account").body["id"])
    except MissingPermissionError as error:
        if expected:
            raise SettingsError(
                f"`expected_account_id` cannot be checked: the key may not read the account "
                f"({error.failure.message}). Grant it, or use another key"
            ) from None
        return account
    if expected and found != expected:
        raise SettingsError(
            f"The key writes to {found}, `expected_account_id` is {expected}: refused"
        )
    return found


def identity_of(found: str | None, api_key: str) -> str:
    """Return the name under which the journal knows the account, or the key in its place."""
    return found or KEY + blake2b(api_key.encode(), digest_size=8).hexdigest()


def adopt(journal: Journal, identity: str, client: AccountClient) -> None:
    """Let the journal work on the account that an identity belongs to.

    A key that may not read its account is identified by itself. After a rotation, the new key is
    recognised by the objects that it can read: so nothing is done twice. Raises `SettingsError`
    where it can read no object either.
    """
    known = journal.account_of(identity)
    if known is None:
        accounts = journal.accounts()
        known = identity if identity in accounts else _recognised(journal, accounts, client)
        if known is None and identity.startswith(KEY) and any(map(_is_readable, accounts)):
            _logger.warning(
                "The key can read neither its account nor an object that the journal knows: "
                "assuming that it is a key of another account"
            )
    if known and known != identity:
        _logger.info("The key is one of the account that the journal knows as %s", known)
    journal.identify(identity, known or identity)


def _is_readable(account: str) -> bool:
    return not account.startswith(KEY)


def _recognised(journal: Journal, accounts: list[str], client: AccountClient) -> str | None:
    """Return the account of which the key can read an object; None if there is none."""
    readable = not journal.scope.account.startswith(KEY)
    for account in accounts:
        if readable and _is_readable(account):
            continue  # two ids of accounts: two accounts
        if _sees(journal, account, client):
            return account
    return None


def _sees(journal: Journal, account: str, client: AccountClient) -> bool:
    asked = refused = 0
    for stream in _PROBED:
        for object_id in journal.sample(account, stream, _PROBES):
            asked += 1
            try:
                if client.get(BY_STREAM[stream].path_of(object_id, {})) is not None:
                    return True
            except MissingPermissionError:
                refused += 1
                break
            except InvalidRequestError:
                continue
    if refused and refused == asked:
        raise SettingsError(
            "Cannot check whether this key writes to the account of the journal: it may read "
            "neither the account nor an object. Grant 'Account: read', or use another journal"
        )
    return False
