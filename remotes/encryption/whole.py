"""Xen Orchestra's way: an object is one AEAD message, ``nonce(12) + ciphertext + tag(16)``, with no associated data.

The key is used as it is. Nothing binds an object to its name: two of them can be exchanged unnoticed, which is the
format's own limit. The tag comes last and stands for the whole, so that nothing of an object can be given out before
all of it was read: what fits into memory is read once, a larger one is read to be proven and read again to be used.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from remotes.contract import Buffer, ReadableFile
from remotes.encryption import aead
from remotes.encryption.aead import NONCE_BYTES, TAG_BYTES, Algorithm

OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES
IN_MEMORY_BYTES_MAX = 16 << 20
"""An open object up to this size is kept decrypted; a block of a VHD directory is 2 MiB."""
PIECE_BYTES = 1 << 20


class WholeObjects:
    """See the module's head. ``nonces`` gives fresh random bytes of the length asked for."""

    range_reads = False
    binds_names = False

    def __init__(
        self,
        key: bytes,
        algorithm: Algorithm,
        *,
        nonces: Callable[[int], bytes] = secrets.token_bytes,
        in_memory_bytes_max: int = IN_MEMORY_BYTES_MAX,
    ) -> None:
        self.algorithm = algorithm
        self._key = key
        self._nonces = nonces
        self._in_memory_bytes_max = in_memory_bytes_max

    def binding(self, name: str) -> str:
        """Nothing of the name."""
        return ""

    def size_bytes(self, stored_bytes: int) -> int:
        return max(0, stored_bytes - OVERHEAD_BYTES)

    def stored_bytes(self, size_bytes: int) -> int:
        return size_bytes + OVERHEAD_BYTES

    def seal(self, name: str, data: Buffer) -> bytes:
        nonce = self._nonces(NONCE_BYTES)
        return nonce + aead.seal(self.algorithm, self._key, nonce, data)

    def unseal(self, name: str, stored: bytes) -> bytes:
        _refuse_short(len(stored))
        view = memoryview(stored)
        return aead.unseal(self.algorithm, self._key, bytes(view[:NONCE_BYTES]), view[NONCE_BYTES:])

    def sealer(self, name: str) -> WholeSealer:
        return WholeSealer(self.algorithm, self._key, self._nonces(NONCE_BYTES))

    def open(self, name: str, stored: ReadableFile) -> ReadableFile:
        _refuse_short(stored.size())
        if stored.size() <= self._in_memory_bytes_max:
            return _InMemory(stored, lambda raw: self.unseal(name, raw))
        return _ProvenFirst(stored, self.algorithm, self._key)


class WholeSealer:
    """One message on its way."""

    def __init__(self, algorithm: Algorithm, key: bytes, nonce: bytes) -> None:
        self._bytes_max = algorithm.message_bytes_max
        self._algorithm = algorithm
        self._sealer = aead.sealer(algorithm, key, nonce)
        self._before = nonce
        self._length = 0

    def update(self, data: Buffer) -> bytes:
        self._length += len(data)
        if self._length > self._bytes_max:
            raise ValueError(f"{self._algorithm} cannot seal more than {self._bytes_max} bytes in one object")
        before, self._before = self._before, b""
        return before + self._sealer.update(data)

    def finish(self) -> bytes:
        before, self._before = self._before, b""
        return before + self._sealer.finish()


class _InMemory:
    """A small object, read and opened when it is first asked for."""

    def __init__(self, stored: ReadableFile, unseal: Callable[[bytes], bytes]) -> None:
        self._stored = stored
        self._unseal = unseal
        self._content: bytes | None = None

    @property
    def name(self) -> str:
        return self._stored.name

    def size(self) -> int:
        return max(0, self._stored.size() - OVERHEAD_BYTES)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        if self._content is None:
            self._content = self._unseal(_read(self._stored, 0, self._stored.size()))
        found = self._content[offset : offset + len(buffer)]
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        self._content = None
        self._stored.close()


class _ProvenFirst:
    """A large object: read once to be proven, then decrypted wherever it is read."""

    def __init__(self, stored: ReadableFile, algorithm: Algorithm, key: bytes) -> None:
        self._stored = stored
        self._algorithm = algorithm
        self._key = key
        self._nonce = b""

    @property
    def name(self) -> str:
        return self._stored.name

    def size(self) -> int:
        return max(0, self._stored.size() - OVERHEAD_BYTES)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        if not self._nonce:
            self._nonce = self._proven()
        length = max(0, min(len(buffer), self.size() - offset))
        decrypt = aead.decryptor_at(self._algorithm, self._key, self._nonce, offset)
        for at in range(0, length, PIECE_BYTES):
            wanted = min(PIECE_BYTES, length - at)
            found = decrypt(_read(self._stored, NONCE_BYTES + offset + at, wanted))
            buffer[at : at + len(found)] = found
            if len(found) < wanted:
                return at + len(found)
        return length

    def close(self) -> None:
        self._stored.close()

    def _proven(self) -> bytes:
        nonce = _read(self._stored, 0, NONCE_BYTES)
        verifier = aead.verifier(self._algorithm, self._key, nonce)
        end = NONCE_BYTES + self.size()
        for at in range(NONCE_BYTES, end, PIECE_BYTES):
            wanted = min(PIECE_BYTES, end - at)
            piece = _read(self._stored, at, wanted)
            if len(piece) < wanted:
                raise ValueError(f"it ends at {at + len(piece)}, expected {end + TAG_BYTES} bytes")
            verifier.update(piece)
        if not verifier.agrees(_read(self._stored, end, TAG_BYTES)):
            raise ValueError("the authentication tag does not agree")
        return nonce


def _read(file: ReadableFile, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    count = file.read_into(offset, memoryview(buffer))
    return bytes(memoryview(buffer)[:count])


def _refuse_short(stored_bytes: int) -> None:
    if stored_bytes < OVERHEAD_BYTES:
        raise ValueError(f"expected at least {OVERHEAD_BYTES} bytes, found {stored_bytes}")
