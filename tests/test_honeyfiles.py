"""Honeyfiles look like the files around them, are in no manifest, and differ for each owner."""

import json
import os
import random
import stat
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from nightingale_hub.datasets import Dataset, ensure_dataset
from nightingale_hub.decoys import COUNT, list_extras, plan_decoys
from nightingale_hub.errors import ConfigError
from nightingale_hub.fuse_audit.configuration import Dataset as Served
from nightingale_hub.fuse_audit.extra import parse_extras
from nightingale_hub.fuse_audit.policy import STRICT
from nightingale_hub.fuse_audit.tree import Tree
from nightingale_hub.manifest import (
    find_manifest,
    is_listed,
    measure,
    parse_sizes,
    save_manifest,
    unpack_lines,
)
from nightingale_hub.services.audit.catalogue import HubCatalogue
from nightingale_hub.services.audit.detect.detector import Detector
from nightingale_hub.services.audit.probes import check_probes
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.decoys import decoy
from nightingale_hub.tables.log import finding
from tests.audit import AT_US
from tests.record import add_instance
from tests.scenarios import MIN, START, Person, World
from tests.serving import make_context

KEY = b"k" * 32
DAY_US = 86_400_000_000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    top = tmp_path / "data"
    for patient in range(8):
        folder = top / f"patient_{patient:04d}"
        folder.mkdir(parents=True)
        for number in range(12):
            path = folder / f"slice_{number:04d}.dcm"
            path.write_bytes(b"DICM" + os.urandom(4000 + 16 * (number + patient)))
            os.utime(path, ns=(0, (1_700_000_000 + number) * 10**9))
    (top / "README.txt").write_text("read me")
    (top / "link").symlink_to("README.txt")
    os.mkfifo(top / "fifo")
    return top


@pytest.fixture
def planted(database, data):
    """The extra files of alice's view, and of bob's."""
    with database.write() as conn:
        ensure_dataset(conn, Dataset("ct", "CT", "", "", str(data)))
        save_manifest(conn, "ct", measure(str(data), "ct"), AT_US)
        return [list_extras(conn, KEY, owner, "ct", AT_US) for owner in ("alice", "bob")]


def make_tree(data: Path, extras) -> Tree:
    served = Served("ct", str(data), STRICT, parse_extras(extras))
    return Tree([served], 0, lambda: b"")


def list_tree(tree: Tree, path: bytes):
    return tree.list_entries(tree.get_node(path))


def test_each_owner_has_others_and_they_stay(database, data, planted):
    alice, bob = planted
    assert len(alice) == len(bob) == COUNT
    assert {each["path"] for each in alice} != {each["path"] for each in bob}
    assert not {each["seed"] for each in alice} & {each["seed"] for each in bob}
    with database.write() as conn:
        assert list_extras(conn, KEY, "alice", "ct", AT_US + 1) == alice
        rows = conn.execute(select(decoy).where(decoy.c.owner == "alice")).all()
    assert sum(row.is_probe for row in rows) == 1


def test_no_manifest_has_them_and_it_has_all_else(database, data, planted):
    with database.read() as conn:
        found = find_manifest(conn, "ct")
    assert found is not None
    lines = unpack_lines(found.content)
    sizes = parse_sizes(lines)
    assert len(sizes) == found.files == 8 * 12 + 1
    assert sum(sizes.values()) == found.size
    assert all((data / name).stat().st_size == size for name, size in sizes.items())
    assert not any(is_listed(lines, each["path"]) for extras in planted for each in extras)


def test_the_manifest_of_hostile_names_has_a_line_for_each(tmp_path):
    for name in (b"new\nline", b"\xff\xfe", b"back\\slash", "é".encode()):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    measured = measure(str(tmp_path), "s")
    assert measured.lines.count(b"\n") == measured.files == 4


def test_an_instance_is_told_nothing_but_how_to_serve_them(planted):
    told = json.dumps(planted).lower()
    assert not any(word in told for word in ("decoy", "honey", "probe", "trap"))
    assert planted[0][0].keys() == {"path", "sibling", "size", "mtime_ns", "seed"}


def test_they_cannot_be_told_by_stat_listing_or_name(data, planted):
    tree = make_tree(data, planted[0])
    folders = {os.path.dirname(each["path"]) for each in planted[0]}
    positions = []
    for folder in folders:
        path = f"/ct/{folder}".encode()
        entries = list_tree(tree, path)
        names = [entry.name.decode() for entry in entries]
        own = {os.path.basename(e["path"]) for e in planted[0] if e["path"].startswith(folder)}
        assert own < set(names) and len(names) == len(set(names)) == 12 + len(own)
        inos = [entry.ino for entry in entries]
        assert len(set(inos)) == len(inos)
        stats = {name: tree.stat(tree.get_node(path + b"/" + name.encode())) for name in names}
        real = [stats[name] for name in names if name not in own]
        for name in own:
            found = stats[name]
            positions.append(names.index(name))
            assert found.ino == inos[names.index(name)]
            for field in ("mode", "uid", "gid", "nlink", "blksize"):
                assert getattr(found, field) in {getattr(each, field) for each in real}
            for field in ("size", "mtime_ns", "ctime_ns", "blocks"):
                among = [getattr(each, field) for each in real]
                assert min(among) <= getattr(found, field) <= max(among)
            assert found.mtime_ns % 10**9 == 0
            assert abs(found.ino - min(each.ino for each in real)) < 10**6
            assert {len(each) for each in names} == {len(name)}
    assert set(positions) != {12}  # not all of them stand last


def test_they_are_read_as_files_of_their_kind_and_always_the_same(data, planted):
    for each in planted[0]:
        contents = []
        for _ in range(2):
            tree = make_tree(data, planted[0])
            node = tree.get_node(f"/ct/{each['path']}".encode())
            file, found = tree.open(node)
            content = os.pread(file.fd, 1 << 20, 0)
            assert len(content) == found.size == each["size"] == tree.stat(node).size
            assert found == tree.stat(node) == tree.stat_open(node, file)
            contents.append(content)
        assert contents[0] == contents[1] and contents[0].startswith(b"DICM")
        assert contents[0] != (data / each["sibling"]).read_bytes()


def test_a_file_that_comes_to_the_dataset_takes_the_place_of_one(data, planted):
    tree = make_tree(data, planted[0])
    path = planted[0][0]["path"]
    (data / path).write_bytes(b"real")
    node = tree.get_node(f"/ct/{path}".encode())
    file, found = tree.open(node)
    assert os.pread(file.fd, 99, 0) == b"real" and found.size == 4
    names = Counter(e.name for e in list_tree(tree, f"/ct/{os.path.dirname(path)}".encode()))
    assert max(names.values()) == 1


async def test_a_file_that_came_to_the_dataset_is_no_honeyfile_any_more(database, data, planted):
    context = make_context("audit", database, NightingaleHub())
    catalogue = HubCatalogue(context, clock=lambda: AT_US + DAY_US + 1)
    await catalogue.refresh()
    path = planted[0][0]["path"]
    assert catalogue.is_decoy("alice", "ct", path) and not catalogue.is_decoy("carol", "ct", path)
    assert catalogue.get_extent("ct").files == 97
    (data / path).write_bytes(b"real")
    await catalogue.measure_next()
    await catalogue.refresh()
    assert not catalogue.is_decoy("alice", "ct", path)
    assert catalogue.find_size("ct", path) == 4 and catalogue.get_extent("ct").files == 98


def test_a_folder_whose_size_counts_its_entries_counts_them_too(data, planted):
    tree = make_tree(data, planted[0])
    extra = tree._folders["ct", os.path.dirname(planted[0][0]["path"]).encode()]
    folder = data / os.path.dirname(planted[0][0]["path"])
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        like_zfs = list(os.stat(folder))
        like_zfs[6] = 12 + 2
        counted = extra.count_into(os.stat_result(like_zfs), descriptor)
        assert counted.st_size == 14 + len(extra.by_name)
        assert extra.count_into(os.stat(folder), descriptor).st_size == os.stat(folder).st_size
    finally:
        os.close(descriptor)
    assert stat.S_ISDIR(counted.st_mode)


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "../x"},
        {"path": "/x"},
        {"path": "a//x"},
        {"path": "b/x"},
        {"path": "a/x\0"},
        {"size": -1},
        {"size": "many"},
        {"sibling": None},
    ],
)
def test_a_wrong_extra_file_refuses_the_mount(changes):
    values = {"path": "a/x", "sibling": "a/y", "size": 1, "mtime_ns": 1, "seed": "s"}
    with pytest.raises(ConfigError):
        parse_extras([values | changes])


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=12),
        st.tuples(st.integers(0, 2**50), st.integers(0, 2**62)),
        max_size=10,
    ),
    st.text(max_size=5),
)
def test_a_plan_names_no_file_that_is_there_and_stays_within_its_siblings(files, seed):
    for each in plan_decoys({"f": files}, seed):
        assert each.path.removeprefix("f/") not in files and "\n" not in each.path
        assert each.sibling.removeprefix("f/") in files
        assert min(s for s, _ in files.values()) <= each.size <= max(s for s, _ in files.values())


def test_an_instance_serves_them_and_its_agent_opens_one_each_day(isolated_instance):
    isolated_instance.add_dataset()
    extra = {"path": "scam.txt", "sibling": "scan.txt", "size": 7, "mtime_ns": 10**18, "seed": "s"}
    isolated_instance.hub.launch["datasets"][0]["extras"] = [extra]
    isolated_instance.up_and_serving()
    assert isolated_instance.shell("ls ~/datasets/scans")[1].split() == ["scam.txt", "scan.txt"]
    assert isolated_instance.shell("cat ~/datasets/scans/scam.txt | wc -c")[1].strip() == "7"
    isolated_instance.down()
    told = [each for each in isolated_instance.hub.records if each["path"] == "scam.txt"]
    own = [each for each in told if each["uid"] == 0]
    assert [each["act"] for each in own] == ["denied"]
    assert {each["act"] for each in told if each["uid"] != 0} == {"open", "read", "release"}


def test_the_agents_own_open_raises_nothing_and_is_remembered():
    world = World(random.Random(1))
    path = world.plant("alice")
    person = Person(world, "alice", random.Random(1))
    denied = msgspec.structs.replace(person.read(path, START)[0], act="denied", uid=0)
    detector = Detector(world)
    assert [each.rule for each in detector.feed([denied], "i-1:b-1", START)] == ["H1"]
    world.probes.add(path)
    assert detector.feed([denied], "i-1:b-1", START + MIN) == []
    assert detector.state.probed == {"alice/ct": START}
    late = START + 5 * MIN
    own = msgspec.structs.replace(denied, uid=1000, ts=late)
    assert [each.rule for each in detector.feed([own], "i-1:b-1", late)] == ["H1"]


def test_a_daily_open_that_stays_away_is_a_finding(database, planted):
    now_us = AT_US + 3 * DAY_US
    with database.write() as conn:
        add_instance(conn, owner="alice", ready_us=AT_US + 1)
        add_instance(conn, owner="bob", ready_us=now_us - DAY_US)
        for probed in ({"alice/ct": now_us - DAY_US}, {}, {}, {"alice/ct": AT_US}):
            check_probes(conn, probed, now_us)
        found = conn.execute(select(finding)).all()
    assert [(row.kind, row.subject, row.severity) for row in found] == [
        ("A1", "dataset:ct", "high")
    ]
