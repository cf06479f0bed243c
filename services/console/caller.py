"""Whose token came and what it may see or stop. Pure: it asks nobody.

The hub hands a token's scopes over fully expanded: `…:stop!user=alice`, `…:stop!server=alice/`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from nightingale_hub.errors import BadInput, NotAllowed

READ = "custom:nightingale:instance:read"
STOP = "custom:nightingale:instance:stop"
CHANGE = "custom:nightingale:instance:change"
ACCESS = frozenset({"access:services", "access:services!service=console"})


@dataclass(frozen=True)
class Caller:
    """A person, through a browser's or a server's token."""

    name: str
    is_admin: bool
    scopes: frozenset[str]

    @classmethod
    def from_model(cls, model: Mapping[str, Any]) -> "Caller":
        """Return the caller that the hub's *model* describes.

        Raises `NotAllowed` for a service, and for a token without access to the console.
        """
        scopes = frozenset(model.get("scopes", ()))
        if model.get("kind") != "user" or not scopes & ACCESS:
            raise NotAllowed("this token may not use the console")
        return cls(str(model["name"]), bool(model.get("admin")), scopes)

    def holds(self, scope: str, owner: str, server_name: str) -> bool:
        """Tell whether the token has *scope* for that server: for all, its owner's, or it."""
        server = f"{scope}!server={owner}/{server_name}"
        return not self.scopes.isdisjoint({scope, f"{scope}!user={owner}", server})

    def may_read(self, instance: Row[Any]) -> bool:
        """Tell whether *instance* is the caller's own and the token may read it."""
        is_own = instance.owner == self.name
        return is_own and self.holds(READ, instance.owner, instance.server_name)

    def may_stop(self, instance: Row[Any]) -> bool:
        """Tell whether the token may stop *instance*."""
        return self.holds(STOP, instance.owner, instance.server_name)

    def server_name(self, asked: str | None) -> str:
        """Return which of the caller's servers is meant: *asked*, or the token's own.

        Raises `BadInput` when the token belongs to several servers and none was named.
        """
        if asked is not None:
            return asked
        prefix = f"{READ}!server={self.name}/"
        own = [scope.removeprefix(prefix) for scope in self.scopes if scope.startswith(prefix)]
        if len(own) > 1:
            raise BadInput("this token reads several servers; name one with ?server=")
        return own[0] if own else ""
