"""Encrypted as Xen Orchestra does: what it wrote is read, merged and continued; what we write, it could read.

What we wrote is judged by ``xotest.xo_rules`` over its own decryption, which shares no code with ours.
"""

import hashlib
import json
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from remotes.encryption.aead import Algorithm
from remotes.encryption.chunked import ChunkedObjects
from remotes.encryption.markers import open_xo_encrypted
from remotes.encryption.remote import EncryptedRemote
from remotes.local import LocalRemote
from vhd.block import BLOCK_BYTES, Block, BlockBuffer
from xobackup.clock import FakeClock
from xobackup.repository.binding import binding_of
from xobackup.repository.options import RepositoryOptions
from xobackup.repository.repository import Repository
from xobackup.repository.writer import Base
from xotest import golden, xo_rules
from xotest.backups import START_S, VM, Guest, draft, memory_remote
from xotest.golden import ENCRYPTION_KEY as KEY
from xotest.sweep import sweep

LATER_S = 1_790_000_000
VDIS = ("11111111-0000-4000-8000-000000000001", "11111111-0000-4000-8000-000000000002")
SNAPSHOTS = ("33333333-0000-4000-8000-000000000001", "33333333-0000-4000-8000-000000000002")


@pytest.fixture
def copy(tmp_path):
    return golden.unpack("encrypted", tmp_path)


def opened(world):
    remote = open_xo_encrypted(LocalRemote(world.root), KEY)
    return Repository(remote, clock=FakeClock(LATER_S), options=RepositoryOptions(use_cache=False))


def plain(world):
    return xo_rules.DecryptedTree(world.root, KEY)


def sha256_of(disk):
    digest, window = hashlib.sha256(), bytearray(BLOCK_BYTES)
    for offset in range(0, disk.virtual_size_bytes, BLOCK_BYTES):
        digest.update(window[: disk.read_into(offset, memoryview(window))])
    return digest.hexdigest()


def assert_every_disk(world, repository):
    expected = {disk.snapshot_uuid: disk for run in world.runs for disk in run.disks}
    count = 0
    for point in repository.points(world.vm).points:
        for disk in point.disks:
            with closing(repository.open_disk(point, disk.vdi_uuid)) as chain:
                assert sha256_of(chain) == expected[disk.vdi_uuid].sha256
            count += 1
    return count


def test_what_xen_orchestra_wrote_is_read_and_found_whole():
    world = golden.pristine("encrypted")
    repository = opened(world)
    listing = repository.points(world.vm)
    assert (listing.certain, listing.problems) == (True, ())
    assert assert_every_disk(world, repository) == 8
    report = repository.verify(world.vm)
    assert [(problem.code, problem.severity) for problem in report.problems] == [("xva-header", "warning")]
    assert report.coverage.images_compared == 1 and report.coverage.read == report.coverage.blocks > 0
    assert [f for f in repository.clean_plan(world.vm) if f.action != "none"] == []
    (pool,) = repository.pools().points().points
    told = [problem.message for problem in repository.pools().verify(pool).problems]
    assert told == ["it holds no pool"], "its maker put no database into it; it was read to its end"
    assert not (world.root / ".xobackup").exists()


def test_it_is_merged_and_continued(copy):
    repository = opened(copy)
    assert repository.options.vhd_directory
    before = {disk.live_vdi_uuid: disk.vdi_uuid for disk in repository.points(copy.vm).points[-2].disks}
    buffer = BlockBuffer()
    buffer.data[:] = b"\x42" * BLOCK_BYTES
    with repository.lock(copy.vm) as directory:
        paths = []
        for vdi, snapshot in zip(VDIS, SNAPSHOTS, strict=True):
            base = directory.find_base(copy.job, vdi, [before[vdi]])
            assert isinstance(base, Base) and base.codec == "brotli"
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
        value = dict(draft(LATER_S * 1000, SNAPSHOTS, paths, [8, 8]))
        value.update(jobId=copy.job, scheduleId=copy.schedule)
        value["vm"]["uuid"] = copy.vm
        directory.publish(value)
        for vdi, snapshot in zip(VDIS, SNAPSHOTS, strict=True):
            assert xo_rules.chainable(plain(copy), copy.vm, copy.job, vdi, snapshot)
        points = [point.id for point in directory.points().points]
        directory.delete_points([*points[:2], *points[3:-1]])
        assert directory.merge().refusals == []
    xo_rules.assert_nothing(plain(copy))
    xo_rules.assert_conformant(plain(copy))
    third, ours = repository.points(copy.vm).points
    expected = {disk.snapshot_uuid: disk.sha256 for run in copy.runs for disk in run.disks}
    for disk in third.disks:
        found = xo_rules.disk_sha256(plain(copy), f"xo-vm-backups/{copy.vm}/{third.id}.json", disk.vdi_ref)
        assert found == expected[disk.vdi_uuid]
    for disk in ours.disks:
        found = xo_rules.disk_sha256(plain(copy), f"xo-vm-backups/{copy.vm}/{ours.id}.json", disk.vdi_ref)
        with closing(repository.open_disk(ours, disk.vdi_uuid)) as chain:
            assert sha256_of(chain) == found
    report = repository.verify(copy.vm)
    assert report.problems == [] and report.coverage.compared > 0


@pytest.mark.parametrize(("pattern", "code"), [("blocks/0/1", "block-broken"), ("header", "disk-broken")])
def test_a_flipped_bit_is_damage_and_says_what_it_touches(copy, pattern, code):
    path = min(copy.vm_directory.glob(f"vdis/*/{VDIS[0]}/data/*/{pattern}"))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    report = opened(copy).verify(copy.vm)
    assert report.damaged and report.coverage.unread == 0
    assert any(problem.code == code or code == "disk-broken" for problem in report.problems)
    damage = [problem for problem in report.problems if problem.severity == "damage"]
    assert any(problem.points for problem in damage)
    assert any("authentication tag does not agree" in problem.message for problem in report.problems)


def test_a_restore_point_that_was_exchanged_is_not_believed(copy):
    """Without associated data its bytes still open under another name: what it says gives it away."""
    first, second = sorted(copy.vm_directory.glob("*.json"))[:2]
    second.write_bytes(first.read_bytes())
    codes = {problem.code for problem in opened(copy).verify(copy.vm).problems}
    assert "metadata-name" in codes


def test_a_restore_point_whose_bytes_are_wrong_is_damage(copy):
    path = min(copy.vm_directory.glob("*.json"))
    path.write_bytes(path.read_bytes()[:-1])
    listing = opened(copy).points(copy.vm)
    assert [(p.code, p.severity) for p in listing.problems] == [
        ("metadata-corrupt", "damage")
    ] and not listing.certain


@pytest.mark.parametrize("algorithm", ["chacha20-poly1305", "aes-256-gcm"])
def test_what_we_begin_xen_orchestra_could_read(algorithm):
    clock = FakeClock(START_S)
    inner = memory_remote(clock)
    remote = open_xo_encrypted(inner, KEY, algorithm=algorithm)
    guest = Guest(clock, ("AB-", "-Cd"))
    for letter in "EFG":
        guest.back_up(remote, keep=2)
        guest.write(0, f"-{letter}-")
    there = guest.check(remote)
    assert json.loads(inner.get("encryption.json")) == {"algorithm": algorithm}
    cipher = (ChaCha20Poly1305 if algorithm.startswith("chacha") else AESGCM)(KEY.encode())
    check = inner.get("metadata.json")
    assert list(json.loads(cipher.decrypt(check[:12], check[12:], None))) == ["random"]
    tree = xo_rules.DecryptedTree(inner, KEY, algorithm)
    xo_rules.assert_nothing(tree)
    xo_rules.assert_conformant(tree)
    for point in guest.repository(remote).points(VM).points:
        for disk in point.disks:
            found = xo_rules.disk_sha256(tree, f"xo-vm-backups/{VM}/{point.id}.json", disk.vdi_ref)
            with closing(guest.repository(remote).open_disk(point, disk.vdi_uuid)) as chain:
                assert sha256_of(chain) == found
    assert len(there) == 2
    assert guest.repository(remote).verify(VM).problems == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["xo", "xobackup"])
def test_the_power_may_go_at_any_step_of_a_backup(mode):
    def wrap(remote):
        if mode == "xo":
            return open_xo_encrypted(remote, KEY)
        scheme = ChunkedObjects(KEY.encode(), Algorithm.AES_256_GCM, b"r" * 16, binding=binding_of)
        return EncryptedRemote(remote, scheme)

    clock = FakeClock(START_S)
    inner = memory_remote(clock)
    guest = Guest(clock, ("-Cd",))
    for letter in "EFG":
        guest.back_up(wrap(inner))
        guest.write(0, f"-{letter}-")
    before = list(guest.expected)
    bases, drawn = [list(b) for b in guest.bases], [dict(d) for d in guest.drawn]

    def run(remote):
        guest.bases, guest.drawn = [list(b) for b in bases], [dict(d) for d in drawn]
        guest.back_up(wrap(remote), keep=3)

    def check(remote):
        there = guest.check(wrap(remote))
        assert before[-1] in there
        if mode == "xo":
            xo_rules.assert_nothing(xo_rules.DecryptedTree(remote, KEY), allow_litter=True, allow_merges=True)

    def finished(remote):
        assert guest.repository(wrap(remote)).verify(VM).problems == []

    assert sweep(inner.snapshot, run, check, finished, every=5) > 5
