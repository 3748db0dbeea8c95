"""The disk that a delta continues, read to complete blocks of which only parts were transferred.

What is copied from it into a new disk is written down as good, so it must be proven first: a block counts only when
it is whole, the digest taken when it was written is at hand, and its data agree with it. A block that no disk of the
chain has is zeros only if every disk of the chain has its digests and none of them knows it: one that has fallen out
of a table must not become zeros. Several threads may read at once. Close it at the end.
"""

from __future__ import annotations

from remotes.errors import RemoteError
from vhd.block import BlockBuffer, blank
from vhd.chain import Chain, Member
from vhd.errors import VhdError
from vhd.lineage import LineageOpener
from xobackup.repository.codecs import CODECS
from xobackup.repository.digest_store import DigestStore
from xobackup.repository.digests import Digests, Entry, entry_of
from xobackup.repository.workspace import RemoteWorkspace

DAMAGED = "is damaged"
"""What a problem says that is proven, and not only that something could not be read."""


class BaseDisk:
    """Only while the VM's lock is held, and with no merge under way in the chain (no base otherwise)."""

    def __init__(self, name: str, chain: Chain, digests: list[Digests | None]) -> None:
        """``digests``: of the chain's members, tip first."""
        self.name = name
        self._chain = chain
        self._digests = digests
        self._layers = {id(member): layer for layer, member in enumerate(reversed(chain.members))}

    @classmethod
    def open(cls, workspace: RemoteWorkspace, name: str, store: DigestStore | None) -> BaseDisk:
        """The chain that ends in ``name``. Raises :class:`VhdError` and :class:`RemoteError`."""
        opener = _NamingOpener(workspace)
        chain = Chain.open(opener, name)
        try:
            digests = [
                None if store is None else store.get(opener.names[id(member)], member.footer.uuid)
                for member in reversed(chain.members)
            ]
        except BaseException:
            chain.close()
            raise
        return cls(name, chain, digests)

    @property
    def virtual_size_bytes(self) -> int:
        return self._chain.virtual_size_bytes

    def knows(self, index: int) -> bool:
        """Whether it can be proven what block ``index`` is."""
        return self._expected(index) is not None or self._never_written(index)

    def read_block(self, index: int, buffer: BlockBuffer) -> str:
        """Fill ``buffer.data`` with block ``index``; returns what is wrong with it, ``""`` when it is proven."""
        expected = self._expected(index)
        what = f"block {index} of {self.name}"
        if expected is None:
            blank(buffer.data)
            return "" if self._never_written(index) else f"{what}: nothing to prove it by"
        try:
            bitmap = self._chain.read_block(index, buffer)
        except (VhdError, RemoteError) as error:
            return f"{what} cannot be read: {error}"
        found = entry_of(None, buffer.data)
        if bitmap is not None or found.digest != expected.digest:
            return f"{what} {DAMAGED}: it is not what was written (its digest differs)"
        return ""

    def close(self) -> None:
        self._chain.close()

    def _expected(self, index: int) -> Entry | None:
        """The digest of a block that comes whole from one disk, which no digest of a disk above claims."""
        member = self._chain.layer_of(index)
        if member is None or member.virtual_size_bytes > self._chain.virtual_size_bytes:
            return None
        layer = self._layers[id(member)]
        if any(above is not None and above.get(index) is not None for above in self._digests[:layer]):
            return None
        known = self._digests[layer]
        entry = known.get(index) if known is not None else None
        return entry if entry is not None and entry.bitmap is None else None

    def _never_written(self, index: int) -> bool:
        if self._chain.layer_of(index) is not None:
            return False
        return all(known is not None and known.get(index) is None for known in self._digests)


class _NamingOpener(LineageOpener):
    """Remembers under which name each disk was opened."""

    def __init__(self, workspace: RemoteWorkspace) -> None:
        super().__init__(workspace, CODECS)
        self.names: dict[int, str] = {}

    def open(self, name: str) -> Member | None:  # type: ignore[override]
        found = super().open(name)
        if found is not None:
            self.names[id(found)] = name
        return found
