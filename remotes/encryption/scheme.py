"""What a way of sealing objects must offer. Everything it raises for bytes that are wrong is ``ValueError``.

A scheme MUST

1. seal the same content differently each time, and open only what it sealed with the same key for the same name
   (what "the same name" is, is the scheme's to say: see ``binding``);
2. never give out a byte that is not proven to be what was sealed;
3. tell the length of the content from the length of what is stored alone, so that listings stay cheap.
"""

from __future__ import annotations

from typing import Protocol

from remotes.contract import Buffer, ReadableFile


class StreamSealer(Protocol):
    """One object on its way, in order."""

    def update(self, data: Buffer) -> bytes:
        """What to store next; may be empty."""
        ...

    def finish(self) -> bytes:
        """The last bytes to store."""
        ...


class Scheme(Protocol):
    """See the module's head."""

    @property
    def range_reads(self) -> bool:
        """Objects can be opened piece by piece."""
        ...

    @property
    def binds_names(self) -> bool:
        """Something of the name is sealed into an object."""
        ...

    def binding(self, name: str) -> str:
        """What of a name is sealed into the object: it can be moved freely between names of equal binding."""
        ...

    def size_bytes(self, stored_bytes: int) -> int:
        """Length of the content of an object stored in that many bytes; 0 when it cannot be one."""
        ...

    def stored_bytes(self, size_bytes: int) -> int:
        """Length of what is stored for a content of that many bytes."""
        ...

    def seal(self, name: str, data: Buffer) -> bytes: ...

    def unseal(self, name: str, stored: bytes) -> bytes: ...

    def sealer(self, name: str) -> StreamSealer: ...

    def open(self, name: str, stored: ReadableFile) -> ReadableFile:
        """The content of an open object. Its ``read_into`` raises ``ValueError`` for what is not proven."""
        ...
