"""A repository knows who it is; the first to say so wins."""

from __future__ import annotations

import pytest

from remotes.memory import MemoryRemote
from xobackup.repository.errors import BadMetadata
from xobackup.repository.identity import NAME, Identity, create_identity, read_identity

ONE = Identity(id="6f1b6d0a-6d0e-4c39-9d4e-5d2a7c0a9b11", since="2026-11-27 06:00 UTC")
TWO = Identity(id="7f1b6d0a-6d0e-4c39-9d4e-5d2a7c0a9b11", since="2026-11-28 06:00 UTC")


def test_it_is_written_once() -> None:
    remote = MemoryRemote()
    assert read_identity(remote) is None
    assert create_identity(remote, ONE) == ONE == read_identity(remote)
    assert create_identity(remote, TWO) == ONE == read_identity(remote)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"id": 5}', b'{"id": "../../etc"}', b"\xff", b"[" * 50_000])
def test_what_is_not_ours_is_an_error_never_an_identity(raw: bytes) -> None:
    remote = MemoryRemote()
    remote.put(NAME, raw)
    with pytest.raises(BadMetadata):
        read_identity(remote)
    with pytest.raises(BadMetadata):
        create_identity(remote, ONE)
