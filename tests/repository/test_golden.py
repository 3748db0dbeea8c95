"""The repositories Xen Orchestra itself wrote: listed, read bit for bit, resumed, merged, continued."""

import hashlib
import shutil
from contextlib import closing

import pytest

from remotes.local import LocalRemote
from vhd.block import BLOCK_BYTES, Block, BlockBuffer
from xobackup.clock import FakeClock
from xobackup.repository.errors import DiskNotFound, Encrypted
from xobackup.repository.options import RepositoryOptions
from xobackup.repository.repository import Repository
from xobackup.repository.writer import Base
from xotest import golden, old_forms, xo_rules
from xotest.backups import draft
from xotest.old_forms import OLD_FORMS

PLAIN = ("directory", "file", "grown-file", "merged-directory", "merged-file", "odd-size")
INTERRUPTED = ("interrupted-directory", "interrupted-file")
VDIS = ("11111111-0000-4000-8000-000000000001", "11111111-0000-4000-8000-000000000002")
SNAPSHOTS = ("33333333-0000-4000-8000-000000000001", "33333333-0000-4000-8000-000000000002")
LATER_S = 1_790_000_000


def opened(world, **options):
    return Repository(
        LocalRemote(world.root), clock=FakeClock(LATER_S), options=RepositoryOptions(use_cache=False, **options)
    )


def sha256_of(disk):
    digest, window = hashlib.sha256(), bytearray(BLOCK_BYTES)
    for offset in range(0, disk.virtual_size_bytes, BLOCK_BYTES):
        digest.update(window[: disk.read_into(offset, memoryview(window))])
    return digest.hexdigest()


def assert_every_disk(world, repository):
    """All that is listed gives its sha256; returns how many disks that were."""
    expected = {disk.snapshot_uuid: disk for run in world.runs for disk in run.disks}
    count = 0
    for point in repository.points(world.vm).points:
        for disk in point.disks:
            with closing(repository.open_disk(point, disk.vdi_uuid)) as chain:
                assert chain.virtual_size_bytes == expected[disk.vdi_uuid].virtual_size_bytes
                assert sha256_of(chain) == expected[disk.vdi_uuid].sha256, f"{point.id} {disk.vdi_uuid}"
            count += 1
    return count


@pytest.fixture
def copy(request, tmp_path):
    return golden.unpack(request.param, tmp_path)


@pytest.mark.parametrize("name", [*PLAIN, *INTERRUPTED])
def test_every_restore_point_gives_its_bytes(name):
    world = golden.pristine(name)
    repository = opened(world)
    assert repository.vms() == [world.vm]
    listing = repository.points(world.vm)
    assert (listing.certain, listing.problems) == (True, ())
    assert [f"{point.id}.json" for point in listing.points] == world.points()
    assert assert_every_disk(world, repository) == 2 * len(listing.points) > 0


@pytest.mark.parametrize("name", PLAIN)
def test_nothing_is_wrong_with_them(name):
    world = golden.pristine(name)
    repository = opened(world)
    assert repository.merge_plan(world.vm).steps == ()
    assert [f for f in repository.clean_plan(world.vm) if f.action != "none"] == []
    report = repository.verify(world.vm)
    assert [str(problem) for problem in report.problems] == []
    assert (report.coverage.compared, report.coverage.read) == (0, report.coverage.blocks)


@pytest.mark.parametrize("copy", INTERRUPTED, indirect=True)
def test_an_interrupted_merge_is_resumed(copy):
    repository = opened(copy)
    verified = repository.verify(copy.vm)
    assert not verified.damaged and {"merge-unfinished"} == {problem.code for problem in verified.problems}
    with repository.lock(copy.vm) as directory:
        assert [step.kind for step in directory.merge_plan().steps] == ["resume", "merge"]
        report = directory.merge()
    assert report.refusals == [] and report.merges == 2
    assert assert_every_disk(copy, repository) == 8
    assert repository.merge_plan(copy.vm).steps == ()
    assert repository.verify(copy.vm).problems == []
    xo_rules.assert_nothing(copy.root)


@pytest.mark.parametrize("copy", [*PLAIN, *INTERRUPTED], indirect=True)
def test_retention_merges_what_xen_orchestra_wrote(copy):
    repository = opened(copy)
    with repository.lock(copy.vm) as directory:
        points = [point.id for point in directory.points().points]
        directory.delete_points([points[0], *points[2:-1]])
        report = directory.merge()
    assert report.refusals == []
    assert assert_every_disk(copy, repository) == 2 * len({points[1], points[-1]} - {points[0]})
    assert repository.verify(copy.vm).problems == []
    xo_rules.assert_nothing(copy.root)
    xo_rules.assert_conformant(copy.root)


CODEC_OF = {old_forms.gzipped: "gzip", old_forms.plain: ""}
"""A chain goes on in its own compression."""


@pytest.mark.parametrize(("name", "make"), OLD_FORMS, ids=lambda one: getattr(one, "__name__", one))
def test_old_forms_are_listed_verified_read_merged_and_continued(name, make, tmp_path):
    copy = golden.unpack(name, tmp_path)
    make(copy)
    repository = opened(copy, vhd_directory=name.endswith("directory"))
    listing = repository.points(copy.vm)
    assert listing.certain and listing.problems == ()
    assert assert_every_disk(copy, repository) == 2 * len(copy.points())
    verified = repository.verify(copy.vm)
    assert not verified.damaged and {one.code for one in verified.problems} <= {"merge-unfinished"}
    last = {disk.live_vdi_uuid: disk.vdi_uuid for disk in listing.points[-1].disks}
    with repository.lock(copy.vm) as directory:
        assert directory.merge().refusals == []
        for vdi in VDIS:
            base = directory.find_base(copy.job, vdi, [last[vdi]])
            expected = CODEC_OF.get(make, "brotli" if name.endswith("directory") else None)
            assert isinstance(base, Base) and base.codec == expected
        points = [point.id for point in directory.points().points]
        directory.delete_points(points[:-2])
        assert directory.merge().refusals == []
    assert assert_every_disk(copy, repository) == 4
    assert repository.verify(copy.vm).problems == []
    xo_rules.assert_nothing(copy.root)


@pytest.mark.parametrize("copy", [*PLAIN, *INTERRUPTED], indirect=True)
def test_we_continue_its_chain_and_it_could_continue_ours(copy):
    repository = opened(copy, vhd_directory=copy.name.endswith("directory"))
    last = copy.runs[-1]
    before = {disk.live_vdi_uuid: disk.vdi_uuid for disk in repository.points(copy.vm).points[-1].disks}
    buffer = BlockBuffer()
    buffer.data[:] = b"\x42" * BLOCK_BYTES
    with repository.lock(copy.vm) as directory:
        directory.merge()  # as every run begins: Xen Orchestra's interrupted one is finished
        paths, sizes = [], []
        for vdi, snapshot in zip(VDIS, SNAPSHOTS, strict=True):
            base = directory.find_base(copy.job, vdi, ["44444444-0000-4000-8000-000000000001", before[vdi]])
            assert isinstance(base, Base) and base.snapshot_uuid == before[vdi]
            assert directory.tip(copy.job, vdi).snapshot_uuid == before[vdi]
            writer = directory.begin_disk(
                copy.job,
                vdi,
                timestamp_ms=LATER_S * 1000,
                snapshot_uuid=snapshot,
                virtual_size_bytes=base.virtual_size_bytes,
                base=base,
            )
            writer.write_block(Block(3, None, buffer))
            paths.append(writer.finish().path)
            sizes.append(base.virtual_size_bytes)
        value = dict(draft(LATER_S * 1000, SNAPSHOTS, paths, [8, 8]))
        for record, size in zip(value["vdis"].values(), sizes, strict=True):
            record["virtual_size"] = size
        value.update(jobId=copy.job, scheduleId=copy.schedule)
        value["vm"]["uuid"] = copy.vm
        directory.publish(value)
        xo_rules.assert_nothing(copy.root)
        for vdi, snapshot in zip(VDIS, SNAPSHOTS, strict=True):
            assert xo_rules.chainable(copy.root, copy.vm, copy.job, vdi, snapshot)
        directory.delete_points([point.id for point in directory.points().points[:-1]])
        assert directory.merge().refusals == []
    xo_rules.assert_nothing(copy.root)
    (point,) = repository.points(copy.vm).points
    assert len(last.disks) == 2
    whole = golden.pristine(copy.name)
    for vdi in VDIS:
        with (
            closing(repository.open_disk(point, vdi)) as merged,
            closing(opened(whole).open_disk(opened(whole).points(whole.vm).points[-1], vdi)) as old,
        ):
            assert _patched(old) == sha256_of(merged)
    assert repository.verify(copy.vm).problems == []


def _patched(disk):
    """The old disk with block 3 replaced."""
    digest, window = hashlib.sha256(), bytearray(BLOCK_BYTES)
    for offset in range(0, disk.virtual_size_bytes, BLOCK_BYTES):
        length = disk.read_into(offset, memoryview(window))
        digest.update(b"\x42" * length if offset == 3 * BLOCK_BYTES else window[:length])
    return digest.hexdigest()


def test_an_encrypted_remote_is_refused_by_name():
    world = golden.pristine("encrypted")
    for step in (
        lambda repository: repository.vms(),
        lambda repository: repository.points(world.vm),
        lambda repository: repository.clean_plan(world.vm),
        lambda repository: repository.merge_plan(world.vm),
        lambda repository: repository.verify(world.vm),
        lambda repository: repository.lock(world.vm).__enter__(),
    ):
        with pytest.raises(Encrypted, match="chacha20-poly1305"):
            step(opened(world))
    assert not (world.root / ".xobackup").exists()


def test_a_full_backup_is_listed_but_has_no_disks():
    world = golden.pristine("full-and-pool")
    repository = opened(world)
    full = [point for point in repository.points(world.vm).points if point.mode == "full"]
    assert full
    assert (world.vm_directory / full[0].xva).stat().st_size == full[0].size
    with pytest.raises(DiskNotFound, match="inside the image"):
        repository.open_disk(full[0], VDIS[0])
    (problem,) = repository.verify(world.vm).problems
    assert (problem.code, problem.severity) == ("xva-header", "warning"), "its maker put no archive into it"
    assert "its checksum agrees" in problem.message


def test_deleting_a_full_backup_takes_its_image(tmp_path):
    world = golden.unpack("full-and-pool", tmp_path)
    repository = opened(world)
    full = next(point for point in repository.points(world.vm).points if point.mode == "full")
    with repository.lock(world.vm) as directory:
        directory.delete_points([full.id])
    assert [path.name for path in world.vm_directory.iterdir() if path.name.startswith(full.id)] == []
    xo_rules.assert_nothing(world.root)


@pytest.mark.parametrize("copy", ["file"], indirect=True)
def test_a_cache_that_lies_is_not_believed(copy):
    repository = Repository(LocalRemote(copy.root), clock=FakeClock(LATER_S))
    names = copy.points()
    assert [f"{point.id}.json" for point in repository.points(copy.vm).points] == names
    shutil.copy(copy.vm_directory / "cache.json.gz", copy.vm_directory / "x.cache.json.gz")
    (copy.vm_directory / names[0]).unlink()
    assert [f"{point.id}.json" for point in repository.points(copy.vm).points] == names[1:]
    (copy.vm_directory / "cache.json.gz").write_bytes(b"\x1f\x8b rubbish")
    assert [f"{point.id}.json" for point in repository.points(copy.vm).points] == names[1:]
    codes = {finding.problem.code: finding.action for finding in repository.clean_plan(copy.vm)}
    assert codes["cache-broken"] == "rebuild"
