"""Objects in chunks: what they look like by a decryption of the test's own, and that nothing else opens."""

import itertools
import struct
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from remotes import errors
from remotes.encryption.aead import Algorithm
from remotes.encryption.chunked import ChunkedObjects, content_bytes
from remotes.encryption.remote import EncryptedRemote
from remotes.memory import MemoryRemote

MIB = 1 << 20
KEY, REPOSITORY = bytes(range(32)), bytes(range(100, 116))
ALGORITHMS = pytest.mark.parametrize("algorithm", list(Algorithm))
CONTENT = bytes(range(251)) * (3 * MIB // 251 + 1)


def scheme(algorithm=Algorithm.AES_256_GCM, key=KEY, repository=REPOSITORY):
    return ChunkedObjects(key, algorithm, repository)


def opened_by_hand(stored, name):
    """As docs/encryption.md describes it."""
    head = stored[:32]
    magic, version, cipher, shift, zero = struct.unpack(">4sBBBB", head[:8])
    assert (magic, version, shift, zero) == (b"XBE1", 1, 20, 0)
    info = b"xobackup object\0" + bytes([cipher])
    derived = HKDF(algorithm=SHA256(), length=39, salt=head[8:], info=info).derive(KEY)
    aead = {1: AESGCM, 2: ChaCha20Poly1305}[cipher](derived[:32])
    plain, at, number = b"", 32, 0
    while at < len(stored):
        chunk = stored[at : at + MIB + 16]
        at += len(chunk)
        nonce = derived[32:] + struct.pack(">IB", number, at == len(stored))
        plain += aead.decrypt(nonce, chunk, head + REPOSITORY + name.encode())
        number += 1
    return plain


@ALGORITHMS
@pytest.mark.parametrize("length", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 513])
def test_the_stored_form_is_the_documented_one(algorithm, length):
    sealing = scheme(algorithm)
    stored = sealing.seal("a/b", CONTENT[:length])
    assert opened_by_hand(stored, "a/b") == CONTENT[:length] == sealing.unseal("a/b", stored)
    assert len(stored) == sealing.stored_bytes(length) and sealing.size_bytes(len(stored)) == length


@given(cuts=st.lists(st.integers(0, 2 * MIB + 99), max_size=6))
def test_however_it_is_cut_on_the_way_it_opens(cuts):
    content = CONTENT[: 2 * MIB + 99]
    sealer = scheme().sealer("a")
    ends = [0, *sorted(cuts), len(content)]
    stored = b"".join(sealer.update(content[a:b]) for a, b in itertools.pairwise(ends)) + sealer.finish()
    assert scheme().unseal("a", stored) == content


@given(st.integers(0, 5 * MIB))
def test_lengths_go_there_and_back(length):
    assert content_bytes(scheme().stored_bytes(length)) == length


@pytest.mark.parametrize("stored", [0, 31, 32, 47, 32 + MIB + 16 + 5, 32 + MIB + 32])
def test_lengths_that_no_object_has(stored):
    assert content_bytes(stored) is None and scheme().size_bytes(stored) == 0


class Shelf:
    """An encrypted remote and the stored bytes behind it."""

    def __init__(self, sealing=None):
        self.inner = MemoryRemote()
        self.remote = EncryptedRemote(self.inner, sealing or scheme())

    def read(self, name, offset, length):
        with closing(self.remote.open(name)) as file:
            buffer = bytearray(length)
            return bytes(buffer[: file.read_into(offset, memoryview(buffer))])

    def refuses(self, name):
        with pytest.raises(errors.Corrupt):
            self.remote.get(name)
        with pytest.raises(errors.Corrupt):
            self.read(name, 0, 10)


def test_any_place_is_read():
    shelf = Shelf()
    content = CONTENT[: 2 * MIB + 77]
    shelf.remote.put("a", content)
    for offset, length in ((0, 5), (MIB - 3, 7), (MIB, MIB), (2 * MIB, 500), (17, 2 * MIB), (3 * MIB, 4)):
        assert shelf.read("a", offset, length) == content[offset : offset + length]
    assert shelf.remote.capabilities.range_reads and not shelf.remote.capabilities.random_access


@pytest.mark.parametrize("at", [0, 4, 5, 6, 7, 8, 31, 32, 40, MIB, MIB + 50, -1])
def test_a_flipped_bit_anywhere_is_noticed(at):
    shelf = Shelf()
    shelf.remote.put("a", CONTENT[: MIB + 200])
    stored = bytearray(shelf.inner.get("a"))
    stored[at] ^= 1
    shelf.inner.put("a", bytes(stored))
    with pytest.raises(errors.Corrupt):
        shelf.remote.get("a")


def test_what_does_not_hold_the_damage_can_still_be_read():
    shelf = Shelf()
    shelf.remote.put("a", CONTENT[: 3 * MIB])
    stored = bytearray(shelf.inner.get("a"))
    stored[32 + MIB + 16 + 9] ^= 1
    shelf.inner.put("a", bytes(stored))
    assert shelf.read("a", 0, MIB) == CONTENT[:MIB]
    assert shelf.read("a", 2 * MIB, MIB) == CONTENT[2 * MIB : 3 * MIB]
    with pytest.raises(errors.Corrupt, match="a: chunk 1: the authentication tag does not agree"):
        shelf.read("a", MIB, 1)


def test_chunks_are_where_they_were_put():
    shelf = Shelf()
    shelf.remote.put("a", CONTENT[: 3 * MIB])
    stored = shelf.inner.get("a")
    chunks = [stored[at : at + MIB + 16] for at in range(32, len(stored), MIB + 16)]
    for order in ([1, 0, 2], [0, 1], [0, 2], [0, 1, 1], [0, 1, 2, 2], [2]):
        shelf.inner.put("a", stored[:32] + b"".join(chunks[number] for number in order))
        shelf.refuses("a")


def test_objects_are_bound_to_name_repository_and_key():
    shelf = Shelf()
    shelf.remote.put("a", b"one")
    shelf.remote.put("b", b"two")
    shelf.inner.put("b", shelf.inner.get("a"))
    shelf.refuses("b")
    for other in (scheme(key=bytes(32)), scheme(repository=bytes(16))):
        copy = Shelf(other)
        copy.inner.put("a", shelf.inner.get("a"))
        copy.refuses("a")
    two = Shelf()
    two.remote.put("a", b"one")
    stored, other_stored = shelf.inner.get("a"), two.inner.get("a")
    shelf.inner.put("a", stored[:32] + other_stored[32:])
    shelf.refuses("a")


def test_the_wrapper_keeps_an_object_that_is_renamed_readable():
    shelf = Shelf()
    shelf.remote.put("d/a", CONTENT[:100])
    before = shelf.inner.get("d/a")
    shelf.remote.rename("d", "e")
    assert shelf.remote.get("e/a") == CONTENT[:100] and shelf.inner.get("e/a") != before
    shelf.remote.make_directory("empty.lock")
    shelf.remote.rename("empty.lock", "aside.lock")
    assert shelf.inner.list("aside.lock") == []


@pytest.mark.parametrize(
    "change", [lambda h: b"XBE2" + h[4:], lambda h: h[:4] + b"\x02" + h[5:], lambda h: h[:5] + b"\x09" + h[6:]]
)
def test_another_version_is_named(change):
    stored = scheme().seal("a", b"x")
    with pytest.raises(ValueError, match="expected"):
        scheme().unseal("a", change(stored[:32]) + stored[32:])
