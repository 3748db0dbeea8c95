"""Blocks completed from the backup that a delta continues: only from what is proven, and never silently otherwise."""

import shutil
from pathlib import Path

import pytest

from remotes.local import LocalRemote
from vhd.block import BLOCK_BYTES
from vhd.reader import VhdFile
from xobackup.engine import events
from xobackup.simpool import SimPool
from xotest.lab import MIB, Lab, only, sha256_of

KIB = 1024


def newest_is_right(lab: Lab, remote: str = "nas") -> None:
    """The newest point gives back what the guest had, older ones may be damaged."""
    point = lab.points(remote)[-1]
    for disk in point.disks:
        chain = lab.repository(remote).open_disk(point, disk.vdi_ref)
        try:
            assert sha256_of(chain) == lab.expected[remote, point.id][disk.live_vdi_uuid]
        finally:
            chain.close()


def system_disk(lab: Lab, root: Path) -> str:
    """The newest file of the first disk, relative to the repository."""
    live = lab.pool.model.get("VDI", lab.pool.vdis_of(lab.vm)[0])["uuid"]
    return str(max(root.rglob(f"{live}/2*.vhd")).relative_to(root))


def damage(lab: Lab, root: Path, index: int) -> None:
    """Flip a byte of a block."""
    path = root / system_disk(lab, root)
    disk = VhdFile.open(LocalRemote(root).open(system_disk(lab, root)))
    at = disk.block_span(index)[1] + BLOCK_BYTES // 2
    disk.close()
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


def delta_of_system(lab: Lab) -> events.DiskTransferred:
    return next(one for one in reversed(lab.journal.of(events.DiskTransferred)) if one.disk_name == "system")


def second_remote(lab: Lab, tmp_path: Path) -> Path:
    path = tmp_path / "off-site"
    path.mkdir()
    lab.remotes["off-site"] = LocalRemote(path)
    return path


def test_a_damaged_block_is_read_whole_and_said(lab: Lab) -> None:
    root = lab.on_disk()
    lab.run()
    damage(lab, root, 0)
    lab.write(0, 100 * KIB, b"changed")
    vm = only(lab.run())
    sent = delta_of_system(lab)
    assert sent.via == "cbt-nbd" and sent.read_bytes == 64 * KIB + BLOCK_BYTES and sent.blocks == 1
    assert [one.remote for one in lab.journal.of(events.Warned)] == ["nas"]
    (found,) = lab.journal.of(events.Examined)
    assert (found.remote, found.what, found.whole) == ("nas", "blocks", False) and "block 0" in found.damage
    assert "block 0" in vm.warnings[0] and "is damaged" in vm.warnings[0] and "verify" in vm.warnings[0]
    newest_is_right(lab)


def test_a_block_damaged_on_one_remote_is_completed_from_the_other(lab: Lab, tmp_path: Path) -> None:
    root = lab.on_disk()
    second_remote(lab, tmp_path)
    lab.run()
    damage(lab, root, 0)
    lab.write(0, 100 * KIB, b"changed")
    vm = only(lab.run())
    assert delta_of_system(lab).read_bytes == 64 * KIB
    assert len(vm.warnings) == 1 and vm.warnings[0].startswith("nas: ")
    newest_is_right(lab)
    newest_is_right(lab, "off-site")


@pytest.mark.parametrize("written", [100 * KIB, 7 * MIB])
def test_a_block_whose_object_is_missing_is_read_whole(lab: Lab, written: int) -> None:
    lab.vhd_directory = True
    root = lab.on_disk()
    lab.run()
    index = written // BLOCK_BYTES
    data = max(root.rglob(f"{lab.pool.model.get('VDI', lab.pool.vdis_of(lab.vm)[0])['uuid']}/data/*.vhd"))
    block = data / "blocks" / "0" / str(index)
    there = block.exists()
    if there:
        block.unlink()
    lab.write(0, written, b"changed")
    vm = only(lab.run())
    assert bool(vm.warnings) is there
    newest_is_right(lab)


def test_backups_without_digests_are_continued_with_whole_blocks(lab: Lab) -> None:
    root = lab.on_disk()
    lab.run()
    shutil.rmtree(root / ".xobackup" / "digests")
    lab.write(0, 100 * KIB, b"changed")
    vm = only(lab.run())
    sent = delta_of_system(lab)
    assert sent.read_bytes == BLOCK_BYTES and "no digests" in sent.notes[0] and not vm.warnings
    lab.write(0, 300 * KIB, b"again")
    lab.run()
    assert delta_of_system(lab).read_bytes == 64 * KIB, "the block written since then has its digest"
    lab.check()


def test_a_block_nobody_ever_wrote_is_completed_with_zeros(lab: Lab, pool: SimPool) -> None:
    lab.run()
    lab.write(1, 5 * MIB, b"first bytes there")
    vm = only(lab.run())
    assert vm.read_bytes == 64 * KIB
    lab.check()


def test_a_block_lost_from_the_table_does_not_become_zeros(lab: Lab) -> None:
    """Its digest says that it was written: that it is in no table any more is damage, not zeros."""
    root = lab.on_disk()
    lab.run()
    path = root / system_disk(lab, root)
    raw = bytearray(path.read_bytes())
    raw[2048:2052] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    lab.write(0, 100 * KIB, b"changed")
    lab.run()
    assert delta_of_system(lab).read_bytes == BLOCK_BYTES
    chain = lab.repository().open_disk(lab.points()[-1], lab.points()[-1].disks[0].vdi_ref)
    chain.close()
    newest_is_right(lab)


def test_what_is_written_again_is_stored_where_two_remotes_would_share_the_proof(
    lab: Lab, pool: SimPool, tmp_path: Path
) -> None:
    """What one remote has proven says nothing about the other's copy."""
    second_remote(lab, tmp_path)
    lab.run()
    lab.write(0, 0, pool.disk_bytes(pool.vdis_of(lab.vm)[0], 0, 100))
    lab.run()
    assert delta_of_system(lab).blocks == 1
    lab.check()


def test_many_damaged_blocks_are_counted_not_listed(lab: Lab) -> None:
    root = lab.on_disk()
    lab.write(0, 7 * MIB, b"the fourth block, too")
    lab.run()
    disk = VhdFile.open(LocalRemote(root).open(system_disk(lab, root)))
    indexes = disk.block_indexes()
    disk.close()
    for index in indexes:
        damage(lab, root, index)
        lab.write(0, index * BLOCK_BYTES + 100, b"changed")
    vm = only(lab.run())
    assert len(indexes) == 4 and len(vm.warnings) == 4 and "and 1 blocks more" in vm.warnings[-1]
    newest_is_right(lab)
