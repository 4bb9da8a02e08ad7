"""API keys and their permissions."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from stripe_alloy.emulator.emulated_types import STREAMS
from stripe_alloy.emulator.errors import bad_key, forbidden, no_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stripe_alloy.emulator.emulated_types import EmulatedType

LEVELS = {"none": 0, "read": 1, "write": 2}


class Keys:
    """The valid keys; None as permissions means full access."""

    def __init__(self, *full: str) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, dict[str, str] | None] = dict.fromkeys(full)

    def add(self, key: str, permissions: Mapping[str, str] | None = None) -> None:
        """Add a key; permissions by object or stream name: {"customer": "read", "*": "none"}."""
        named = None
        if permissions is not None:
            named = {STREAMS.get(name, name): level for name, level in permissions.items()}
            unknown = set(named.values()) - LEVELS.keys()
            if unknown:
                raise ValueError(f"expected one of {sorted(LEVELS)}, got {sorted(unknown)}")
        with self._lock:
            self._keys[key] = named

    def revoke(self, key: str) -> None:
        """Revoke a key."""
        with self._lock:
            self._keys.pop(key, None)

    def check(self, key: str | None) -> str:
        """Return the request's key; raises Stripe's 401 if it is not valid."""
        if not key:
            raise no_key()
        with self._lock:
            if key not in self._keys:
                raise bad_key(key)
        return key

    def allow(self, key: str, resource: EmulatedType, access: str, account: str) -> None:
        """Raise Stripe's 403 unless the key has the permission."""
        permissions = self._keys.get(key)
        if permissions is None:
            return
        rest = permissions.get(resource.permission, permissions.get("*", "none"))
        level = permissions.get(resource.object, rest)
        if LEVELS[level] < LEVELS[access]:
            raise forbidden(key, account, f"rak_{resource.permission}_{access}")
