"""The rules of the meter: late, lost, doubled and disordered beats end in the same segments."""

import itertools

from nightingale_hub.services.metering.rules import (
    Beat,
    Proof,
    Record,
    find_changes,
    prove,
)
from nightingale_hub.services.metering.segment import Segment
from tests.record import S


def run(record, proofs, segments=()):
    """Apply the rules as the store does: changes replace what has their key."""
    stored = {segment.key: segment for segment in segments}
    stored |= find_changes(record, proofs, stored.values())
    return list(stored.values())


def test_an_instance_that_was_never_ready_has_no_ready_segment():
    record = Record("a", allocated_us=10, stop_accepted_us=40, gone_us=50)
    assert run(record, [prove(Beat("a", 5, 30))]) == [
        Segment("allocated", "", 10, 50, 50, "gone"),
    ]


def test_an_instance_that_was_to_stop_before_it_was_ready_costs_nothing():
    record = Record("a", allocated_us=10, ready_us=45, stop_accepted_us=40)
    assert [segment.meter for segment in run(record, [])] == ["allocated"]


def test_a_ready_segment_is_exactly_from_ready_to_the_accepted_stop():
    record = Record("a", allocated_us=10, ready_us=20, stop_accepted_us=47, gone_us=60)
    ready = Segment("ready", "a", 20, 47, 47, "stop accepted")
    assert ready in run(record, [])
    late = prove(Beat("a", 50, 60))
    assert ready in run(record, [late]), "a beat after the stop adds nothing"


def test_an_instance_that_died_unasked_is_billed_until_the_cloud_says_gone():
    record = Record("a", allocated_us=10, ready_us=20, gone_us=60)
    assert Segment("ready", "a", 20, 60, 60, "gone") in run(record, [])


def test_a_gap_without_beats_is_up_time_when_the_same_boot_is_seen_again():
    record = Record("a", ready_us=20)
    before = run(record, [prove(Beat("a", 15, 30))])
    after = run(record, [prove(Beat("a", 3_615, 3_630))], before)
    assert after == [Segment("ready", "a", 20, 3_630)]


def test_a_new_boot_ends_the_old_one_at_its_last_proof_and_opens_at_its_own_start():
    record = Record("a", ready_us=20)
    proofs = [prove(Beat("a", 30, 50)), prove(Beat("b", 10, 100))]
    expected = [
        Segment("ready", "a", 20, 50, 50, "boot changed"),
        Segment("ready", "b", 90, 100),
    ]
    assert run(record, proofs) == expected
    assert run(record, reversed(proofs)) == expected


def test_a_late_beat_of_an_ended_boot_changes_nothing():
    record = Record("a", ready_us=20)
    stored = run(record, [prove(Beat("a", 30, 50)), prove(Beat("b", 10, 100))])
    assert find_changes(record, [prove(Beat("a", 60, 80)), prove(Beat("a", 30, 120))], stored) == {}


def test_an_ended_segment_is_never_changed():
    record = Record("a", ready_us=20, stop_accepted_us=40, gone_us=50, allocated_us=1)
    stored = run(record, [])
    moved = Record("a", ready_us=10, stop_accepted_us=90, gone_us=95, allocated_us=0)
    assert find_changes(moved, [prove(Beat("b", 1, 92))], stored) == {}


def test_beats_in_any_order_and_number_prove_the_same():
    beats = [Beat("a", 5, 30), Beat("a", 9, 33), Beat("a", 9, 40), Beat("a", 2, 90)]
    for order in itertools.permutations(beats):
        proof = prove(order[0])
        for beat in [*order, *order]:
            proof = proof.join(beat)
        assert proof == Proof("a", 24, 9)


def test_a_late_beat_that_proved_too_much_does_not_lock_the_next_boot_out():
    record = Record("a", ready_us=20 * S)
    stored = run(record, [prove(Beat("a", 30 * S, 58 * S))])  # sent at 53, it died at 54
    after = run(record, [prove(Beat("b", 5 * S, 60 * S))], stored)
    expected = [
        Segment("ready", "a", 20 * S, 58 * S, 58 * S, "boot changed"),
        Segment("ready", "b", 58 * S, 60 * S),
    ]
    assert after == expected
    again = run(record, [prove(Beat("b", 7 * S, 61 * S))], after)
    assert again[1] == Segment("ready", "b", 58 * S, 61 * S), "and the two never overlap"


def test_a_faster_beat_tells_better_when_a_later_boot_began():
    record = Record("a", ready_us=20 * S)
    stored = run(record, [prove(Beat("a", 30 * S, 50 * S)), prove(Beat("b", 5 * S, 100 * S))])
    after = run(record, [prove(Beat("b", 9 * S, 101 * S))], stored)
    assert after[1] == Segment("ready", "b", 92 * S, 101 * S)
