"""What a researcher cannot see or do in an instance, tried as that researcher."""

import signal
import stat
import subprocess
from contextlib import contextmanager
from pathlib import Path

from nightingale_hub.instance.bootstrap import Boot
from nightingale_hub.processes import (
    is_alive,
    send_signal,
)
from tests.local_instance import (
    DEAF_GRANDCHILD,
    read_nonce,
    wait_for,
)


def test_the_servers_environment_holds_what_the_hub_gave_and_nothing_else_of_ours(any_instance):
    environment = any_instance.up_and_serving()["environment"]
    assert environment["GIVEN_BY_HUB"] == "yes"
    assert environment["NIGHTINGALE_INSTANCE_ID"] == any_instance.directory.name
    assert environment["NIGHTINGALE_DATASETS"] == ""
    assert environment["NIGHTINGALE_CONSOLE_URL"].endswith("/services/console/api/")
    assert set(environment) == {
        *("GIVEN_BY_HUB", "HOME", "JUPYTERHUB_SERVICE_PREFIX", "JUPYTERHUB_SERVICE_URL"),
        *(
            "JUPYTER_CONFIG_PATH",
            "JUPYTER_PATH",
            "JUPYTER_RUNTIME_DIR",
            "LANG",
            "LOGNAME",
            "NIGHTINGALE_CONSOLE_URL",
        ),
        *("NIGHTINGALE_DATASETS", "NIGHTINGALE_INSTANCE_ID", "NIGHTINGALE_STATUS_FILE"),
        *("PATH", "SHELL", "USER"),
    }


def test_the_nonce_is_gone_from_disk_after_its_use(any_instance):
    any_instance.up_and_serving()
    assert read_nonce(any_instance) is None
    files = [path for path in any_instance.directory.rglob("*") if path.is_file()]
    assert not [path for path in files if b"nonce-1" in path.read_bytes()]


def test_a_server_runs_as_its_own_user_in_its_own_home(isolated_instance):
    facts = isolated_instance.up_and_serving()
    assert facts["uid"] != 0
    home = isolated_instance.home.lstat()
    assert (home.st_uid, stat.S_IMODE(home.st_mode)) == (facts["uid"], 0o700)
    assert isolated_instance.shell("id -un; pwd; touch new; stat -c %a new")[1].split() == [
        facts["environment"]["USER"],
        facts["environment"]["HOME"],
        "600",
    ]
    assert (isolated_instance.home / "new").stat().st_uid == facts["uid"]


def test_what_the_machine_unmounts_is_not_kept_by_an_instance(isolated_instance, tmp_path):
    share = tmp_path / "share"
    share.mkdir()
    with mounted_tmpfs(share):
        subprocess.run(["mount", "--make-shared", str(share)], check=True)
        inner = share / "inner"
        inner.mkdir()
        with mounted_tmpfs(inner):
            isolated_instance.up_and_serving()
            mounts = Path(f"/proc/{isolated_instance.agent.pid}/mountinfo")
            assert f" {inner} " in mounts.read_text()
        assert f" {inner} " not in mounts.read_text()


@contextmanager
def mounted_tmpfs(path):
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_researcher_cannot_read_the_instances_own_files(isolated_instance):
    isolated_instance.add_dataset()
    isolated_instance.up_and_serving()
    assert stat.S_IMODE(isolated_instance.directory.stat().st_mode) == 0o700
    for name in ("boot.json", "ship.json", "mount.json", "agent.log"):
        assert stat.S_IMODE((isolated_instance.directory / name).stat().st_mode) == 0o600
        status, output = isolated_instance.shell(f"cat {isolated_instance.directory / name}")
        assert status != 0
        assert "Permission denied" in output


def test_a_researcher_sees_no_process_but_their_own(isolated_instance):
    isolated_instance.up_and_serving()
    _, output = isolated_instance.shell("cat /proc/[0-9]*/status | grep ^Uid: | cut -f2 | sort -u")
    assert output.split() == [str(isolated_instance.get("")["uid"])]
    assert isolated_instance.shell("ls /proc | grep -c '^1$'")[1].strip() == "0"


def test_no_program_in_an_instance_gains_rights(isolated_instance):
    isolated_instance.up_and_serving()
    assert "NoNewPrivs:\t1" in isolated_instance.shell("cat /proc/self/status")[1]


def test_an_instance_without_isolation_says_what_is_missing(plain_instance):
    plain_instance.up_and_serving()
    missing = [each.partition(":")[0] for each in plain_instance.status["isolation"]]
    assert missing == ["network", "files", "processes"]


def test_root_in_a_container_still_gives_each_researcher_a_user(isolated_instance):
    # What root has in most containers: neither namespaces nor mounts.
    isolated_instance.wrapper = ["setpriv", "--bounding-set=-sys_admin"]
    isolated_instance.add_dataset()
    facts = isolated_instance.up_and_serving()
    assert facts["uid"] != 0
    assert facts["environment"]["HOME"] == str(isolated_instance.home)
    room = Path(facts["environment"]["NIGHTINGALE_STATUS_FILE"]).parent
    assert isolated_instance.status["datasets"] is None
    assert isolated_instance.status["data_refused"]
    missing = [each.partition(":")[0] for each in isolated_instance.status["isolation"]]
    assert missing == ["network", "processes"]
    isolated_instance.shell(DEAF_GRANDCHILD)
    everyone = isolated_instance.list_everyone()
    send_signal(isolated_instance.agent, signal.SIGKILL)
    wait_for(lambda: not [each for each in everyone if is_alive(each)], timeout_s=10)
    isolated_instance.down()
    assert not room.exists()


def test_a_server_out_of_its_users_reach_is_refused_with_the_path(isolated_instance):
    program = isolated_instance.directory / "server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    isolated_instance.hub.launch["cmd"] = [str(program)]
    isolated_instance.up()
    fault = isolated_instance.wait_for_fault("server_refused")
    assert f"cannot reach {program}" in fault
    program.unlink()


def test_a_home_that_is_somebody_elses_is_refused(plain_instance):
    plain_instance.home.symlink_to("/")
    plain_instance.up()
    assert "is no directory" in plain_instance.wait_for_fault("server_refused")
    plain_instance.home.unlink()


def test_a_boot_holds_no_secret_in_its_text(plain_instance):
    boot = Boot("http://127.0.0.1/", "i-1", "the-nonce")
    assert "the-nonce" not in repr(boot)
