import json

import pytest

from remotes.errors import Unavailable
from xobackup.clock import FakeClock
from xobackup.repository import listing as listings
from xobackup.repository.findings import Severity
from xobackup.repository.listing import list_points
from xotest.backups import START_S, VM, Guest, memory_remote

ROOT = f"xo-vm-backups/{VM}"


@pytest.fixture
def guest():
    return Guest(FakeClock(START_S), ["A-"])


@pytest.fixture
def remote(guest):
    return memory_remote(guest.clock)


@pytest.fixture
def points(guest, remote):
    return [guest.back_up(remote) for _ in range(6)]


def test_a_vm_without_a_directory_has_no_points(remote):
    found = list_points(remote, VM)
    assert (found.points, found.problems, found.certain) == ((), (), True)


def test_one_bad_json_hides_no_other(remote, points):
    bad = {
        points[0]: b"{ cut",
        points[1]: b"[" * 100_000,
        points[2]: json.dumps({"mode": "delta", "timestamp": 0, "vhds": {"x": "../../../etc/passwd"}}).encode(),
        points[3]: b'{"mode":"strange"}',
    }
    for point, raw in bad.items():
        remote.put(f"{ROOT}/{point}.json", raw)
    found = list_points(remote, VM)
    assert [point.id for point in found.points] == points[4:]
    assert {problem.path for problem in found.problems} == {f"{ROOT}/{point}.json" for point in bad}
    assert all(problem.severity is Severity.DAMAGE for problem in found.problems)
    assert not found.certain


def test_a_json_far_too_large_is_left_unread(remote, points, monkeypatch):
    monkeypatch.setattr(listings, "METADATA_BYTES_MAX", 10_000)
    remote.put(f"{ROOT}/{points[0]}.json", b" " * 10_001)
    found = list_points(remote, VM)
    assert [point.id for point in found.points] == points[1:]
    assert [(p.code, p.severity) for p in found.problems] == [("metadata-unread", Severity.UNKNOWN)]
    assert not found.certain


def test_a_read_error_is_unknown_not_damage(remote, points):
    class Sick(type(remote)):
        def get(self, name, **options):
            if name.endswith(f"{points[2]}.json"):
                raise Unavailable(self.url, name, "input/output error", transient=True)
            return super().get(name, **options)

    remote.__class__ = Sick
    found = list_points(remote, VM, use_cache=False)
    assert [(p.code, p.severity) for p in found.problems] == [("metadata-unread", Severity.UNKNOWN)]
    assert len(found.points) == 5 and not found.certain


def test_the_cache_saves_reading_but_not_what_is_newer(guest, remote, points):
    guest.clock.advance(10)
    with guest.repository(remote).lock(VM) as directory:
        directory.delete_points(points[:1])
    guest.clock.advance(10)
    raw = remote.get(f"{ROOT}/{points[2]}.json").replace(b'"tags":[]', b'"tags":["x"]')
    remote.put(f"{ROOT}/{points[2]}.json", raw)
    read = []

    class Counting(type(remote)):
        def get(self, name, **options):
            read.append(name)
            return super().get(name, **options)

    remote.__class__ = Counting
    found = list_points(remote, VM)
    assert [point.id for point in found.points] == points[1:]
    assert read == [f"{ROOT}/cache.json.gz", f"{ROOT}/{points[2]}.json"]
    assert found.point(points[2]).tags[-1] == "x"


def test_a_name_that_is_not_the_time_is_said(remote, points):
    remote.rename(f"{ROOT}/{points[0]}.json", f"{ROOT}/20200101T000000Z.json")
    found = list_points(remote, VM)
    assert [problem.code for problem in found.problems] == ["metadata-name"]
    assert found.certain and len(found.points) == 6


def test_a_directory_named_like_a_point_is_a_doubt(remote, points):
    remote.make_directory(f"{ROOT}/20200101T000000Z.json")
    found = list_points(remote, VM)
    assert [problem.code for problem in found.problems] == ["foreign-json"]
    assert not found.certain


def test_what_is_beside_the_vms_is_no_vm(guest, remote, points):
    remote.put("xo-vm-backups/notes.txt", b"x")
    remote.make_directory("xo-vm-backups/.queue")
    remote.make_directory("xo-vm-backups/something else")
    assert guest.repository(remote).vms() == [VM]
