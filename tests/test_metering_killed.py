"""The metering process as the hub starts it: killed at any time, it measures the same."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

from nightingale_hub.ports import find_free_ports
from nightingale_hub.service import LEASE_CHECK_S
from nightingale_hub.settings import NightingaleHub
from tests.record import BOOT, S, add_instance, change, list_segments
from tests.test_metering import NEXT_BOOT

LIMIT_S = 30
# In a container the hub is process 1, as the shell is here.
STARTED_BY_PROCESS_1 = [
    "unshare",
    "--pid",
    "--fork",
    "--kill-child",
    "sh",
    "-c",
    '"$@" & wait',
    "sh",
]


@contextmanager
def running_metering(database, directory, starter=()):
    """Start the service on *database*; yield its process and its URL once it serves.

    *starter* is a command that starts it in the place of this process.
    """
    (port,) = find_free_ports(1)
    settings = NightingaleHub(db_url=database.url, state_dir=str(directory))
    url = f"http://127.0.0.1:{port}/services/metering/"
    environment = {
        "JUPYTERHUB_SERVICE_URL": url,
        "JUPYTERHUB_API_URL": "http://127.0.0.1:9/hub/api",
        "JUPYTERHUB_API_TOKEN": "unused",
    }
    with (directory / "metering.log").open("ab") as output:
        process = subprocess.Popen(
            [*starter, sys.executable, "-m", "nightingale_hub.services.metering"],
            env={**os.environ, **settings.to_environment(), **environment},
            stderr=output,
        )
    try:
        wait_for(lambda: is_serving(url), directory)
        yield process, url
    finally:
        process.kill()
        process.wait(LIMIT_S)


def is_serving(url):
    try:
        with urllib.request.urlopen(f"{url}health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait_for(condition, directory):
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, (directory / "metering.log").read_text()
        time.sleep(0.05)


def beat(url, instance_id, boot_id, uptime_us):
    body = {"instance_id": instance_id, "boot_id": boot_id, "uptime_us": uptime_us, "faults": []}
    request = urllib.request.Request(
        f"{url}api/beat",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer credential of {instance_id}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["at_us"]


def stored(database, key):
    with database.read() as conn:
        return list_segments(conn, key)


def test_a_meter_that_is_killed_loses_no_second_and_no_boot(database, tmp_path):
    with database.write() as conn:
        key = add_instance(conn)
    with running_metering(database, tmp_path) as (process, url):
        wait_for(lambda: stored(database, key) == [(BOOT, 100 * S, None, "")], tmp_path)
        at_us = beat(url, key, NEXT_BOOT, 5 * S)
        process.send_signal(signal.SIGKILL)  # right after the answer, before any checkpoint
    changed = [(BOOT, 100 * S, 100 * S, "boot changed"), (NEXT_BOOT, at_us - 5 * S, None, "")]
    assert stored(database, key) == changed
    with database.write() as conn:
        change(conn, key, stop_accepted_us=at_us + 7, gone_us=at_us + 9, actual="stopped")
    ended = [changed[0], (NEXT_BOOT, at_us - 5 * S, at_us + 7, "stop accepted")]
    with running_metering(database, tmp_path):
        wait_for(lambda: stored(database, key) == ended, tmp_path)
    with running_metering(database, tmp_path) as (process, _):
        process.terminate()
        assert process.wait(LIMIT_S) == 0, "it ends when it is told to"
    assert stored(database, key) == ended


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a process 1 of its own")
def test_a_service_lives_on_under_a_hub_that_is_process_1(database, tmp_path):
    with running_metering(database, tmp_path, STARTED_BY_PROCESS_1) as (process, url):
        time.sleep(2 * LEASE_CHECK_S)  # by then it has looked at who started it
        assert is_serving(url), (tmp_path / "metering.log").read_text()
        assert process.poll() is None
