"""Two researchers on one machine: neither sees the other's processes, home, mounts or data."""

import os
import pwd
import subprocess
from contextlib import contextmanager

import pytest

from tests.local_instance import local_instance

BOB = f"nh-{os.urandom(8).hex()}"


@contextmanager
def system_user_of_bob():
    try:
        yield
    finally:
        if BOB in {entry.pw_name for entry in pwd.getpwall()}:
            subprocess.run(["userdel", BOB], check=True, capture_output=True)


@pytest.fixture
def both(isolated_instance):
    """Alice's instance and Bob's, each with a dataset of its own, both up."""
    with system_user_of_bob(), local_instance() as bob:
        bob.home = isolated_instance.home.parent / "bob"  # all homes of a hub stand together
        bob.hub.launch |= {"owner": "bob", "system_user": BOB, "home": str(bob.home)}
        for each, secret in ((isolated_instance, "alice's scan"), (bob, "bob's scan")):
            (each.data / "scan.txt").write_text(secret)
            each.add_dataset()
            each.up_and_serving()
        yield isolated_instance, bob


def test_neither_sees_nor_reaches_anything_of_the_other(both):
    alice, bob = both
    for one, other in ((alice, bob), (bob, alice)):
        one.shell("sleep 300 >/dev/null 2>&1 & echo mine > ~/file; chmod 644 ~/file; chmod 755 ~")
        facts = other.get("")
        uid, home = facts["uid"], facts["environment"]["HOME"]
        # Processes: not one of another user, and the other's server is no pid here.
        users = one.shell("stat -c %u /proc/[0-9]* | sort -u")[1].split()
        assert users == [str(one.get("")["uid"])]
        assert str(uid) not in users
        assert one.shell(f"pkill -0 -u {uid}")[0] != 0
        # Homes: the same path is one's own, and the real one is closed.
        assert one.shell(f"stat -c %u {home}")[1].strip() == str(one.get("")["uid"])
        for command in ("ls {0}", "cat {0}/file", "touch {0}/new", "ls {0}/.."):
            assert one.shell(command.format(other.home))[0] != 0, command
        assert (
            one.shell(f"find /tmp /run /var /home -user {uid} -readable 2>/dev/null | head")[1]
            == ""
        )
        # Mounts: one's own datasets, and no trace of the other's.
        mounts = one.shell("cat /proc/self/mountinfo")[1]
        assert str(other.directory) not in mounts and str(other.home) not in mounts
        assert mounts.count("fuse.nightingale") == 1
        text = one.shell("cat ~/datasets/scans/scan.txt")[1]
        assert text == f"{'alice' if one is alice else 'bob'}'s scan"
        assert one.shell(f"cat {other.data}/scan.txt")[0] != 0
        assert one.shell(f"ls {other.directory}")[0] != 0


def test_neither_reads_the_others_records_into_their_own(both):
    alice, bob = both
    alice.shell("cat ~/datasets/scans/scan.txt")
    bob.shell("cat ~/datasets/scans/scan.txt")
    for one in (alice, bob):
        one.down()
        assert {record["uid"] for record in one.hub.records if record["act"] == "open"} == {
            pwd.getpwnam(one.hub.launch["system_user"]).pw_uid
        }
    assert {record["user"] for record in bob.hub.records} == {"bob"}
