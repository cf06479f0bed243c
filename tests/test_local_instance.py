"""Life and death of an instance on this machine, with real processes, users and mounts."""

import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightingale_hub.instance.bootstrap import Boot
from nightingale_hub.processes import (
    Identity,
    find_identity,
    is_alive,
    list_descendants,
    send_signal,
    wait_gone,
)
from tests.local_instance import (
    IS_ROOT,
    NOBODY,
    LocalInstance,
    local_instance,
    needs_root,
    read_nonce,
    system_user,
    wait_for,
)

# A grandchild in a session of its own that hears no SIGTERM: the hardest to end.
DEAF_GRANDCHILD = "setsid -f sh -c \"trap '' TERM; sleep 300 & wait; sleep 300\" >/dev/null 2>&1"


@pytest.fixture(scope="module", autouse=True)
def account() -> Iterator[None]:
    with system_user():
        yield


@pytest.fixture
def instance() -> Iterator[LocalInstance]:
    """As the hub of this user would run it: as root with another user and namespaces."""
    with local_instance() as made:
        yield made


@pytest.fixture
def plain_instance() -> Iterator[LocalInstance]:
    """As the hub of an ordinary user runs it: no other user, no namespaces."""
    with local_instance(NOBODY if IS_ROOT else None) as made:
        yield made


@pytest.fixture(params=["isolated", "plain"])
def any_instance(request) -> LocalInstance:
    if request.param == "isolated" and not IS_ROOT:
        pytest.skip("only root can give an instance namespaces of its own")
    name = "instance" if request.param == "isolated" else "plain_instance"
    made: LocalInstance = request.getfixturevalue(name)
    return made


def list_all(instance: LocalInstance) -> list[Identity]:
    return [instance.agent, *list_descendants(instance.agent.pid)]


def wait_for_fault(instance: LocalInstance, text: str) -> str:
    def look() -> str:
        faults = [fault for beat in instance.hub.beats for fault in beat["faults"]]
        return next((fault for fault in faults if text in fault), "")

    found: str = wait_for(look, lambda: instance.log)
    return found


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


def test_the_servers_environment_holds_what_the_hub_gave_and_nothing_else_of_ours(any_instance):
    environment = any_instance.up_and_serving()["environment"]
    assert environment["GIVEN_BY_HUB"] == "yes"
    assert environment["NIGHTINGALE_INSTANCE_ID"] == any_instance.directory.name
    assert environment["NIGHTINGALE_DATASETS"] == ""
    assert environment["NIGHTINGALE_CONSOLE_URL"].endswith("/services/console/api/")
    assert set(environment) == {
        *("GIVEN_BY_HUB", "HOME", "JUPYTERHUB_SERVICE_PREFIX", "JUPYTERHUB_SERVICE_URL"),
        *("JUPYTER_RUNTIME_DIR", "LANG", "LOGNAME", "NIGHTINGALE_CONSOLE_URL"),
        *("NIGHTINGALE_DATASETS", "NIGHTINGALE_INSTANCE_ID", "NIGHTINGALE_STATUS_FILE"),
        *("PATH", "SHELL", "USER"),
    }


def test_the_nonce_is_gone_from_disk_after_its_use(any_instance):
    any_instance.up_and_serving()
    assert read_nonce(any_instance) is None
    files = [path for path in any_instance.directory.rglob("*") if path.is_file()]
    assert not [path for path in files if b"nonce-1" in path.read_bytes()]


def test_a_refused_bootstrap_ends_the_agent_with_the_reason(any_instance):
    any_instance.hub.nonce = None
    any_instance.up()
    wait_for(lambda: not is_alive(any_instance.agent))
    assert "that nonce was burned" in any_instance.log
    assert any_instance.hub.beats == []


def test_an_instance_waits_for_a_hub_that_is_not_ready(instance):
    instance.hub.refusals_before_answer = 3
    instance.up_and_serving()
    assert "bootstrap waits: the hub answered 503 not yet" in instance.log


def test_up_leaves_a_living_instance_alone(any_instance):
    any_instance.up()
    agent = any_instance.agent
    any_instance.up()
    assert any_instance.agent == agent
    assert is_alive(agent)


def test_up_refuses_an_instance_whose_one_boot_is_used(instance):
    instance.up_and_serving()
    send_signal(instance.agent, signal.SIGKILL)
    assert wait_gone(instance.agent, 5)
    status, output = instance.run("up")
    assert status == 5
    assert "destroy the instance and start another" in output


def test_down_ends_everything_and_may_be_repeated(any_instance):
    any_instance.up_and_serving()
    status, output = any_instance.shell(DEAF_GRANDCHILD)
    assert status == 0, output
    everyone = list_all(any_instance)
    assert len(everyone) >= 3  # agent, server, grandchild
    any_instance.down()
    assert [each for each in everyone if is_alive(each)] == []
    any_instance.down()


def test_down_of_a_server_that_ignores_sigterm_ends_within_20_s(instance):
    instance.hub.launch["cmd"][2] = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        + instance.hub.launch["cmd"][2]
    )
    instance.up_and_serving()
    began = time.monotonic()
    instance.down()
    assert time.monotonic() - began < 20


def test_down_of_what_never_was_succeeds(instance):
    instance.down()
    (instance.directory / "boot.json").unlink()
    (instance.directory / "lock").unlink()
    instance.directory.rmdir()
    instance.down()
    instance.directory.mkdir()


def test_a_killed_agent_takes_everything_with_it(any_instance):
    any_instance.up_and_serving()
    any_instance.shell(DEAF_GRANDCHILD)
    everyone = list_all(any_instance)
    send_signal(any_instance.agent, signal.SIGKILL)
    wait_for(lambda: not [each for each in everyone if is_alive(each)], timeout_s=10)
    any_instance.down()


def test_down_finds_what_a_killed_agent_and_a_killed_keeper_left(plain_instance):
    plain_instance.up_and_serving()
    plain_instance.shell(DEAF_GRANDCHILD)
    everyone = list_all(plain_instance)
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


def test_an_agent_of_another_boot_of_the_machine_is_not_signalled(instance):
    bystander = find_identity(os.getpid())
    assert bystander is not None
    stale = Identity(bystander.pid, bystander.start_ticks, "another-boot")
    assert not is_alive(stale)
    assert not send_signal(stale, signal.SIGKILL)
    assert not send_signal(
        Identity(bystander.pid, bystander.start_ticks - 1, bystander.boot_id), signal.SIGKILL
    )


@needs_root
def test_a_server_runs_as_its_own_user_in_its_own_home(instance):
    facts = instance.up_and_serving()
    assert facts["uid"] != 0
    home = instance.home.lstat()
    assert (home.st_uid, stat.S_IMODE(home.st_mode)) == (facts["uid"], 0o700)
    assert instance.shell("id -un; pwd; touch new; stat -c %a new")[1].split() == [
        facts["environment"]["USER"],
        facts["environment"]["HOME"],
        "600",
    ]
    assert (instance.home / "new").stat().st_uid == facts["uid"]


@needs_root
def test_a_researcher_cannot_read_the_instances_own_files(instance):
    instance.hub.launch["datasets"] = [make_dataset(instance)]
    instance.up_and_serving()
    assert stat.S_IMODE(instance.directory.stat().st_mode) == 0o700
    for name in ("boot.json", "ship.json", "mount.json", "agent.log"):
        assert stat.S_IMODE((instance.directory / name).stat().st_mode) == 0o600
        status, output = instance.shell(f"cat {instance.directory / name}")
        assert status != 0
        assert "Permission denied" in output


@needs_root
def test_a_researcher_sees_no_process_but_their_own(instance):
    instance.up_and_serving()
    _, output = instance.shell("cat /proc/[0-9]*/status | grep ^Uid: | cut -f2 | sort -u")
    assert output.split() == [str(instance.get("")["uid"])]
    assert instance.shell("ls /proc | grep -c '^1$'")[1].strip() == "0"


@needs_root
def test_no_program_in_an_instance_gains_rights(instance):
    instance.up_and_serving()
    assert "NoNewPrivs:\t1" in instance.shell("cat /proc/self/status")[1]


def make_dataset(instance: LocalInstance, name: str = "scans") -> dict[str, str]:
    return {"name": name, "title": "Scans", "path": str(instance.data), "policy": "strict"}


@needs_root
def test_data_is_read_through_the_mount_and_nowhere_else(instance):
    instance.hub.launch["datasets"] = [make_dataset(instance)]
    environment = instance.up_and_serving()["environment"]
    assert instance.shell("cat ~/datasets/scans/scan.txt") == (0, "a scan\n")
    assert instance.shell(f"cat {environment['NIGHTINGALE_DATASETS']}/scans/scan.txt")[0] == 0
    assert instance.shell(f"cat {instance.data}/scan.txt")[0] != 0
    assert instance.shell("touch ~/datasets/scans/x")[0] != 0
    assert instance.status == {
        "instance_id": instance.directory.name,
        "boot_id": instance.hub.bootstraps[0]["boot_id"],
        "isolation": [
            "network: nothing here stops data from leaving through this machine's network"
        ],
        "datasets": environment["NIGHTINGALE_DATASETS"],
        "data_refused": None,
    }
    # Only the instance itself sees its mount.
    assert "nightingale" not in Path("/proc/self/mountinfo").read_text()


@needs_root
def test_down_sends_the_records_before_it_ends(instance):
    instance.hub.launch["datasets"] = [make_dataset(instance)]
    instance.up_and_serving()
    instance.shell("for i in $(seq 50); do cat ~/datasets/scans/scan.txt; done")
    instance.down()
    acts = [record["act"] for record in instance.hub.records]
    assert acts.count("open") == 50
    assert acts.count("read") >= 50  # `cat` reads once more, to see the end
    assert not (instance.directory / "ship.json").exists()


@needs_root
def test_down_ends_all_readers_before_it_takes_the_mount_away(instance):
    instance.hub.launch["datasets"] = [make_dataset(instance)]
    instance.up_and_serving()
    reads = "read line < ~/datasets/scans/scan.txt || echo >> ~/lost; echo >> ~/began"
    instance.shell(f"setsid -f sh -c \"trap '' TERM; while :; do {reads}; done\" >/dev/null 2>&1")
    wait_for((instance.home / "began").exists)
    instance.down()
    assert not (instance.home / "lost").exists()


@needs_root
def test_down_sends_the_records_that_a_killed_agent_left(instance):
    instance.hub.takes_records = False
    instance.hub.launch["datasets"] = [make_dataset(instance)]
    instance.up_and_serving()
    instance.shell("cat ~/datasets/scans/scan.txt")
    send_signal(instance.agent, signal.SIGKILL)
    assert wait_gone(instance.agent, 5)
    assert instance.hub.records == []
    instance.hub.takes_records = True
    instance.down()
    assert {record["act"] for record in instance.hub.records} >= {"open", "read"}
    assert not (instance.directory / "ship.json").exists()


@needs_root
def test_a_killed_audit_mount_is_back_within_two_seconds(instance):
    instance.hub.launch["datasets"] = [make_dataset(instance)]
    instance.up_and_serving()
    killed = instance.find_part("nightingale_hub.fuse_audit")
    assert killed is not None
    send_signal(killed, signal.SIGKILL)
    began = time.monotonic()
    wait_for(lambda: instance.shell("cat ~/datasets/scans/scan.txt") == (0, "a scan\n"))
    assert time.monotonic() - began < 2
    assert instance.find_part("nightingale_hub.fuse_audit") != killed
    wait_for_fault(instance, "audit_mount_exited -9")


@needs_root
def test_a_killed_shipper_is_started_again(instance):
    instance.hub.launch["datasets"] = [make_dataset(instance)]
    instance.up_and_serving()
    killed = wait_for(lambda: instance.find_part("nightingale_hub.fuse_audit.ship"))
    send_signal(killed, signal.SIGKILL)
    wait_for_fault(instance, "shipper_exited")
    wait_for(
        lambda: instance.find_part("nightingale_hub.fuse_audit.ship") not in (None, killed),
        lambda: instance.log,
    )


def test_a_refused_mount_is_told_and_the_server_runs_without_data(any_instance):
    missing = {**make_dataset(any_instance), "path": str(any_instance.data / "missing")}
    any_instance.hub.launch["datasets"] = [missing]
    environment = any_instance.up_and_serving()["environment"]
    assert environment["NIGHTINGALE_DATASETS"] == ""
    status = any_instance.status
    assert status["datasets"] is None
    assert str(any_instance.data / "missing") in status["data_refused"]


def test_an_instance_without_isolation_says_what_is_missing(plain_instance):
    plain_instance.up_and_serving()
    missing = [each.partition(":")[0] for each in plain_instance.status["isolation"]]
    assert missing == ["network", "files", "processes"]


@needs_root
def test_root_in_a_container_still_gives_each_researcher_a_user(instance):
    # What root has in most containers: neither namespaces nor mounts.
    instance.wrapper = ["setpriv", "--bounding-set=-sys_admin"]
    instance.hub.launch["datasets"] = [make_dataset(instance)]
    facts = instance.up_and_serving()
    assert facts["uid"] != 0
    assert facts["environment"]["HOME"] == str(instance.home)
    room = Path(facts["environment"]["NIGHTINGALE_STATUS_FILE"]).parent
    assert instance.status["datasets"] is None
    assert instance.status["data_refused"]
    missing = [each.partition(":")[0] for each in instance.status["isolation"]]
    assert missing == ["network", "processes"]
    instance.shell(DEAF_GRANDCHILD)
    everyone = list_all(instance)
    send_signal(instance.agent, signal.SIGKILL)
    wait_for(lambda: not [each for each in everyone if is_alive(each)], timeout_s=10)
    instance.down()
    assert not room.exists()


@needs_root
def test_a_link_in_the_home_never_moves_the_mount(instance):
    instance.home.mkdir(mode=0o700)
    (instance.home / "datasets").symlink_to("/etc")
    instance.hub.launch["datasets"] = [make_dataset(instance)]
    environment = instance.up_and_serving()["environment"]
    assert os.readlink(instance.home / "datasets") == "/etc"
    assert instance.shell("cat $NIGHTINGALE_DATASETS/scans/scan.txt") == (0, "a scan\n")
    assert "/etc " not in instance.shell("grep fuse /proc/mounts")[1]
    assert environment["NIGHTINGALE_DATASETS"] in instance.log


def test_a_server_that_dies_is_reported_and_started_again_three_times(plain_instance):
    plain_instance.up_and_serving()
    deaths = 0
    while deaths < 4:
        server = find_identity(plain_instance.wait_for_server()["pid"])
        assert server is not None
        send_signal(server, signal.SIGKILL)
        assert wait_gone(server, 5)
        deaths += 1
    wait_for_fault(plain_instance, "server_exited -9")
    wait_for(lambda: plain_instance.log.count("fault: server_exited -9") == 4)
    time.sleep(2)  # longer than the longest pause before a restart
    assert list_descendants(plain_instance.agent.pid) == []
    count = len(plain_instance.hub.beats)
    wait_for(lambda: len(plain_instance.hub.beats) > count)


@needs_root
def test_a_server_out_of_its_users_reach_is_refused_with_the_path(instance):
    program = instance.directory / "server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    instance.hub.launch["cmd"] = [str(program)]
    instance.up()
    fault = wait_for_fault(instance, "server_refused")
    assert f"cannot reach {program}" in fault
    program.unlink()


def test_a_home_that_is_somebody_elses_is_refused(instance):
    instance.home.symlink_to("/")
    instance.up()
    assert "is no directory" in wait_for_fault(instance, "server_refused")
    instance.home.unlink()


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


def test_a_boot_holds_no_secret_in_its_text(instance):
    boot = Boot("http://127.0.0.1/", "i-1", "the-nonce")
    assert "the-nonce" not in repr(boot)
