"""Whatever is killed, lost, late or doubled: stored segments agree with what truly was up."""

import asyncio
import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nightingale_hub.errors import Conflict
from nightingale_hub.services.metering.meter import Meter
from nightingale_hub.services.metering.rules import Beat
from nightingale_hub.services.metering.segments import find_metered
from tests.record import S, add_instance, change, list_segments
from tests.serving import make_context

LATE_US = 5 * S


class InstanceThatLivesAndDies(RuleBasedStateMachine):
    """One instance with its true history beside the real meter on a real database."""

    def __init__(self, database, context, runner):
        super().__init__()
        self.database, self.context, self.runner = database, context, runner
        self.now_us = 10_000 * S
        self.boots = [(f"{0:032x}", self.now_us)]  # id, true start
        self.deaths = []  # true end of each boot that ended
        self.beats = []
        self.fresh_us = {}  # boot: its last fresh beat that no kill took away
        self.told = set()  # boots of which a fresh beat arrived while they were metered
        self.ready_us = self.stop_us = self.gone_us = None
        self.is_up = True
        self.ended = {}  # segments that were stored with an end
        self.meter = Meter(context, lambda: self.now_us)
        with database.write() as conn:
            self.key = add_instance(
                conn, actual="booting", boot_id=self.boots[0][0], ready_us=None, port=None,
                allocated_us=self.now_us,
            )  # fmt: skip

    def write(self, **columns):
        with self.database.write() as conn:
            change(conn, self.key, **columns)

    @rule(us=st.one_of(st.integers(1, 3 * S), st.integers(1, 90 * S)))
    def time_passes(self, us):
        self.now_us += us

    @rule()
    def meter_steps(self):
        self.runner.run(self.meter.step())

    @rule()
    def meter_is_killed(self):
        self.meter = Meter(self.context, lambda: self.now_us)
        self.fresh_us = {}

    @precondition(lambda self: self.ready_us is None and self.is_up)
    @rule()
    def it_is_ready(self):
        self.ready_us = self.now_us
        self.write(ready_us=self.now_us, actual="running")

    @precondition(lambda self: self.is_up)
    @rule(arrives=st.booleans(), twice=st.booleans())
    def agent_beats(self, arrives, twice):
        boot, started_us = self.boots[-1]
        beat = Beat(boot, self.now_us - started_us, self.now_us)
        self.beats.append(beat)
        for _ in range(arrives + (arrives and twice)):
            self.deliver(beat)
        if arrives and self.ready_us is not None:
            self.fresh_us[boot] = self.now_us
            if self.stop_us is None:
                self.told.add(boot)

    @precondition(lambda self: self.beats)
    @rule(which=st.integers(0, 1000))
    def a_beat_comes_late(self, which):
        beat = self.beats[which % len(self.beats)]
        if self.now_us - beat.at_us <= LATE_US:
            self.deliver(Beat(beat.boot_id, beat.uptime_us, self.now_us))

    def deliver(self, beat):
        try:
            self.runner.run(self.meter.take(self.key, beat))
        except Conflict:
            # Only an older boot is refused, and one that was not known before the end.
            is_present = beat.boot_id == self.boots[-1][0]
            assert not is_present or self.stop_us is not None or self.gone_us is not None

    @precondition(lambda self: self.is_up and self.ready_us is not None and self.stop_us is None)
    @rule()
    def it_boots_anew(self):
        self.deaths.append(self.now_us)
        self.now_us += S
        self.boots.append((f"{len(self.boots):032x}", self.now_us))

    @precondition(lambda self: self.is_up)
    @rule()
    def it_dies(self):
        self.is_up = False

    @precondition(lambda self: self.stop_us is None)
    @rule()
    def a_stop_is_accepted(self):
        self.stop_us = self.now_us
        self.write(stop_accepted_us=self.now_us, wanted="stopped")

    @precondition(lambda self: self.gone_us is None and (self.stop_us or not self.is_up))
    @rule()
    def the_cloud_says_gone(self):
        self.is_up = False
        self.gone_us = self.now_us
        self.write(gone_us=self.now_us, actual="stopped")

    @invariant()
    def stored_segments_are_disjoint_and_ended_ones_stay(self):
        with self.database.read() as conn:
            stored = list_segments(conn, self.key)
        for (_, _, end_us, _), (_, start_us, _, _) in itertools.pairwise(stored):
            assert end_us is not None and end_us <= start_us
        now_ended = {row[0]: row for row in stored if row[2] is not None}
        assert self.ended.items() <= now_ended.items()
        self.ended = now_ended

    def teardown(self):
        if self.gone_us is None:
            self.now_us += S
            self.the_cloud_says_gone()
        revived = Meter(self.context, lambda: self.now_us)
        self.runner.run(revived.step())
        with self.database.read() as conn:
            ready = list_segments(conn, self.key)
            allocated = list_segments(conn, self.key, "allocated")
            metered = find_metered(conn, self.key)
        assert metered is not None and metered.changes({}) == {}, "what is settled stays settled"
        assert allocated == [("", self.boots[0][1], self.gone_us, "gone")]
        self.compare_with_truth(ready)

    def compare_with_truth(self, ready):
        end_us = min(at for at in (self.stop_us, self.gone_us) if at is not None)
        if self.ready_us is None or end_us < self.ready_us:
            assert ready == []
            return
        assert ready[0][1] == self.ready_us
        assert ready[-1][2] == end_us
        started = dict(self.boots)
        died = dict(zip(started, self.deaths, strict=False))
        previous_us = self.ready_us
        for boot, start_us, segment_end_us, cause in ready:
            if boot != self.boots[0][0]:
                assert start_us >= started[boot]
                if boot in self.told:
                    assert start_us == max(started[boot], previous_us), "to the microsecond"
            if cause == "boot changed":
                assert segment_end_us <= max(died[boot] + LATE_US, start_us)
                assert segment_end_us >= self.fresh_us.get(boot, 0)
            previous_us = segment_end_us


def test_segments_agree_with_what_truly_was_up(database):
    context = make_context("metering", database)
    with asyncio.Runner() as runner:

        class Machine(InstanceThatLivesAndDies):
            def __init__(self):
                super().__init__(database, context, runner)

        run_state_machine_as_test(
            Machine,
            settings=settings(max_examples=40, stateful_step_count=30, deadline=None),
        )
