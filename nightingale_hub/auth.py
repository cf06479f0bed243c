"""Who calls a service: another service, an instance by its own credential, or a person's token.

Every answer about money or a stop asks the hub anew: a cached token outlives its server.
"""

import hashlib
import hmac
import json
import logging
from typing import Any

from sqlalchemy import Connection, Row, select
from tornado.web import HTTPError, RequestHandler

from nightingale_hub.errors import BadInput, NightingaleError, NotAllowed, Unavailable
from nightingale_hub.service import Context
from nightingale_hub.tables.instances import instance

log = logging.getLogger("nightingale")


class ServiceHandler(RequestHandler):
    """JSON in, JSON out; a `NightingaleError` becomes its status and message."""

    @property
    def context(self) -> Context:
        """The service's settings, database and lease."""
        context: Context = self.settings["context"]
        return context

    def check_xsrf_cookie(self) -> None:
        """Need nothing: these routes accept a token in a header only, never a cookie."""

    def reply(self, body: object) -> None:
        """End the request with *body* as JSON."""
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(body))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with the error's code and message, never with a trace."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, NightingaleError):
            self.set_status(error.status)
            self.reply({"error": {"code": error.code, "message": str(error)}})
            return
        reason = self._reason if isinstance(error, HTTPError) else "an error on our side; logged"
        self.reply({"error": {"code": f"http_{status_code}", "message": reason}})

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log only what is our fault: an error that was answered needs no trace."""
        if isinstance(value, NightingaleError):
            if value.status >= 500:
                log.warning("%s %s: %s", self.request.method, self.request.path, value)
            return
        super().log_exception(typ, value, tb)

    def json_body(self) -> dict[str, Any]:
        """Return the request's JSON object; raises `BadInput` for anything else."""
        try:
            body = json.loads(self.request.body or b"{}")
        except (ValueError, RecursionError) as error:  # the second: nested without end
            raise BadInput("the request body is not JSON") from error
        if not isinstance(body, dict):
            raise BadInput("the request body must be a JSON object")
        return body

    def bearer(self) -> str:
        """Return the token of the Authorization header; raises `NotAllowed` without one."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "token") or not token.strip():
            raise NotAllowed("send the token as `Authorization: Bearer …`")
        return token.strip()

    async def caller(self) -> dict[str, Any]:
        """Return the hub's model of whose token came.

        Raises `NotAllowed` for a token that the hub does not know, `Unavailable` without a hub.
        """
        token = self.bearer()
        hub_auth = self.settings["hub_auth"]
        try:
            # A cached answer would outlive its token, and no setting switches the cache off: a
            # cache_max_age of 0 means for ever.
            model = await hub_auth.user_for_token(token, use_cache=False, sync=False)
        except HTTPError as error:
            raise Unavailable("the hub does not answer; try again in a moment") from error
        if model is None:
            raise NotAllowed("the hub does not know this token; it may have ended with its server")
        return dict(model)

    async def require_service(self, *names: str) -> None:
        """Let only the named services pass; raises `NotAllowed`."""
        model = await self.caller()
        if model.get("kind") != "service" or model.get("name") not in names:
            raise NotAllowed(f"only {' and '.join(names)} may ask this")

    async def require_instance(self) -> Row[Any]:
        """Return the instance whose agent calls; raises `NotAllowed` for a wrong credential."""
        token = self.bearer()
        row = await self.context.read(lambda conn: find_by_credential(conn, token))
        if row is None:
            raise NotAllowed("no instance has this credential")
        return row


def sha256_hex(secret: str) -> str:
    """Return what is stored of *secret*: a random token needs no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_same_secret(secret: str, stored_sha256: str | None) -> bool:
    """Tell whether *secret* is the stored one, in constant time."""
    return stored_sha256 is not None and hmac.compare_digest(sha256_hex(secret), stored_sha256)


def find_by_credential(conn: Connection, credential: str) -> Row[Any] | None:
    """Return the instance that *credential* belongs to, or None."""
    return conn.execute(
        select(instance).where(instance.c.credential_sha256 == sha256_hex(credential))
    ).one_or_none()


def parse_int(handler: RequestHandler, name: str, fallback: int | None) -> int | None:
    """Return the integer query argument *name*; raises `BadInput` when it is none."""
    text = handler.get_query_argument(name, "")
    if not text:
        return fallback
    try:
        value = int(text)
    except ValueError as error:
        raise BadInput(f"{name} must be a whole number, not {text[:40]!r}") from error
    if not 0 <= value < 2**63:
        raise BadInput(f"{name} is out of range")
    return value
