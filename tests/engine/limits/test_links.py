"""What crosses the line between two sites, and how fast it may."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xobackup.clock import FakeClock
from xobackup.engine.cancel import CancelToken
from xobackup.engine.limits.bandwidth import MIB, Timetable
from xobackup.engine.limits.links import Link, Links
from xobackup.engine.limits.process import ProcessLimits
from xobackup.engine.limits.told import links_told
from xobackup.engine.run import run_job
from xobackup.engine.throttle import Throttle
from xotest.lab import Lab

LINE = Link(name="line", between=("paris", "lyon"), bandwidth=Timetable(rate_bytes_s=1.0 * MIB), transfers_max=2)
NARROW = Link(name="narrow", between=("oslo", "paris"), transfers_max=1)
SITES = {
    "pool:lyon": ("lyon",),
    "nas": ("paris",),
    "far": ("oslo", "lyon"),
    "s3": (),
    "dr": ("lyon",),
    "own": ("rome",),
}
LINKS = Links(here="paris", sites=SITES, links=(LINE, NARROW))


@pytest.mark.parametrize(
    ("here", "place", "link"),
    [
        ("paris", "pool:lyon", "line"),
        ("paris", "nas", ""),  # it is here
        ("paris", "s3", ""),  # nobody says where it is
        ("paris", "far", "narrow"),  # the first of its sites to which there is a link
        ("lyon", "far", ""),
        ("rome", "pool:lyon", ""),  # no link that we know
        ("paris", "own", ""),
        ("", "pool:lyon", ""),  # nobody says where we are
        ("paris", "dr:Local storage", "line"),  # one SR of a target
        ("paris", "pool:dr:x", ""),
        ("paris", "unknown", ""),
    ],
)
def test_what_crosses_which_link(here: str, place: str, link: str) -> None:
    found = replace(LINKS, here=here).to(place)
    assert (found.name if found else "") == link


def test_a_link_has_two_directions_and_none_to_itself() -> None:
    assert LINKS.between("lyon", "paris") is LINKS.between("paris", "lyon") is LINE
    assert LINKS.between("paris", "paris") is None and LINKS.between("lyon", "oslo") is None
    assert LINKS.crossed(["s3", "pool:lyon", "dr", "far", "dr"]) == {"line": ["pool:lyon", "dr"], "narrow": ["far"]}


def taken(throttle: Throttle | None) -> float:
    assert throttle is not None
    return throttle.take(4 * MIB, CancelToken())


def test_all_that_crosses_shares_one_limiter_and_what_comes_and_goes_crosses_twice() -> None:
    limits, clock = ProcessLimits(links=LINKS, remotes={"dr": Timetable(rate_bytes_s=100.0 * MIB)}), FakeClock()
    own = Throttle(None, clock)
    assert limits.across(own, ["nas", "s3", "far"], clock) is own, "nothing limits a rate there"
    assert limits.to_remote("nas", clock) is None and limits.copying("nas", "s3", clock) is None
    assert limits.pair("lyon", "oslo", clock) is None and limits.pair("oslo", "paris", clock) is None
    assert taken(limits.to_remote("dr", clock)) == pytest.approx(4.0, rel=0.01)
    assert limits.pair("lyon", "paris", clock) is limits.pair("paris", "lyon", clock)
    assert taken(limits.pair("lyon", "paris", clock)) == pytest.approx(4.0, rel=0.01), "no credit is left"
    assert taken(limits.across(own, ["pool:lyon"], clock)) == pytest.approx(4.0, rel=0.01)
    assert taken(limits.across(own, ["pool:lyon", "dr"], clock)) == pytest.approx(8.0, rel=0.01)
    assert taken(limits.copying("dr", "s3", clock)) == pytest.approx(4.0, rel=0.01)


def test_gates_of_links() -> None:
    limits = ProcessLimits(links=LINKS)
    assert [(gate.key, gate.room) for gate in limits.link_gates(["pool:lyon", "dr", "far", "nas"])] == [
        ("link line transfers", 2),
        ("link narrow transfers", 1),
    ]
    assert limits.pair_gates("lyon", "paris") == limits.link_gates(["dr"]) and limits.pair_gates("rome", "oslo") == ()


def test_told_with_where_it_leads() -> None:
    limits = ProcessLimits(links=LINKS)
    assert links_told(limits, ["pool:lyon", "dr", "far", "nas"], 0.0) == [
        "through link line to pool lyon, dr: 1 MiB/s shared, 2 transfers at a time",
        "through link narrow to far, 1 transfer at a time",
    ]


def test_a_run_that_reads_from_another_site_goes_at_the_pace_of_the_link_and_through_its_gate(lab: Lab) -> None:
    (pool,) = lab.job().pools
    links = Links(here="paris", sites={f"pool:{pool.name}": ("lyon",)}, links=(replace(LINE, transfers_max=1),))
    limits, seen = ProcessLimits(links=links), []
    through = limits.room.through

    def watch(gates, cancel, **more):
        seen.extend(gate.key for gate in gates if gate.key.startswith("link "))
        return through(gates, cancel, **more)

    limits.room.through = watch  # type: ignore[method-assign]
    lab.write(0, 0, b"x" * 4096)
    began_s = lab.clock.now_s()
    report = run_job(lab.job(), replace(lab.world(), limits=limits))
    (vm,) = report.vms
    assert str(report.outcome) == "ok" and vm.read_bytes > MIB
    assert lab.clock.now_s() - began_s >= vm.read_bytes / MIB - 1
    assert seen and set(seen) == {"link line transfers"}
