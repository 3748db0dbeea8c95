"""Our own way: an object is cut into chunks, each sealed by itself, bound to its place, its object and its name.

    off  size  field
      0     4  "XBE1"
      4     1  version, 1
      5     1  cipher: 1 aes-256-gcm, 2 chacha20-poly1305
      6     1  20: a chunk holds 2^20 bytes of content
      7     1  zero
      8    24  salt, random, another one for every object written
     32     -  chunks: ciphertext as long as the content, then a tag of 16. All but the last hold 2^20 bytes of
               content; there is always a last one, of 0 to 2^20 bytes

    HKDF-SHA-256(data key, salt, info = "xobackup object" 00 cipher) = key (32) and nonce prefix (7)
    nonce of a chunk   = prefix (7), its number from 0 (4, big-endian), 1 for the last one else 0 (1)      [STREAM]
    associated data    = the 32 bytes above, the repository's uuid (16), the binding of the object's name (UTF-8)

STREAM is the online construction of Hoang, Reyhanitabar, Rogaway and Vizár (CRYPTO 2015). A chunk that was altered,
moved, left out or taken from another object, another repository or another name does not open; neither does an object
that was cut off, because its last chunk says that it is the last. Every object has a key of its own, so that nonces
never meet. Any place can be read by opening the chunks it lies in; before the first one the last chunk is opened too,
so that the length is proven as well.

Not noticed is an *older* object of the same name put back whole: nothing but another record of what should be there
can tell. For blocks of disks their digests are such a record.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from remotes.contract import Buffer, ReadableFile
from remotes.encryption import aead
from remotes.encryption.aead import KEY_BYTES, TAG_BYTES, Algorithm

MAGIC = b"XBE1"
VERSION = 1
CHUNK_SHIFT = 20
CHUNK_BYTES = 1 << CHUNK_SHIFT
SALT_BYTES = 24
PREFIX_BYTES = 7
CHUNKS_MAX = 1 << 32
CIPHERS = {Algorithm.AES_256_GCM: 1, Algorithm.CHACHA20_POLY1305: 2}

_HEAD = struct.Struct(">4sBBBB24s")
_STORED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES


class ChunkedObjects:
    """See the module's head. ``binding`` maps an object's name to what of it is bound; by default all of it."""

    range_reads = True
    binds_names = True

    def __init__(
        self,
        data_key: bytes,
        algorithm: Algorithm,
        repository: bytes,
        *,
        binding: Callable[[str], str] = lambda name: name,
        salts: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        assert len(data_key) == KEY_BYTES and len(repository) == 16
        self.algorithm = algorithm
        self._data_key = data_key
        self._repository = repository
        self._binding = binding
        self._salts = salts

    def binding(self, name: str) -> str:
        return self._binding(name)

    def size_bytes(self, stored_bytes: int) -> int:
        return content_bytes(stored_bytes) or 0

    def stored_bytes(self, size_bytes: int) -> int:
        return _HEAD.size + size_bytes + TAG_BYTES * max(1, -(-size_bytes // CHUNK_BYTES))

    def seal(self, name: str, data: Buffer) -> bytes:
        sealer = self.sealer(name)
        return b"".join((sealer.update(data), sealer.finish()))

    def unseal(self, name: str, stored: bytes) -> bytes:
        view = memoryview(stored)
        chunks = self._chunks(name, bytes(view[: _HEAD.size]), len(stored))
        return b"".join(
            chunks.unseal(number, view[chunks.offset(number) : chunks.offset(number + 1)])
            for number in range(chunks.count)
        )

    def sealer(self, name: str) -> ChunkSealer:
        head = _HEAD.pack(MAGIC, VERSION, CIPHERS[self.algorithm], CHUNK_SHIFT, 0, self._salts(SALT_BYTES))
        return ChunkSealer(self._sealed_by(name, head, self.algorithm), head)

    def open(self, name: str, stored: ReadableFile) -> ReadableFile:
        head = _read(stored, 0, _HEAD.size)
        return _ChunkedFile(stored, self._chunks(name, head, stored.size()))

    def _chunks(self, name: str, head: bytes, stored_bytes: int) -> _Chunks:
        if len(head) < _HEAD.size:
            raise ValueError(f"expected at least {_HEAD.size} bytes, found {len(head)}")
        magic, version, cipher, shift, zero, _salt = _HEAD.unpack(head)
        if magic != MAGIC:
            raise ValueError(f"expected {MAGIC!r} at its beginning, found {magic!r}")
        algorithm = next((one for one, number in CIPHERS.items() if number == cipher), None)
        if version != VERSION or algorithm is None or shift != CHUNK_SHIFT or zero:
            raise ValueError(f"expected version {VERSION} and a cipher it knows, found {head[4:8].hex()}")
        size = content_bytes(stored_bytes)
        if size is None:
            raise ValueError(f"no object has {stored_bytes} bytes")
        return _Chunks(seal=self._sealed_by(name, head, algorithm), size=size)

    def _sealed_by(self, name: str, head: bytes, algorithm: Algorithm) -> _Seal:
        info = b"xobackup object\0" + bytes([CIPHERS[algorithm]])
        derived = HKDF(algorithm=SHA256(), length=KEY_BYTES + PREFIX_BYTES, salt=head[8:], info=info).derive(
            self._data_key
        )
        return _Seal(
            algorithm=algorithm,
            key=derived[:KEY_BYTES],
            prefix=derived[KEY_BYTES:],
            aad=head + self._repository + self._binding(name).encode("utf-8", "surrogateescape"),
        )


def content_bytes(stored_bytes: int) -> int | None:
    """Length of the content of an object of ``stored_bytes``; ``None`` when none has that length."""
    body = stored_bytes - _HEAD.size
    count = -(-body // _STORED_CHUNK_BYTES)
    last = body - (count - 1) * _STORED_CHUNK_BYTES
    if body < TAG_BYTES or count > CHUNKS_MAX or last < TAG_BYTES or (count > 1 and last == TAG_BYTES):
        return None
    return body - count * TAG_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seal:
    """Key, nonces and associated data of one object."""

    algorithm: Algorithm
    key: bytes
    prefix: bytes
    aad: bytes

    def nonce(self, number: int, *, last: bool) -> bytes:
        return self.prefix + number.to_bytes(4, "big") + bytes([last])

    def seal(self, number: int, data: Buffer, *, last: bool) -> bytes:
        return aead.seal(self.algorithm, self.key, self.nonce(number, last=last), data, self.aad)

    def unseal(self, number: int, stored: Buffer, *, last: bool) -> bytes:
        try:
            return aead.unseal(self.algorithm, self.key, self.nonce(number, last=last), stored, self.aad)
        except ValueError as error:
            raise ValueError(f"chunk {number}: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunks:
    """The chunks of a stored object with ``size`` bytes of content."""

    seal: _Seal
    size: int

    @property
    def count(self) -> int:
        return max(1, -(-self.size // CHUNK_BYTES))

    def offset(self, number: int) -> int:
        """Where chunk ``number`` begins in what is stored; that of ``count`` is the end."""
        if number >= self.count:
            return _HEAD.size + self.size + self.count * TAG_BYTES
        return _HEAD.size + number * _STORED_CHUNK_BYTES

    def unseal(self, number: int, stored: Buffer) -> bytes:
        return self.seal.unseal(number, stored, last=number == self.count - 1)


class ChunkSealer:
    """One object on its way. Holds back up to one chunk: whether it is the last is known only at the end."""

    def __init__(self, seal: _Seal, head: bytes) -> None:
        self._seal = seal
        self._before = head
        self._held = bytearray()
        self._number = 0

    def update(self, data: Buffer) -> bytes:
        view = memoryview(data).cast("B")
        sealed = [self._before]
        self._before = b""
        while len(self._held) + len(view) > CHUNK_BYTES:
            taken = CHUNK_BYTES - len(self._held)
            if self._held:
                self._held += view[:taken]
                sealed.append(self._chunk(self._held))
                self._held = bytearray()
            else:
                sealed.append(self._chunk(view[:taken]))
            view = view[taken:]
        self._held += view
        return b"".join(sealed)

    def finish(self) -> bytes:
        before, self._before = self._before, b""
        return before + self._chunk(self._held, last=True)

    def _chunk(self, data: Buffer, *, last: bool = False) -> bytes:
        if self._number >= CHUNKS_MAX:
            raise ValueError(f"an object has at most {CHUNKS_MAX} chunks")
        sealed = self._seal.seal(self._number, data, last=last)
        self._number += 1
        return sealed


class _ChunkedFile:
    """An open object, opened chunk by chunk."""

    def __init__(self, stored: ReadableFile, chunks: _Chunks) -> None:
        self._stored = stored
        self._chunks = chunks
        self._recent: tuple[int, bytes] = (-1, b"")

    @property
    def name(self) -> str:
        return self._stored.name

    def size(self) -> int:
        return self._chunks.size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        if self._recent[0] < 0:
            self._chunk(self._chunks.count - 1)
        end = min(self._chunks.size, offset + len(buffer))
        at = offset
        while at < end:
            number, inside = divmod(at, CHUNK_BYTES)
            found = memoryview(self._chunk(number))[inside : inside + end - at]
            buffer[at - offset : at - offset + len(found)] = found
            at += len(found)
        return max(0, end - offset)

    def close(self) -> None:
        self._recent = (-1, b"")
        self._stored.close()

    def _chunk(self, number: int) -> bytes:
        recent, content = self._recent
        if recent == number:
            return content
        start, end = self._chunks.offset(number), self._chunks.offset(number + 1)
        content = self._chunks.unseal(number, _read(self._stored, start, end - start))
        self._recent = (number, content)
        return content


def _read(file: ReadableFile, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    count = file.read_into(offset, memoryview(buffer))
    return bytes(memoryview(buffer)[:count])
