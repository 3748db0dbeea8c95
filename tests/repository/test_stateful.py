"""Any sequence of writing, backing up, deleting, merging, losing and restoring, against plain arrays."""

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from remotes.faults import Cut, Faults, Moment, PowerCut
from remotes.faulty import FaultyRemote
from xobackup.clock import FakeClock
from xotest import xo_rules
from xotest.backups import JOB, START_S, VM, Guest, live_uuid, memory_remote
from xotest.pictures import ALPHABET

PICTURES = st.text(alphabet=ALPHABET, min_size=3, max_size=5)


class Machine(RuleBasedStateMachine):
    """One VM of two disks and its repository."""

    vhd_directory = False
    points = Bundle("points")

    @initialize(first=PICTURES, second=PICTURES)
    def start(self, first, second):
        self.clock = FakeClock(START_S)
        self.guest = Guest(self.clock, [first, second], vhd_directory=self.vhd_directory)
        self.remote = memory_remote(self.clock)
        self.there = []
        self.changed = True

    @rule(disk=st.sampled_from([0, 1]), picture=PICTURES)
    def write(self, disk, picture):
        self.guest.write(disk, picture)

    @rule(target=points)
    def back_up(self):
        point = self.guest.back_up(self.remote)
        self.there.append(point)
        self.changed = True
        return point

    @rule(target=points, number=st.integers(1, 60), during=st.booleans())
    def back_up_with_a_power_cut(self, number, during):
        saved = [list(b) for b in self.guest.bases], [dict(d) for d in self.guest.drawn]
        faults = Faults(cut=Cut(at=number, moment=Moment.DURING if during else Moment.BEFORE))
        try:
            point = self.guest.back_up(FaultyRemote(self.remote, faults))
        except PowerCut:
            self.remote = self.remote.survivor(random.Random(number))
            self.guest.bases, self.guest.drawn = saved
            self.changed = True
            return multiple()
        self.there.append(point)
        self.changed = True
        return point

    @rule(point=consumes(points))
    def delete(self, point):
        with self.guest.repository(self.remote).lock(VM, timeout_s=60) as directory:
            directory.delete_points([point])
        self.there.remove(point)
        self.changed = True

    @rule()
    def merge(self):
        with self.guest.repository(self.remote).lock(VM, timeout_s=60) as directory:
            report = directory.merge()
        assert {refusal.code for refusal in report.refusals} <= {"lineage-unreferenced"}
        self.changed = True

    @rule(number=st.integers(1, 40), during=st.booleans())
    def merge_with_a_power_cut(self, number, during):
        faults = Faults(cut=Cut(at=number, moment=Moment.DURING if during else Moment.BEFORE))
        try:
            with self.guest.repository(FaultyRemote(self.remote, faults)).lock(VM, timeout_s=60) as directory:
                directory.merge()
        except PowerCut:
            self.remote = self.remote.survivor(random.Random(number))
        self.changed = True

    @rule(disk=st.sampled_from([0, 1]))
    def the_pool_loses_its_snapshots(self, disk):
        self.guest.bases[disk].clear()

    @rule()
    def the_private_state_is_lost(self):
        self.remote.delete_tree(".xobackup")

    @invariant()
    def every_point_gives_what_was_there(self):
        if not getattr(self, "changed", False):
            return
        self.changed = False
        listed = self.guest.check(self.remote)
        # a run that was cut off at its very end did publish
        assert set(self.there) <= set(listed)
        found = self.guest.repository(self.remote).verify(VM)
        assert not found.damaged, [str(problem) for problem in found.problems]

    def teardown(self):
        if not hasattr(self, "remote"):
            return
        with self.guest.repository(self.remote).lock(VM, timeout_s=60) as directory:
            directory.merge()
            tips = [directory.tip(JOB, live_uuid(number)) for number in (0, 1)]
        if self.guest.check(self.remote, litter=False, merges=False):
            xo_rules.assert_conformant(self.remote)
        for number, tip in enumerate(tips):
            if tip.known:
                assert tip.problem == ""
                assert xo_rules.chainable(self.remote, VM, JOB, live_uuid(number), tip.snapshot_uuid)


class DirectoryMachine(Machine):
    vhd_directory = True


SETTINGS = settings(
    max_examples=12,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
Machine.TestCase.settings = SETTINGS
DirectoryMachine.TestCase.settings = SETTINGS
TestFiles = pytest.mark.slow(Machine.TestCase)
TestDirectories = pytest.mark.slow(DirectoryMachine.TestCase)
