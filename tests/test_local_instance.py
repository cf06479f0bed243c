"""Life and death of an instance on this machine, with real processes."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from nightingale_hub.processes import (
    Identity,
    find_identity,
    is_alive,
    list_descendants,
    list_marked,
    send_signal,
    wait_gone,
)
from tests.local_instance import (
    DEAF_GRANDCHILD,
    IS_ROOT,
    NOBODY,
    wait_for,
)


def test_an_instance_boots_serves_and_beats(any_instance):
    facts = any_instance.up_and_serving()
    [asked] = any_instance.hub.bootstraps
    assert asked["instance_id"] == any_instance.directory.name
    assert asked["host"] == "127.0.0.1"
    wait_for(lambda: len(any_instance.hub.beats) >= 2)
    first, second = any_instance.hub.beats[:2]
    assert first["boot_id"] == second["boot_id"] == asked["boot_id"]
    assert second["uptime_us"] > first["uptime_us"]
    assert first["credential"] == "Bearer c0ffee"
    assert facts["arguments"] == [
        "--from-the-spawner",
        '--ServerApp.tornado_settings={"headers": '
        '{"X-Nightingale-Instance": "a-nonce-for-the-api"}}',
    ]


def test_a_refused_bootstrap_ends_the_agent_with_the_reason(any_instance):
    any_instance.hub.nonce = None
    any_instance.up()
    wait_for(lambda: not is_alive(any_instance.agent))
    assert "that nonce was burned" in any_instance.log
    assert any_instance.hub.beats == []


def test_an_instance_waits_for_a_hub_that_is_not_ready(plain_instance):
    plain_instance.hub.refusals_before_answer = 3
    plain_instance.up_and_serving()
    assert "bootstrap waits: the hub answered 503 not yet" in plain_instance.log


def test_up_leaves_a_living_instance_alone(any_instance):
    any_instance.up()
    agent = any_instance.agent
    any_instance.up()
    assert any_instance.agent == agent
    assert is_alive(agent)


def test_up_refuses_an_instance_whose_one_boot_is_used(plain_instance):
    plain_instance.up_and_serving()
    send_signal(plain_instance.agent, signal.SIGKILL)
    assert wait_gone(plain_instance.agent, 5)
    status, output = plain_instance.run("up")
    assert status == 5
    assert "destroy the instance and start another" in output


def test_down_ends_everything_and_may_be_repeated(any_instance):
    any_instance.up_and_serving()
    status, output = any_instance.shell(DEAF_GRANDCHILD)
    assert status == 0, output
    everyone = any_instance.list_everyone()
    assert len(everyone) >= 3  # agent, server, grandchild
    any_instance.down()
    assert [each for each in everyone if is_alive(each)] == []
    any_instance.down()


def test_down_of_a_server_that_ignores_sigterm_ends_within_20_s(plain_instance):
    plain_instance.hub.launch["cmd"][2] = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        + plain_instance.hub.launch["cmd"][2]
    )
    plain_instance.up_and_serving()
    began = time.monotonic()
    plain_instance.down()
    assert time.monotonic() - began < 20


def test_down_of_what_is_not_on_record_ends_all_that_bears_its_mark(plain_instance):
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    mark = {"NIGHTINGALE_INSTANCE_ID": plain_instance.directory.name}
    with subprocess.Popen(
        command, env=mark, user=plain_instance.uid, group=plain_instance.uid
    ) as stray:
        wait_for(lambda: list_marked(*next(iter(mark.items()))))
        plain_instance.down()
        assert stray.wait(5) < 0
    assert not (plain_instance.directory / "agent.pid").exists()


def test_down_of_what_never_was_succeeds_and_makes_nothing(plain_instance):
    shutil.rmtree(plain_instance.directory)
    plain_instance.down()
    assert not plain_instance.directory.exists()


def test_a_killed_agent_takes_everything_with_it(any_instance):
    any_instance.up_and_serving()
    any_instance.shell(DEAF_GRANDCHILD)
    everyone = any_instance.list_everyone()
    send_signal(any_instance.agent, signal.SIGKILL)
    wait_for(lambda: not [each for each in everyone if is_alive(each)], timeout_s=10)
    any_instance.down()


def test_down_finds_what_a_killed_agent_and_a_killed_keeper_left(plain_instance):
    plain_instance.up_and_serving()
    plain_instance.shell(DEAF_GRANDCHILD)
    everyone = plain_instance.list_everyone()
    send_signal(plain_instance.keeper, signal.SIGKILL)
    send_signal(plain_instance.agent, signal.SIGKILL)
    assert wait_gone(plain_instance.agent, 5)
    assert [each for each in everyone if is_alive(each)]  # nobody is left to end them
    plain_instance.down()
    assert [each for each in everyone if is_alive(each)] == []


@pytest.mark.parametrize("delay_ms", [20, 40, 60, 80, 100, 120])
def test_an_up_killed_at_any_line_leaves_nothing_that_down_does_not_end(any_instance, delay_ms):
    with any_instance.start("up") as up:
        time.sleep(delay_ms / 1000)
        up.kill()
        up.wait()
        any_instance.down()
        assert any_instance.list_leftovers() == []
        time.sleep(0.2)
        assert any_instance.list_leftovers() == []


def test_an_agent_that_cannot_be_put_on_record_does_not_run(plain_instance):
    directory = plain_instance.directory
    plain_instance.down()  # leaves the lock
    plain_instance.hub.refusals_before_answer = 1000
    log = directory / "agent.log"
    log.touch()
    if IS_ROOT:
        os.chown(log, NOBODY, NOBODY)
    directory.chmod(0o500)
    status, output = plain_instance.run("up")
    assert (status, "see agent.log there" in output) == (6, True)
    assert "Permission denied" in plain_instance.log
    time.sleep(0.3)  # longer than an agent needs to begin
    assert plain_instance.list_leftovers() == []
    assert "bootstrap waits" not in plain_instance.log
    directory.chmod(0o700)


def test_an_agent_of_another_boot_of_the_machine_is_not_signalled(plain_instance):
    bystander = find_identity(os.getpid())
    assert bystander is not None
    stale = Identity(bystander.pid, bystander.start_ticks, "another-boot")
    assert not is_alive(stale)
    assert not send_signal(stale, signal.SIGKILL)
    assert not send_signal(
        Identity(bystander.pid, bystander.start_ticks - 1, bystander.boot_id), signal.SIGKILL
    )


def test_a_server_that_dies_is_reported_and_started_again_three_times(plain_instance):
    plain_instance.up_and_serving()
    deaths = 0
    while deaths < 4:
        server = find_identity(plain_instance.wait_for_server()["pid"])
        assert server is not None
        send_signal(server, signal.SIGKILL)
        assert wait_gone(server, 5)
        deaths += 1
    plain_instance.wait_for_fault("server_exited -9")
    wait_for(lambda: plain_instance.log.count("fault: server_exited -9") == 4)
    time.sleep(2)  # longer than the longest pause before a restart
    assert list_descendants(plain_instance.agent.pid) == []
    count = len(plain_instance.hub.beats)
    wait_for(lambda: len(plain_instance.hub.beats) > count)
    # Its owner is told why, each time, and at the end that it is not started again.
    told = [fault for report in plain_instance.hub.reports for fault in report["faults"]]
    assert told.count("server_exited: it was ended by SIGKILL") >= 1
    wait_for(
        lambda: (
            "server_lost: it was ended by SIGKILL"
            in [fault for report in plain_instance.hub.reports for fault in report["faults"]]
        )
    )


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs to tell them apart")
def test_a_new_size_reaches_a_running_server_and_all_that_it_started(any_instance):
    facts = any_instance.up_and_serving()
    assert facts["cpus"] == 1
    any_instance.shell("sleep 300 >/dev/null 2>&1 &")
    status, output = any_instance.run("size", NIGHTINGALE_VCPUS="2")
    assert status == 0, output
    wait_for(lambda: any_instance.get("")["cpus"] == 2, lambda: any_instance.log)
    assert any_instance.get("")["pid"] == facts["pid"]
    assert any_instance.shell("grep -h Cpus_allowed_list /proc/$(pgrep -n sleep)/status") != ""
