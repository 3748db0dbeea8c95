"""What moves keeps its binding; what could be exchanged for something else does not share one."""

import pytest

from remotes.encryption.aead import Algorithm
from remotes.encryption.chunked import ChunkedObjects
from remotes.encryption.remote import EncryptedRemote
from xobackup.clock import FakeClock
from xobackup.repository.binding import binding_of
from xotest.backups import START_S, VM, Guest, memory_remote

L = f"xo-vm-backups/{VM}/vdis/job/vdi"
Q = f".xobackup/quarantine/{VM}/20260101T000000Z"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"{L}/.1.alias.vhd.part/blocks/0/7", f"{L}/data/1.vhd/blocks/0/7"),
        (f"{L}/.1.alias.vhd.part/bat", f"{L}/data/1.vhd/bat"),
        (f"{L}/data/1.vhd/blocks/0/7", f"{L}/data/2.vhd/blocks/0/7"),
        (f"{L}/1.alias.vhd", f"{L}/2.alias.vhd"),
        (f"{L}/1.alias.vhd", f"{Q}/vdis/job/vdi/1.alias.vhd"),
        (f"{L}/data/1.vhd/header", f"{Q}/vdis/job/vdi/data/1.vhd/header"),
        (f"xo-vm-backups/{VM}/.1.xva.part", f"xo-vm-backups/{VM}/1.xva"),
        (f"xo-vm-backups/{VM}/1.json", f"{Q}/1.json"),
        (".xobackup/digests/v/j/d/1.xxh3.after.0", ".xobackup/digests/v/j/d/1.xxh3"),
        (".xobackup/pool-metadata/s/p/1.run.part/data", "xo-pool-metadata-backups/s/p/1/data"),
    ],
)
def test_what_moves_keeps_its_binding(one: str, other: str) -> None:
    assert binding_of(one) == binding_of(other)


def test_what_does_not_move_is_bound_to_all_of_its_name() -> None:
    names = [
        f"{L}/data/1.vhd/blocks/0/7",
        f"{L}/data/1.vhd/blocks/0/8",
        f"{L}/data/1.vhd/blocks/1/7",
        f"{L}2/data/1.vhd/blocks/0/7",
        f"{L}/data/1.vhd/header",
        f"{L}/data/1.vhd/footer",
        f"{L}/data/1.vhd/bat",
        f"{L}/data/2.vhd/footer",
        f"{L}/1.alias.vhd",
        f"{L}/.1.alias.vhd.merge.json",
        f"xo-vm-backups/{VM}/1.json",
        f"xo-vm-backups/{VM}/2.json",
        f"xo-vm-backups/{VM}/1.xva",
        f"xo-vm-backups/{VM}/cache.json.gz",
        "xo-vm-backups/other/1.json",
        ".xobackup/digests/v/j/d/1.xxh3",
        ".xobackup/digests/v/j/d/2.xxh3",
        "xo-pool-metadata-backups/s/p/1/data",
        "xo-pool-metadata-backups/s/p/1/metadata.json",
        "metadata.json",
    ]
    assert len({binding_of(name) for name in names}) == len(names)


class Watched(EncryptedRemote):
    """Notes what had to be sealed again."""

    resealed: list[tuple[str, str]]

    def _reseal(self, old: str, new: str, *, replace: bool) -> None:
        self.resealed.append((old, new))
        super()._reseal(old, new, replace=replace)


def test_a_life_of_backups_merges_and_cleaning_seals_nothing_twice() -> None:
    clock = FakeClock(START_S)
    inner = memory_remote(clock)
    scheme = ChunkedObjects(b"k" * 32, Algorithm.AES_256_GCM, b"r" * 16, binding=binding_of)
    remote = Watched(inner, scheme)
    remote.resealed = []
    guest = Guest(clock, ("AB-", "-Cd"))
    for letter in "EFGH":
        guest.back_up(remote, keep=2)
        guest.write(0, f"-{letter}-")
        guest.write(1, f"{letter.lower()}--")
    assert len(guest.check(remote)) == 2
    assert guest.repository(remote).verify(VM).problems == []
    point = guest.repository(remote).points(VM).points[-1]
    remote.delete(f"xo-vm-backups/{VM}/{point.id}.json")
    remote.put(f"xo-vm-backups/{VM}/20200101T000000Z.xva", b"whose?")
    with guest.repository(remote).lock(VM) as directory:
        quarantine = directory.clean_apply().quarantine
    assert remote.get(f"{quarantine}/20200101T000000Z.xva") == b"whose?"
    assert remote.resealed == []
