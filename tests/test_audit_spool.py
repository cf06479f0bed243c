"""The spool: a line is whole or not there, and no number is given twice."""

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from nightingale_hub.errors import MountRefused
from nightingale_hub.fuse_audit import spool as spool_module
from nightingale_hub.fuse_audit.frames import frame, list_files, parse_frames
from nightingale_hub.fuse_audit.spool import Spool
from tests.audit_mount import LIMIT_S, read_events

LARGE = 1 << 30


def append(spool: Spool, count: int, size: int = 0) -> None:
    for _ in range(count):
        spool.append(b'"x":"%b"}' % (b"y" * size), may_pass_limit=False)


def numbers(directory: Path) -> list[int]:
    return [event["seq"] for event in read_events(directory)]


def test_numbers_begin_at_1_and_go_on_after_a_restart(tmp_path):
    for end in (5, 10, 15):
        spool = Spool(str(tmp_path / "s"), LARGE)
        append(spool, 5)
        spool.close()
        assert numbers(tmp_path / "s") == list(range(1, end + 1))
        del spool


def test_only_its_owner_may_look_into_a_spool(tmp_path):
    (tmp_path / "s").mkdir(mode=0o755)
    spool = Spool(str(tmp_path / "s"), LARGE)
    append(spool, 1)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    assert [file.stat().st_mode & 0o777 for file in (tmp_path / "s").iterdir()] == [0o600]
    spool.close()


def test_a_tail_torn_at_any_byte_is_cut_and_its_number_is_given_again(tmp_path):
    spool = Spool(str(tmp_path / "s"), LARGE)
    append(spool, 3)
    spool.close()
    del spool
    (file,) = (tmp_path / "s").iterdir()
    whole = file.read_bytes()
    lines, _ = parse_frames(whole)
    last = len(frame(lines[-1]))
    for cut in range(1, last):
        file.write_bytes(whole[:-cut])
        spool = Spool(str(tmp_path / "s"), LARGE)
        assert spool.next_seq == 3, cut
        append(spool, 1)
        spool.close()
        del spool
        assert file.read_bytes() == whole


@pytest.mark.parametrize("place", [0, 8, 17, 18, 30, -2, -1])
def test_a_changed_byte_in_the_last_line_is_found(tmp_path, place):
    spool = Spool(str(tmp_path / "s"), LARGE)
    append(spool, 2)
    spool.close()
    del spool
    (file,) = (tmp_path / "s").iterdir()
    data = bytearray(file.read_bytes())
    start = len(frame(parse_frames(bytes(data))[0][0]))
    data[place if place < 0 else start + place] ^= 0x41
    lines, used = parse_frames(bytes(data))
    # The two blanks of a head carry nothing: only they may change unseen.
    assert (len(lines), used) == (1, start) or place in (8, 17)


def test_files_are_rotated_by_size_and_the_next_begins_where_the_last_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "ROTATE_BYTES", 1000)
    spool = Spool(str(tmp_path / "s"), LARGE)
    append(spool, 50, size=100)
    spool.close()
    files = list_files(str(tmp_path / "s"))
    assert len(files) > 4
    counts = [len(parse_frames((tmp_path / "s" / f.name).read_bytes())[0]) for f in files]
    starts = [1 + sum(counts[:n]) for n in range(len(counts))]
    assert [file.first_seq for file in files] == starts
    assert numbers(tmp_path / "s") == list(range(1, 51))


def test_files_are_rotated_by_age(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "ROTATE_AFTER_S", 0.2)
    spool = Spool(str(tmp_path / "s"), LARGE)
    append(spool, 1)
    ends = time.monotonic() + LIMIT_S
    while len(list_files(str(tmp_path / "s"))) < 2 and time.monotonic() < ends:
        time.sleep(0.02)
    spool.close()
    assert [file.first_seq for file in list_files(str(tmp_path / "s"))] == [1, 2]


def test_the_number_is_kept_though_every_acknowledged_file_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "ROTATE_BYTES", 100)
    spool = Spool(str(tmp_path / "s"), LARGE)
    append(spool, 10, size=100)
    spool.close()
    del spool
    for file in list_files(str(tmp_path / "s"))[:-1]:
        (tmp_path / "s" / file.name).unlink()
    (newest,) = (tmp_path / "s").iterdir()
    newest.write_bytes(b"")
    assert Spool(str(tmp_path / "s"), LARGE).next_seq == 10


def test_a_line_is_on_disk_within_the_bound(tmp_path, monkeypatch):
    synced: list[float] = []
    really = os.fdatasync

    def note(fd: int) -> None:
        really(fd)
        synced.append(time.monotonic())

    monkeypatch.setattr(os, "fdatasync", note)
    spool = Spool(str(tmp_path / "s"), LARGE)
    append(spool, 1)
    written = time.monotonic()
    ends = written + LIMIT_S
    while not synced and time.monotonic() < ends:
        time.sleep(0.005)
    # The disk and a busy machine have as much again.
    assert synced[0] - written < 2 * spool_module.COMMIT_WITHIN_S
    spool.close()


def test_a_failed_sync_fails_the_spool_for_good(tmp_path, monkeypatch):
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "the disk is gone")

    spool = Spool(str(tmp_path / "s"), LARGE)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        append(spool, 1)
        ends = time.monotonic() + LIMIT_S
        while spool._failure is None and time.monotonic() < ends:
            time.sleep(0.01)
    with pytest.raises(OSError, match="could not be put on disk"):
        append(spool, 1)
    spool.close()


def test_a_line_that_was_written_in_part_is_taken_back(tmp_path, monkeypatch):
    really = os.write
    spool = Spool(str(tmp_path / "s"), LARGE)
    append(spool, 2)
    with monkeypatch.context() as nearly_full:
        nearly_full.setattr(os, "write", lambda fd, data: really(fd, data[: len(data) // 2]))
        with pytest.raises(OSError, match="takes no more"):
            append(spool, 1)
    append(spool, 2)
    spool.close()
    assert numbers(tmp_path / "s") == [1, 2, 3, 4]


def test_two_daemons_cannot_hold_one_spool(tmp_path):
    spool = Spool(str(tmp_path / "s"), LARGE)
    with pytest.raises(MountRefused, match="held by a running audit mount"):
        Spool(str(tmp_path / "s"), LARGE)
    spool.close()


def test_a_full_spool_takes_reads_a_while_longer_than_opens(tmp_path):
    spool = Spool(str(tmp_path / "s"), 10_000)
    taken = {False: 0, True: 0}
    for may_pass_limit in (False, True):
        with pytest.raises(OSError, match="reached its limit"):
            while True:
                spool.append(b'"x":"%b"}' % (b"y" * 50), may_pass_limit=may_pass_limit)
                taken[may_pass_limit] += 1
    assert taken[True] == pytest.approx(taken[False] / 4, abs=2)
    spool.close()


def test_a_full_spool_takes_lines_again_once_files_are_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "ROTATE_BYTES", 1000)
    spool = Spool(str(tmp_path / "s"), 5000)
    with pytest.raises(OSError, match="reached its limit"):
        append(spool, 1000, size=50)
    for file in list_files(str(tmp_path / "s"))[:-1]:
        (tmp_path / "s" / file.name).unlink()
    time.sleep(2 * spool_module.COMMIT_WITHIN_S)
    append(spool, 10, size=50)
    spool.close()


def test_many_threads_number_their_lines_without_a_gap(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "ROTATE_BYTES", 10_000)
    spool = Spool(str(tmp_path / "s"), LARGE)
    threads = [threading.Thread(target=append, args=(spool, 500, 20)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    spool.close()
    assert numbers(tmp_path / "s") == list(range(1, 2001))
