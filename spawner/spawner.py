"""The hub's spawner: writes down what is wanted, waits for the record, shows what happens.

The record is the truth and the hub's own state a cache. It makes and removes nothing itself, so
a hub that dies at any line leaves an instance that is known.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from jupyterhub import orm
from jupyterhub.spawner import Spawner
from sqlalchemy import Connection
from sqlalchemy.orm import Session, object_session
from traitlets import Dict, Float, Integer, Unicode, default

from nightingale_hub.agreements import list_unsigned
from nightingale_hub.clock import now_us
from nightingale_hub.datasets import list_granted
from nightingale_hub.errors import BadInput, NightingaleError, NoOffer, NotFound, Unavailable
from nightingale_hub.instances import SERVES, list_progress
from nightingale_hub.offers import find_offer, list_choices, list_types_by_size
from nightingale_hub.probe import probe
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.spawner.form import render_failure, render_form
from nightingale_hub.spawner.options import find_last_size, parse_form, parse_options
from nightingale_hub.spawner.progress import ENDS, Bar
from nightingale_hub.spawner.record import Record
from nightingale_hub.spawner.refusal import LaunchRefused
from nightingale_hub.spawner.server import Server
from nightingale_hub.terms import find_tariff

PROGRESS_PAUSE_S = 0.15
RECONNECT_PAUSE_S = 0.5


class TerraformSpawner(Spawner):  # type: ignore[misc]  # jupyterhub ships no types
    """Runs each server on an instance of its own."""

    hub_settings = Dict(
        help="The settings of the hub, as `nightingale_hub.configure(c)` sets them."
    ).tag(config=True)

    stop_timeout_s = Float(
        120.0,
        min=1,
        help="How long a stop, or the start after it, waits until the cloud says that an instance "
        "is gone. Past it the hub lets go of the server, and the instance goes on being removed. "
        "Larger: fewer starts meet a last instance that is still there; smaller: pages answer "
        "sooner when a cloud is in trouble. Default: 120 s.",
    ).tag(config=True)

    reconnect_timeout_s = Float(
        3600.0,
        min=0,
        help="How long a hub that was restarted waits for a running server that does not answer, "
        "before its own check may stop that server. Larger: long jobs survive longer outages; "
        "smaller: a server that is dead is removed sooner. Default: 3600 s.",
    ).tag(config=True)

    instance_id = Unicode(help="The instance of the last start, or empty.")
    token_hash = Unicode(help="The hash of the server's token, by which a later hub finds it.")

    poll_interval = Integer(
        5, min=1, help="Seconds between two looks at the record; each is one query. Default: 5 s."
    ).tag(config=True)
    start_timeout = Integer(
        300,
        min=1,
        help="How long a start may take, the wait for the last instance included. Larger: slow "
        "clouds; smaller: a researcher learns sooner. Default: 300 s.",
    ).tag(config=True)

    @default("options_form")
    def _options_form(self) -> Any:
        return lambda spawner: spawner.render_options()

    @default("options_from_form")
    def _options_from_form(self) -> Any:
        return self.parse_options_form

    @default("apply_user_options")
    def _apply_user_options(self) -> Any:
        return lambda spawner, options: spawner.check_options(options)

    @property
    def hub_server(self) -> Server:
        """This server in the record."""
        settings = NightingaleHub.from_dict(dict(self.hub_settings))
        return Server(settings, Record(settings.db_url), self.user.name, self.name)

    @property
    def asking_server(self) -> Server:
        """This server with its owner's groups, which quotas may name."""
        groups = tuple(sorted(group.name for group in self.user.groups))
        return replace(self.hub_server, groups=groups)

    async def render_options(self) -> str:
        """Return the form: every size with its price, and the datasets; reads the database."""
        server, at_us = self.hub_server, now_us()
        size = find_last_size(self.orm_spawner.user_options or {})

        def read(conn: Connection) -> tuple[Any, ...]:
            cloud, region = server.find_place(conn)
            return (
                list_choices(conn, cloud, region, at_us),
                list_granted(conn, server.owner),
                list_unsigned(conn, server.owner, at_us),
                find_tariff(conn, server.owner, cloud, region, at_us),
                list_types_by_size(conn, cloud, region, at_us),
            )

        try:
            choices, datasets, unsigned, tariff, types = await server.record.read(read)
        except (Unavailable, NotFound) as error:
            return render_failure(str(error))
        data_page = f"{server.settings.service_prefix('console')}datasets"
        return render_form(choices, size, datasets, tariff, types, unsigned, data_page)

    def parse_options_form(self, form: dict[str, list[Any]]) -> dict[str, str]:
        """Return the user options of a submitted form; raises `LaunchRefused`."""
        try:
            return parse_form(form)
        except BadInput as error:
            raise LaunchRefused.from_error(error) from error

    def options_from_query(self, query: dict[str, list[Any]]) -> dict[str, Any]:
        """Refuse: a link that somebody else made may not start what costs money."""
        raise LaunchRefused("Look at the sizes and the price, then press Start.", "not_confirmed")

    async def check_options(self, options: object) -> None:
        """Raise `LaunchRefused` unless *options*, from whatever way in, can be had now."""
        server, at_us = self.asking_server, now_us()

        def check(conn: Connection) -> None:
            place = server.find_place(conn)
            offer = find_offer(conn, *place, size, at_us)
            tariff = find_tariff(conn, server.owner, *place, at_us)
            if tariff.rate(size, offer.cloud, offer.instance_type) is None:
                why = f"{size} has no price in {tariff.currency}"
                raise NoOffer(f"{why}; choose another size or ask your admin")

        try:
            size = parse_options(options)
            server.find_quota().check_size(size)
            await server.record.read(check)
        except NightingaleError as error:
            raise LaunchRefused.from_error(error) from error

    async def start(self) -> str:
        """Ask for an instance, wait until its server answers, and return its URL.

        Costs money from then on. Raises `LaunchRefused` with what its owner can do.
        """
        server = self.asking_server
        self.instance_id = ""
        # Saved before anything exists: a hub that is killed here withdraws the token later.
        self._save_token_hash()
        try:
            size = parse_options(self.user_options)
            await server.make_way(self.stop_timeout_s)
            secret = {
                "cmd": list(self.cmd),
                "args": list(self.get_args()),
                "env": {name: str(value) for name, value in self.get_env().items()},
            }
            asking = asyncio.create_task(server.ask(size, secret, self.server.base_url))
            self.instance_id = await self._finish(asking)
            row = await server.wait_running(self.instance_id)
        except NightingaleError as error:
            raise LaunchRefused.from_error(error) from error
        except asyncio.CancelledError:
            await server.want_stopped("the start was cancelled, or took too long")
            raise
        return f"http://{row.host}:{row.port}"

    async def stop(self, now: bool = False) -> None:
        """Accept the stop and wait until the cloud says that the instance is gone.

        Raises `Unavailable` after `stop_timeout_s`; the supervisor goes on removing it.
        """
        server = self.hub_server
        deadline = time.monotonic() + self.stop_timeout_s
        while True:
            try:
                await server.want_stopped("stopped from the hub")
                break
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(1)
        if not await server.wait_gone(deadline - time.monotonic()):
            raise Unavailable(
                f"instance {self.instance_id} of {server.owner} is not gone after "
                f"{self.stop_timeout_s:g} s; it is still being removed"
            )

    async def poll(self) -> int | None:
        """Return 0 once the cloud has said that the instance is gone, None before; never raises.

        Without a database it is the last that was known: running.
        """
        try:
            return None if await self.hub_server.find_instance() is not None else 0
        except Unavailable as error:
            self.log.warning("Cannot look up the server of %s: %s", self._log_name, error)
            return None

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the supervisor and Terraform do, until the server is ready or given up."""
        server, bar, last_id, began_s = self.hub_server, Bar(), 0, time.monotonic()
        while True:
            lines = []
            if self.instance_id:
                try:
                    if not last_id:
                        bar = Bar(await server.estimate_s(self.instance_id))
                    lines = await server.record.read(
                        lambda conn, after=last_id: list_progress(conn, self.instance_id, after)  # type: ignore[misc]
                    )
                except Unavailable:
                    yield {"message": "The hub's database does not answer; still waiting"}
            for line in lines:
                last_id = line.id
                yield bar.to_event(line, time.monotonic() - began_s)
                if line.edge in ENDS:
                    return
            if (moved := bar.tick(time.monotonic() - began_s)) is not None:
                yield moved
            await asyncio.sleep(PROGRESS_PAUSE_S)

    async def get_url(self) -> str:
        """Return where the server answers, after waiting for it up to `reconnect_timeout_s`.

        Asked by a hub that was restarted, which stops a server that it cannot reach.
        """
        server = self.hub_server
        deadline = time.monotonic() + self.reconnect_timeout_s
        while time.monotonic() < deadline:
            try:
                row = await server.find_instance()
            except Unavailable:
                await asyncio.sleep(RECONNECT_PAUSE_S)
                continue
            if row is None or row.wanted != "running":
                break
            base_url = row.base_url or "/"
            if row.actual in SERVES and await probe(row.host, row.port, base_url, row.api_nonce):
                self.instance_id = row.id
                return f"http://{row.host}:{row.port}{base_url}"
            await asyncio.sleep(RECONNECT_PAUSE_S)
        return str(self.server.url)

    def get_state(self) -> dict[str, Any]:
        """Return what a later hub needs besides the record."""
        state: dict[str, Any] = super().get_state()
        return {**state, "instance_id": self.instance_id, "token_hash": self.token_hash}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take what `get_state` gave; an empty state is fine."""
        super().load_state(state)
        self.instance_id = state.get("instance_id", "")
        self.token_hash = state.get("token_hash", "")

    def clear_state(self) -> None:
        """Forget the instance, and withdraw its server's token where the hub has not.

        The hub forgets a token when it restarts; without this it would outlive its server.
        """
        super().clear_state()
        if self.token_hash:
            session = self._get_session()
            for token in session.query(orm.APIToken).filter_by(hashed=self.token_hash):
                session.delete(token)
            session.commit()
        self.instance_id = self.token_hash = ""

    def _get_session(self) -> Session:
        session = object_session(self.orm_spawner)
        assert session is not None
        return session

    def _save_token_hash(self) -> None:
        session = self._get_session()
        token = orm.APIToken.find(session, self.api_token)
        self.token_hash = token.hashed if token is not None else ""
        self.orm_spawner.state = self.get_state()
        session.commit()

    @staticmethod
    async def _finish(asking: "asyncio.Task[str]") -> str:
        # A thread cannot be cancelled: what it writes must be known before the start is given up.
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            await asyncio.wait({asking})
            raise
