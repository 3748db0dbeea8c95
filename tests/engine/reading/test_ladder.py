"""Which rungs there are, and why not the better ones: decisions alone."""

import pytest

from xobackup.engine.job import Settings
from xobackup.engine.reading.ladder import (
    CbtUse,
    Ladder,
    NbdUse,
    Passed,
    Terms,
    Trouble,
    Via,
    below,
    ladder_of,
    only_by_cbt,
    told,
    too_large,
)
from xobackup.engine.reading.means import means_of
from xobackup.xapi.image_format import ImageFormat
from xotest.views import a_disk, a_snapshot

ALL = Terms(nbd=NbdUse.AUTO, cbt=CbtUse.AUTO)
TRACKED = a_disk(cbt=True)
BASE = a_snapshot(cbt=True)
CBT, LISTED, STREAM_DELTA, NBD_FULL, STREAM_FULL = Via


def rungs(terms: Terms, disk=TRACKED, base=BASE) -> tuple[Via, ...]:
    ladder = ladder_of(terms, disk, base)
    assert set(ladder.rungs) | {one.via for one in ladder.passed} == (set(Via) if base else {NBD_FULL, STREAM_FULL})
    assert all(one.reason for one in ladder.passed)
    return ladder.rungs


@pytest.mark.parametrize(
    ("terms", "disk", "base", "expected"),
    [
        (ALL, TRACKED, BASE, tuple(Via)),
        (ALL, TRACKED, None, (NBD_FULL, STREAM_FULL)),
        (Terms(nbd=NbdUse.AUTO, cbt=CbtUse.OFF), TRACKED, BASE, (LISTED, STREAM_DELTA, NBD_FULL, STREAM_FULL)),
        (Terms(nbd=NbdUse.AUTO, cbt=CbtUse.USE), TRACKED, BASE, tuple(Via)),
        (ALL, a_disk(cbt=False), BASE, (LISTED, STREAM_DELTA, NBD_FULL, STREAM_FULL)),
        (ALL, a_disk(cbt=None), BASE, (LISTED, STREAM_DELTA, NBD_FULL, STREAM_FULL)),
        (ALL, TRACKED, a_snapshot(cbt=False), (LISTED, STREAM_DELTA, NBD_FULL, STREAM_FULL)),
        (ALL, TRACKED, a_snapshot(cbt=True, has_data=False), (CBT, NBD_FULL, STREAM_FULL)),
        (Terms(nbd=NbdUse.OFF, cbt=CbtUse.AUTO), TRACKED, BASE, (STREAM_DELTA, STREAM_FULL)),
        (Terms(nbd=NbdUse.AUTO, nbd_problem="none"), TRACKED, BASE, (STREAM_DELTA, STREAM_FULL)),
        (Terms(nbd=NbdUse.REQUIRE, cbt=CbtUse.AUTO), TRACKED, BASE, (CBT, LISTED, NBD_FULL)),
        (Terms(nbd=NbdUse.REQUIRE, nbd_problem="none"), TRACKED, BASE, ()),
    ],
)
def test_the_rungs_there_are(terms, disk, base, expected) -> None:
    assert rungs(terms, disk, base) == expected


QCOW2 = a_disk(cbt=True, image_format=ImageFormat.QCOW2)
HUGE = a_disk(cbt=True, image_format=ImageFormat.QCOW2, virtual_size_bytes=4 << 40)
NO_CBT = Terms(nbd=NbdUse.AUTO, cbt=CbtUse.OFF)
NO_NBD = Terms(nbd=NbdUse.AUTO, nbd_problem="none")


@pytest.mark.parametrize(
    ("terms", "disk", "base", "expected"),
    [
        (ALL, QCOW2, BASE, (CBT, NBD_FULL, STREAM_FULL)),
        (ALL, QCOW2, None, (NBD_FULL, STREAM_FULL)),
        (NO_CBT, QCOW2, BASE, (NBD_FULL, STREAM_FULL)),
        (NO_NBD, QCOW2, BASE, (STREAM_FULL,)),
        (ALL, HUGE, BASE, (CBT, NBD_FULL)),
        (ALL, HUGE, None, (NBD_FULL,)),
        (NO_NBD, HUGE, BASE, ()),
        (Terms(nbd=NbdUse.OFF), HUGE, None, ()),
    ],
)
def test_the_rungs_of_qcow2_disks(terms, disk, base, expected) -> None:
    assert rungs(terms, disk, base) == expected


def test_a_vhd_of_2040_gib_still_has_streams_and_no_larger_disk() -> None:
    assert not too_large(a_disk(virtual_size_bytes=2040 << 30))
    assert too_large(a_disk(virtual_size_bytes=(2040 << 30) + 1)).startswith("a disk of 2040 GiB is larger than")


def test_only_what_would_have_been_better_is_worth_telling() -> None:
    assert ladder_of(ALL, HUGE, BASE).better == ()
    assert told(ladder_of(NO_CBT, HUGE, BASE).better) == [
        "not cbt-nbd: the job says cbt = off",
        "not list-nbd, stream-delta: the pool computes no deltas of qcow2 disks",
    ]
    assert [one.via for one in ladder_of(NO_NBD, HUGE, None).better] == [NBD_FULL, STREAM_FULL]


def test_where_only_tracking_gives_deltas_its_failing_leads_to_a_full() -> None:
    ladder = ladder_of(ALL, HUGE, BASE)
    assert below(ladder, Trouble.RUNG, "the log is gone").rungs == (NBD_FULL,)
    assert below(ladder, Trouble.NBD, "no connection") is None


def test_a_snapshot_without_data_serves_only_where_changes_and_nbd_can_be_had() -> None:
    purged = a_snapshot(cbt=True, has_data=False)
    assert not only_by_cbt(ALL, TRACKED, purged)
    assert only_by_cbt(Terms(nbd=NbdUse.AUTO, cbt=CbtUse.AUTO, nbd_problem="no server"), TRACKED, purged)
    assert only_by_cbt(ALL, a_disk(cbt=False), purged)
    assert only_by_cbt(Terms(nbd=NbdUse.AUTO, cbt=CbtUse.OFF), TRACKED, purged)


@pytest.mark.parametrize(
    ("ladder", "trouble", "expected"),
    [
        (tuple(Via), Trouble.RUNG, (LISTED, STREAM_DELTA, NBD_FULL, STREAM_FULL)),
        (tuple(Via), Trouble.NBD, (STREAM_DELTA, STREAM_FULL)),
        ((LISTED, STREAM_DELTA, NBD_FULL, STREAM_FULL), Trouble.DELTA, (NBD_FULL, STREAM_FULL)),
        ((LISTED, STREAM_DELTA, NBD_FULL, STREAM_FULL), Trouble.RUNG, (STREAM_DELTA, NBD_FULL, STREAM_FULL)),
        ((STREAM_DELTA, STREAM_FULL), Trouble.DELTA, (STREAM_FULL,)),
        ((STREAM_DELTA, STREAM_FULL), Trouble.RUNG, None),
        ((LISTED, NBD_FULL), Trouble.RUNG, None),
        ((CBT, LISTED, NBD_FULL), Trouble.NBD, None),
        ((NBD_FULL, STREAM_FULL), Trouble.NBD, (STREAM_FULL,)),
        ((STREAM_FULL,), Trouble.RUNG, None),
    ],
)
def test_only_a_no_to_the_delta_leads_to_a_full(ladder, trouble, expected) -> None:
    lower = below(Ladder(rungs=ladder), trouble, "why")
    assert (lower.rungs if lower else None) == expected
    if lower:
        assert {one.via for one in lower.passed} == set(ladder) - set(lower.rungs)


def test_a_base_without_data_falls_to_a_full_whatever_went_wrong() -> None:
    ladder = Ladder(rungs=(CBT, NBD_FULL, STREAM_FULL), only_cbt=True)
    assert below(ladder, Trouble.RUNG, "why").rungs == (NBD_FULL, STREAM_FULL)
    assert below(ladder, Trouble.NBD, "why").rungs == (STREAM_FULL,)


def test_reasons_are_told_once_for_the_rungs_that_share_them() -> None:
    passed = [Passed(via=CBT, reason="no NBD"), Passed(via=LISTED, reason="no NBD"), Passed(via=NBD_FULL, reason="x")]
    assert told(passed) == ["not cbt-nbd, list-nbd: no NBD", "not nbd-full: x"]


@pytest.mark.parametrize(
    ("purpose", "allowed", "usable", "plain"),
    [
        (["nbd"], False, True, False),
        (["nbd"], True, True, False),
        (["insecure_nbd"], True, True, True),
        (["insecure_nbd"], False, False, False),
        (["nbd", "insecure_nbd"], True, False, False),
        ([], True, False, False),
        ("rubbish", True, False, False),
    ],
)
def test_reading_without_tls_only_where_allowed_and_nothing_else_is_offered(purpose, allowed, usable, plain) -> None:
    class Pool:
        def records(self, cls: str):
            assert cls == "network"
            return {"OpaqueRef:n": {"uuid": "u", "name_label": "n", "purpose": purpose}}

    means = means_of(Pool(), Settings(nbd_plain_allowed=allowed))
    assert (not means.terms.nbd_problem, means.nbd.plain_allowed) == (usable, plain)
