"""A quota holds by person, by group and by default; what it refuses changes nothing."""

import threading

import pytest
from traitlets import TraitError

from nightingale_hub.errors import ConfigError, OverQuota
from nightingale_hub.instances import list_unsettled
from nightingale_hub.launch import Launch, create
from nightingale_hub.offers import Offer, Size
from nightingale_hub.quotas import Quota, find_quota
from nightingale_hub.settings import NightingaleHub
from tests.record import add_instance, change

OFFER = Offer("local", "here", "local-S-none-S", Size(), 1, 10, 30_000_000)
QUOTAS = {
    "default": {"instances": 1, "gpu": ["none"]},
    "groups": {
        "imaging": {"instances": 3, "cpu": ["S", "M"]},
        "ecg": {"instances": 2, "cpu": ["L"], "gpu": ["none"]},
        "all": {},
    },
    "users": {"lee": {"instances": 5, "cpu": ["XL"]}},
}


@pytest.mark.parametrize(
    ("owner", "groups", "quota"),
    [
        ("ann", [], Quota(1, gpu=frozenset({"none"}))),
        ("ann", ["unknown"], Quota(1, gpu=frozenset({"none"}))),
        ("ann", ["imaging"], Quota(3, cpu=frozenset("SM"))),
        ("ann", ["ecg", "imaging"], Quota(3, cpu=frozenset("SML"))),
        ("ann", ["ecg", "all"], Quota()),
        ("lee", ["all"], Quota(5, cpu=frozenset({"XL"}))),
    ],
)
def test_a_persons_own_holds_else_the_most_generous_group_else_the_default(owner, groups, quota):
    assert find_quota(QUOTAS, owner, groups) == quota


def test_without_quotas_nothing_is_limited():
    assert find_quota({}, "ann", ["imaging"]) == Quota()


@pytest.mark.parametrize(
    ("size", "says"),
    [
        (Size("L"), "no cpu size L; choose one of S, M, or"),
        (Size("S", "S"), "no gpu size S; choose one of none, or"),
    ],
)
def test_a_size_outside_the_quota_is_refused_with_what_there_is(size, says):
    with pytest.raises(OverQuota, match=says):
        Quota(cpu=frozenset("SM"), gpu=frozenset({"none"})).check_size(size)


def test_the_number_of_instances_counts_those_that_are_not_over(database):
    quota = Quota(2)
    with database.write() as conn:
        first = create(conn, Launch("ann", "", OFFER, b"", quota=quota), 1)
        create(conn, Launch("ann", "b", OFFER, b"", quota=quota), 1)
        add_instance(conn, owner="ann", actual="stopped")
        create(conn, Launch("bob", "", OFFER, b"", quota=quota), 1)
        with pytest.raises(OverQuota, match="is 2 instances at once, and you have 2; stop one"):
            create(conn, Launch("ann", "c", OFFER, b"", quota=quota), 1)
        change(conn, first, actual="stopped")
        create(conn, Launch("ann", "c", OFFER, b"", quota=quota), 1)


def test_of_several_starts_at_once_no_more_than_the_quota_get_one(database):
    refused = []

    def start(name):
        launch = Launch("ann", name, OFFER, b"", quota=Quota(2))
        try:
            database.transact(lambda conn: create(conn, launch, 1))
        except OverQuota as error:
            refused.append(error)

    threads = [threading.Thread(target=start, args=(f"s{number}",)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    with database.read() as conn:
        assert len(list_unsettled(conn)) == 2
    assert len(refused) == 4


@pytest.mark.parametrize(
    "quotas",
    [
        {"everyone": {}},
        {"default": {"instances": -1}},
        {"default": {"instances": True}},
        {"default": {"instances": "2"}},
        {"default": {"cpu": "S"}},
        {"default": {"cpu": ["XXL"]}},
        {"users": {"ann; rm -rf /": {"memory": 1}}},
        {"groups": ["imaging"]},
        {"groups": {"imaging": []}},
    ],
)
def test_a_wrong_setting_is_refused_when_the_hub_starts(quotas):
    with pytest.raises((ConfigError, TraitError)):
        NightingaleHub(quotas=quotas)


def test_a_right_setting_reaches_the_services_as_it_is():
    assert NightingaleHub.from_dict(NightingaleHub(quotas=QUOTAS).to_dict()).quotas == QUOTAS
