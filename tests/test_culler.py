"""The hub's own culler, jupyterhub-idle-culler with our word on who is idle, in a real hub."""

import subprocess
from typing import Any

from nightingale_hub.notices import list_notices
from tests.client import SMALL, wait_for
from tests.hub import running_hub
from tests.test_cli import PROGRAM
from tests.test_upstream_failures import read_environment

CONFIG = """
c.NightingaleHub.idle_timeout_s = 9
c.NightingaleHub.idle_warn_s = 3
c.NightingaleHub.idle_ceiling_s = 9
"""


def test_an_idle_server_is_stopped_after_two_warnings_and_one_that_is_kept_is_not():
    with running_hub(users=("alice", "bob"), config=CONFIG) as made:
        hub: Any = made
        bob = hub.client("bob")
        bob.start(SMALL)
        bob.wait_ready()
        kept = hub.find_instance("bob")
        extended = subprocess.run(
            [PROGRAM, "extend", "2h"],
            env=read_environment(kept.id),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert extended.returncode == 0, extended
        alice = hub.client("alice")
        alice.start(SMALL)
        alice.wait_ready()
        key = hub.find_instance("alice").id
        row = hub.wait_state("alice", "stopped")
        assert (row.id, row.cause) == (key, "idle")
        assert row.reason.startswith("idle: ")
        # From ready, unless somebody was seen at it since, and never sooner.
        assert row.stop_accepted_us - row.ready_us >= 9_000_000
        wait_for(lambda: alice.find_server() is None, "the hub has let go of it")
        said = [line.message for line in hub.list_progress(key)]
        assert sum(each.startswith("It will be stopped soon: ") for each in said) == 2
        with hub.database.read() as conn:
            told = [each.kind for each in list_notices(conn, "alice")]
        assert told == ["idle", "idle"]
        now = hub.find_instance("bob")
        assert (now.id, now.actual, now.wanted) == (kept.id, "running", "running")
