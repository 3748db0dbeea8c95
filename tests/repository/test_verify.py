import pytest

from remotes.errors import Unavailable
from vhd.block import BLOCK_BYTES
from xobackup.clock import FakeClock
from xobackup.repository.codecs import CODECS, BrotliCodec
from xobackup.repository.digest_store import DigestStore
from xobackup.repository.errors import PointNotFound
from xobackup.repository.findings import Severity
from xobackup.repository.merging import run_merges
from xobackup.repository.repository import Repository
from xobackup.repository.verify import VerifyOptions
from xotest.backups import JOB, START_S, VM, Guest, live_uuid, memory_remote
from xotest.rot import flip_bit

ROOT = f"xo-vm-backups/{VM}"
LINEAGE = f"{ROOT}/vdis/{JOB}/{live_uuid(0)}"
DIGESTS = f".xobackup/digests/{VM}/{JOB}/{live_uuid(0)}"


@pytest.fixture(params=[False, True], ids=["files", "directories"])
def guest(request):
    return Guest(FakeClock(START_S), ["ABCD"], vhd_directory=request.param)


@pytest.fixture
def points(guest, remote):
    found = [guest.back_up(remote)]
    guest.write(0, "-E-f")
    found.append(guest.back_up(remote))
    guest.write(0, "G---")
    found.append(guest.back_up(remote))
    return found


@pytest.fixture
def remote(guest):
    return memory_remote(guest.clock)


def codes(report):
    return [(problem.code, problem.severity) for problem in report.problems]


def test_what_was_written_is_there(guest, remote, points):
    report = guest.repository(remote).verify(VM)
    assert report.problems == []
    coverage = report.coverage
    assert (coverage.disks, coverage.blocks, coverage.read, coverage.compared) == (3, 7, 7, 7)
    assert coverage.with_digest == 7 and coverage.bytes_read == 7 * BLOCK_BYTES
    assert report.points == [f"{VM}/{point}" for point in points]


def test_a_flipped_byte_is_found_and_so_are_the_points_it_touches(guest, remote, points):
    flip_bit(remote, points[0], 1)
    flip_bit(remote, points[0], 3)
    flip_bit(remote, points[0], 2)
    report = guest.repository(remote).verify(VM)
    found = {problem.block: problem for problem in report.problems}
    assert {problem.code for problem in report.problems} == {"block-digest"} and report.damaged
    assert set(found) == {1, 2, 3}
    assert found[1].points == (points[0],), "the second point has that block whole"
    assert found[2].points == tuple(points)
    assert found[3].points == tuple(points), "the second point has only some of its sectors"
    only = guest.repository(remote).verify(VM, points=[points[0]])
    assert len(only.problems) == 3 and only.coverage.disks == 1


def test_a_fraction_is_a_sample_that_a_seed_repeats(guest, remote):
    guest = Guest(guest.clock, ["A" * 60], **guest.options)
    guest.back_up(remote)
    repository = guest.repository(remote)
    read = {seed: repository.verify(VM, options=VerifyOptions(fraction=0.3, seed=seed)).coverage for seed in range(3)}
    assert all(5 <= each.read <= 35 and each.read == each.compared for each in read.values())
    assert repository.verify(VM, options=VerifyOptions(fraction=0.3, seed=0)).coverage == read[0]
    assert repository.verify(VM, options=VerifyOptions(fraction=0)).coverage.read == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        VerifyOptions(fraction=30)


def test_a_missing_middle_disk_touches_what_builds_on_it(guest, remote, points):
    name = f"{points[1]}.alias.vhd" if guest.options["vhd_directory"] else f"{points[1]}.vhd"
    remote.delete(f"{LINEAGE}/{name}")
    report = guest.repository(remote).verify(VM)
    assert [(problem.code, problem.points) for problem in report.problems] == [
        ("chain-broken", (points[1],)),
        ("chain-broken", (points[2],)),
    ]
    assert report.coverage.disks == 1, "the first one is still verified"


def test_a_truncated_disk_is_damage(guest, remote, points):
    if guest.options["vhd_directory"]:
        remote.put(f"{LINEAGE}/data/{points[1]}.vhd/footer", b"x")
    else:
        file = remote.update(f"{LINEAGE}/{points[1]}.vhd")
        file.truncate(file.size() - 1024)
        file.close()
    report = guest.repository(remote).verify(VM)
    assert report.damaged
    assert {problem.points for problem in report.problems if problem.severity is Severity.DAMAGE} == {
        (points[1],),
        (points[2],),
    }


def test_what_cannot_be_read_is_unknown_not_damage(guest, remote, points):
    class Sick(type(remote)):
        def open(self, name):
            if name.endswith(f"{points[1]}.vhd"):
                raise Unavailable(self.url, name, "input/output error", transient=False)
            return super().open(name)

        def get(self, name, **options):
            if f"{points[1]}.vhd/" in name:
                raise Unavailable(self.url, name, "input/output error", transient=False)
            return super().get(name, **options)

    remote.__class__ = Sick
    report = guest.repository(remote).verify(VM)
    unknown = [problem for problem in report.problems if problem.severity is Severity.UNKNOWN]
    assert unknown and "input/output error" in unknown[0].message
    assert ("disk-unread", Severity.UNKNOWN) in codes(report)
    with guest.repository(remote).lock(VM) as directory:
        directory.delete_points(points[:1])
        report = directory.merge()
        assert report.steps == [] and report.refusals[0].code == "lineage-uncertain"


def test_a_missing_block_object_is_found_without_reading_it():
    guest = Guest(FakeClock(START_S), ["ABCD"], vhd_directory=True)
    remote = memory_remote(guest.clock)
    point = guest.back_up(remote)
    remote.delete(f"{LINEAGE}/data/{point}.vhd/blocks/0/2")
    report = guest.repository(remote).verify(VM, options=VerifyOptions(fraction=0))
    assert [(problem.code, problem.block) for problem in report.problems] == [("block-missing", 2)]


def test_a_block_that_fell_out_of_the_table_is_found():
    guest = Guest(FakeClock(START_S), ["ABCD"], vhd_directory=True)
    remote = memory_remote(guest.clock)
    point = guest.back_up(remote)
    name = f"{LINEAGE}/data/{point}.vhd/bat"
    bits = bytearray(CODECS["brotli"].decompress(remote.get(name), 1 << 22))
    bits[0] &= ~0x40
    remote.put(name, BrotliCodec().compress(bits))
    report = guest.repository(remote).verify(VM, options=VerifyOptions(fraction=0))
    found = [(problem.code, problem.block) for problem in report.problems]
    assert found == [("metadata-size", None), ("block-lost", 1)]


def test_without_digests_it_reads_but_does_not_vouch(guest, remote, points):
    name = next(entry.name for entry in remote.list(DIGESTS) if points[0] in entry.name)
    remote.put(f"{DIGESTS}/{name}", b"not digests")
    other = next(entry.name for entry in remote.list(DIGESTS) if points[1] in entry.name)
    third = next(entry.name for entry in remote.list(DIGESTS) if points[2] in entry.name)
    remote.put(f"{DIGESTS}/{third}", remote.get(f"{DIGESTS}/{other}"))
    report = guest.repository(remote).verify(VM)
    assert sorted(codes(report)) == [("digests-damaged", Severity.WARNING), ("digests-stale", Severity.INFO)]
    assert not report.damaged
    assert (report.coverage.read, report.coverage.compared) == (7, 2)


def test_a_merge_by_somebody_else_costs_coverage_not_truth(guest, remote, points):
    """Whoever merges without knowing our digests: what they still say is true, and the rest is not vouched for."""
    with guest.repository(remote).lock(VM) as directory:
        directory.delete_points(points[:1])
        merge = {"clock": guest.clock, "check": directory.lock.check, "digests": False}
        assert run_merges(remote, VM, **merge).merges == 1
    report = guest.repository(remote).verify(VM)
    assert report.problems == []
    # merged: A E C f, of which only E and f were in the newer disk, and f was partial there
    assert (report.coverage.blocks, report.coverage.with_digest, report.coverage.compared) == (5, 3, 2)
    stale = [f.problem.path for f in guest.repository(remote).clean_plan(VM) if f.action == "delete"]
    assert stale == [f"{DIGESTS}/{points[0]}.xxh3"]


def test_digests_prepared_for_a_merge_that_never_began_are_thrown_away(guest, remote, points):
    store = DigestStore(remote, VM, f"vdis/{JOB}/{live_uuid(0)}")
    suffix = ".alias.vhd" if guest.options["vhd_directory"] else ".vhd"
    first, second = (f"{point}{suffix}" for point in points[:2])
    store.put_waiting(second, first, store.read(second))
    assert guest.repository(remote).verify(VM).problems == []
    with guest.repository(remote).lock(VM) as directory:
        directory.merge()
    assert store.names() == [f"{point}.xxh3" for point in points]


def test_metadata_that_lies_is_found(guest, remote, points):
    name = f"{ROOT}/{points[1]}.json"
    good = remote.get(name)
    size = guest.repository(remote).point(VM, points[1]).size
    remote.put(name, good.replace(b'"size":%d}' % size, b'"size":5}'))
    assert codes(guest.repository(remote).verify(VM)) == [("metadata-size", Severity.WARNING)]
    remote.put(name, good.replace(b'"virtual_size":8388608', b'"virtual_size":1048576'))
    assert codes(guest.repository(remote).verify(VM)) == [("disk-size", Severity.DAMAGE)]
    remote.put(name, good.replace(guest.bases[0][1].encode(), b"99999999-0000-4000-8000-000000000001"))
    assert codes(guest.repository(remote).verify(VM)) == [("disk-uuid", Severity.DAMAGE)]
    remote.put(name, b"{")
    assert codes(guest.repository(remote).verify(VM)) == [("metadata-invalid", Severity.DAMAGE)]
    assert codes(guest.repository(remote).verify(VM, points=[points[0]])) == []


def test_a_point_that_is_not_there_is_said(guest, remote, points):
    with pytest.raises(PointNotFound):
        guest.repository(remote).verify(VM, points=["20200101T000000Z"])
    assert guest.repository(remote).verify("99999999-0000-4000-8000-000000000001").points == []


def test_progress_and_cancel(guest, remote, points):
    told = []
    Repository(remote, clock=guest.clock).verify(VM, options=VerifyOptions(progress=told.append))
    assert [each.disks_done for each in told] == [1, 2, 3] and told[-1].bytes_read == 7 * BLOCK_BYTES

    class Stop(Exception):
        pass

    def stop():
        raise Stop

    with pytest.raises(Stop):
        guest.repository(remote).verify(VM, options=VerifyOptions(check=stop))
