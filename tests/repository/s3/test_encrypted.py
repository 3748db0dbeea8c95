"""Encrypted backups on a store of objects: sealed before they leave, merged inside the store all the same."""

from __future__ import annotations

from contextlib import closing

import pytest

from remotes.conformance import PROMISES, run_promise, scratch_of
from remotes.contract import Remote
from remotes.encryption.aead import Algorithm
from remotes.encryption.chunked import ChunkedObjects
from remotes.encryption.markers import open_xo_encrypted
from remotes.encryption.remote import EncryptedRemote
from xobackup.clock import FakeClock
from xobackup.repository.binding import binding_of
from xotest import xo_rules
from xotest.backups import VM, Guest
from xotest.s3.memory import MemoryS3

NOW_S = 1_800_000_000.0
KEY = "k" * 32


def as_xo(remote: Remote) -> EncryptedRemote:
    return open_xo_encrypted(remote, KEY)


def in_chunks(remote: Remote) -> EncryptedRemote:
    scheme = ChunkedObjects(KEY.encode(), Algorithm.AES_256_GCM, b"r" * 16, binding=binding_of)
    return EncryptedRemote(remote, scheme)


MODES = pytest.mark.parametrize("wrap", [as_xo, in_chunks])


@MODES
def test_restore_points_come_and_go(wrap) -> None:
    clock = FakeClock(NOW_S)
    store = MemoryS3(clock)
    remote = wrap(store.remote())
    guest = Guest(clock)
    for letter in "EFG":
        guest.back_up(remote, keep=2)
        guest.write(0, f"-{letter}--")
    assert len(guest.check(remote, litter=False, merges=False)) == 2
    assert guest.repository(remote).verify(VM).problems == []
    if wrap is as_xo:
        tree = xo_rules.DecryptedTree(store.remote(), KEY)
        xo_rules.assert_nothing(tree)
        xo_rules.assert_conformant(tree)


@MODES
def test_a_merge_moves_no_block_through_this_machine(wrap) -> None:
    clock = FakeClock(NOW_S)
    remote = wrap(MemoryS3(clock).remote())
    guest = Guest(clock, ("A" * 64,), digests=False)
    guest.back_up(remote)
    guest.write(0, "B" * 40)
    guest.back_up(remote)
    with guest.repository(remote).lock(VM) as directory:
        directory.delete_points([directory.points().points[0].id])
        before = remote.traffic()
        assert before is not None
        assert directory.merge().merges == 1
        used = remote.traffic().since(before)  # type: ignore[union-attr]
    assert used.requests["copy_object"] >= 40 and used.received_bytes < 200_000
    guest.check(remote, litter=False, merges=False)


@MODES
def test_an_upload_is_sealed_piece_by_piece(wrap) -> None:
    remote = wrap(MemoryS3(FakeClock(NOW_S)).remote())
    content = bytes(range(256)) * 50_000
    upload = remote.upload("xo-vm-backups/x.xva", bound_bytes=len(content))
    for at in range(0, len(content), 3_000_000):
        upload.write(memoryview(content)[at : at + 3_000_000])
    assert upload.finish() == len(content) == remote.stat("xo-vm-backups/x.xva").size_bytes
    assert remote.get("xo-vm-backups/x.xva") == content
    with closing(remote.open("xo-vm-backups/x.xva")) as file:
        buffer = bytearray(10)
        assert file.read_into(9_999_999, memoryview(buffer)) == 10
        assert bytes(buffer) == content[9_999_999:10_000_009]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.name.replace(" ", "-"))
def test_the_contract_is_kept(promise) -> None:
    clock = FakeClock(NOW_S)
    remote = in_chunks(MemoryS3(clock).remote())
    with scratch_of(remote, clock) as scratch:
        check = run_promise(promise, scratch)
    assert check.ok, check.detail


def test_what_a_store_notes_for_itself_is_no_content() -> None:
    remote = MemoryS3(FakeClock(NOW_S)).remote()
    remote.put(".xobackup/s3.json", b"{}")
    open_xo_encrypted(remote, KEY).put("a", b"x")
    assert open_xo_encrypted(remote, KEY).get("a") == b"x"
