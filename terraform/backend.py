"""Terraform's `http` state backend: what a run's Terraform asks of its state.

ref: https://developer.hashicorp.com/terraform/language/backend/http
"""

import asyncio
import base64
import binascii
import hmac
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection
from tornado.web import RequestHandler

from nightingale_hub.clock import now_us
from nightingale_hub.database import Database
from nightingale_hub.errors import BadInput, NightingaleError, NotAllowed
from nightingale_hub.terraform.states import (
    Locked,
    check_ticket,
    find_state,
    lock_state,
    save_state,
    unlock_state,
)

log = logging.getLogger("nightingale")
USER = "run"
T = TypeVar("T")


class StateHandler(RequestHandler):
    """`GET`, `POST`, `LOCK` and `UNLOCK` of one state, for the run whose ticket opens it."""

    SUPPORTED_METHODS = ("GET", "POST", "LOCK", "UNLOCK")

    def initialize(self, db: Database, key: bytes) -> None:
        """Take the database with the states, and the key that opens them."""
        self.db = db
        self.key = key

    def check_xsrf_cookie(self) -> None:
        """Need nothing: a run has a ticket and no cookie."""

    async def get(self, path: str) -> None:
        """Answer the newest state; 404 when there is none yet."""
        text = await self._transact(path, lambda conn: find_state(conn, self.key, path))
        if text is None:
            self.set_status(404)
            return
        self.set_header("Content-Type", "application/json")
        self.finish(text)

    async def post(self, path: str) -> None:
        """Save a version; 409 with the holder's words when another has the lock."""
        text, at_us = self._body(), now_us()
        lock_id = self.get_query_argument("ID", None)
        await self._transact(
            path, lambda conn: save_state(conn, self.key, path, text, lock_id, at_us)
        )

    async def lock(self, path: str) -> None:
        """Take the lock; 423 with the holder's words when another has it."""
        info, secret, at_us = self._body(), self._secret(), now_us()
        await self._transact(path, lambda conn: lock_state(conn, path, info, secret, at_us), 423)

    async def unlock(self, path: str) -> None:
        """Give up the lock."""
        info = self._body()
        await self._transact(path, lambda conn: unlock_state(conn, path, info))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer in a line of text, which Terraform shows."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, NightingaleError):
            self.set_status(error.status)
            if error.status == 403:
                self.set_header("WWW-Authenticate", 'Basic realm="state"')
        self.finish(str(error) if isinstance(error, NightingaleError) else "an error on our side")

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log a refusal in a line, our own fault with its trace."""
        if isinstance(value, NightingaleError):
            log.warning("%s %s: %s", self.request.method, self.request.path, value)
            return
        super().log_exception(typ, value, tb)

    async def _transact(
        self, path: str, work: Callable[[Connection], T], locked_status: int = 409
    ) -> T | None:
        secret = self._secret()

        def checked(conn: Connection) -> T:
            # In the same transaction: a ticket that is withdrawn now writes no more.
            check_ticket(conn, secret, path)
            return work(conn)

        try:
            return await asyncio.to_thread(self.db.transact, checked)
        except Locked as locked:
            self.set_status(locked_status)
            self.finish(locked.info)
            return None

    def _secret(self) -> str:
        scheme, _, encoded = self.request.headers.get("Authorization", "").partition(" ")
        try:
            user, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = secret = ""
        if scheme.lower() != "basic" or not hmac.compare_digest(user.encode(), USER.encode()):
            raise NotAllowed("a run presents its ticket by basic authentication")
        return secret

    def _body(self) -> str:
        try:
            return self.request.body.decode()
        except UnicodeDecodeError as error:
            raise BadInput("the request body is not UTF-8") from error
