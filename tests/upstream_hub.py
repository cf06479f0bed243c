"""JupyterHub's own tests with our spawner in place of theirs: a pytest plugin for them.

`-p tests.upstream_hub`; with UPSTREAM_ALL in the environment all of them run, else those that name
a server or a spawner and don't take long.

Wherever they start a process of their own, an instance of the local cloud is made: asked for by
`TerraformSpawner`, supervised by one supervisor for all tests, by real Terraform. As a program it
is that supervisor: `python -m tests.upstream_hub FOLDER` serves until its stdin ends.
"""

import asyncio
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jupyterhub.spawner
import pytest

from nightingale_hub.database import Database
from nightingale_hub.offers import Size
from nightingale_hub.proxy import find_proxy_command
from nightingale_hub.spawner import spawner
from nightingale_hub.spawner.spawner import TerraformSpawner

# Their server, with the header by which ours is known; it gets their command line: none.
SERVER = """
import json, sys
from tornado.web import RequestHandler
headers = json.loads(sys.argv.pop().partition("=")[2])["headers"]
def set_headers(self):
    for name, value in headers.items():
        self.set_header(name, value)
RequestHandler.set_default_headers = set_headers
from jupyterhub.tests.mocksu import main
main()
"""
# Run nowhere: what they ask for is what ours is made not to do.
LEFT_OUT = {
    "test_progress": "asks for the words of a spawner that says nothing; ours tells its steps",
    "test_progress_bad_slow": "the same, of a start that fails",
    "test_named_server_spawn_with_opts": "a link that somebody else made may start nothing that "
    "costs money: test_spawner.py::test_a_link_starts_nothing asks for the opposite",
    "test_start_stop_race": "needs a stop that takes 3 s; of a start that is cancelled early there "
    "is nothing to stop: test_hub_killed.py::test_a_start_that_is_cancelled_leaves_nothing",
}
# Run by `bin/soak upstream` alone: they start many servers, which others of them start as well.
LONG = {
    "test_active_server_limit",
    "test_delete_named_server",
    "test_named_server_limit",
    "test_named_server_limit_as_callable",
    "test_named_server_stop_server",
    "test_progress_not_started",
    "test_progress_ready_hook_async_func",
    "test_progress_ready_hook_async_func_exception",
    "test_progress_ready_hook_sync_func",
    "test_slow_spawn",
    "test_spawn_handler",
    "test_spawn_limit",
    "test_spawn_progress_cutoff",
    "test_user_options",
    "test_user_redirect_hook_default_server_name",
}
# Run once of the ways that they are asked for, but for the soak.
ONCE = {"test_create_or_start_named_server": "-True]", "test_stopped_servers": "[True]"}


class UpstreamSpawner(TerraformSpawner):
    """Ours, as their tests look at a spawner: an address in two parts, a pid in its state."""

    async def start(self) -> tuple[str, int]:  # type: ignore[override]
        self.cmd = [sys.executable, "-c", SERVER]
        url = urlsplit(await super().start())
        assert url.hostname is not None and url.port is not None
        return url.hostname, url.port

    def get_env(self) -> dict[str, str]:
        env: dict[str, str] = self.user_env(super().get_env())
        return env

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        return env

    def get_state(self) -> dict[str, Any]:
        return {"pid": int(self.instance_id[2:], 16)} if self.instance_id else {}


def take_any_option(_options: object) -> Size:
    """Their options are theirs; each gets the smallest instance."""
    return Size()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Put ours in place before their module of mock spawners is imported: all of them follow."""
    jupyterhub.spawner.SimpleLocalProcessSpawner = UpstreamSpawner
    vars(spawner)["parse_options"] = take_any_option


def pytest_configure(config: pytest.Config) -> None:
    folder = tempfile.TemporaryDirectory()
    proxy = Path(folder.name, "configurable-http-proxy")
    proxy.write_text(f'#!/bin/sh\nexec {shlex.join(find_proxy_command() or [])} "$@"\n')
    proxy.chmod(0o755)
    os.environ["PATH"] = f"{folder.name}:{os.environ['PATH']}"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.upstream_hub", folder.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    UpstreamSpawner.hub_settings.default_args = (json.loads(process.stdout.readline()),)

    def end() -> None:
        process.communicate(timeout=120)
        folder.cleanup()
        if process.returncode != 0:
            raise AssertionError("an instance was not gone at the end")

    config.add_cleanup(end)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the tables above name; a name that is no test of theirs is an error."""
    modules = {item.path.name for item in items}
    names = {item.name.partition("[")[0] for item in items}
    if modules == {"test_api.py", "test_named_servers.py"}:
        gone = (LEFT_OUT.keys() | LONG | ONCE.keys()) - names
        assert not gone, f"JupyterHub has no {', '.join(sorted(gone))} any more"
    has_time = "UPSTREAM_ALL" in os.environ
    out = [
        item
        for item in items
        if not is_run(item.name, has_time) or not (has_time or names_a_server(item))
    ]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


def is_run(name: str, has_time: bool) -> bool:
    """Tell whether the test *name* runs, where there is time for all or not."""
    plain = name.partition("[")[0]
    if plain in LEFT_OUT:
        return False
    return has_time or (plain not in LONG and name.endswith(ONCE.get(plain, "")))


def names_a_server(item: pytest.Item) -> bool:
    """Tell whether *item* has to do with a spawner at all, by its own words."""
    assert isinstance(item, pytest.Function)
    return re.search("server|spawn", inspect.getsource(item.function)) is not None


async def serve(folder: Path) -> None:
    """Supervise until stdin ends, then remove what is left; a process that is left is an error."""
    from tests.fleet import running_fleet, supervising
    from tests.prices import add_prices

    database = Database(f"sqlite:///{folder / 'test.sqlite'}")
    database.upgrade()
    database.transact(add_prices)
    async with running_fleet(database, folder / "state", db_url=database.url) as fleet:
        async with supervising(fleet):
            print(json.dumps(fleet.settings.to_dict()), flush=True)
            await asyncio.to_thread(sys.stdin.read)
    database.dispose()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
