"""The wrapper: what is stored is sealed, what comes back is proven, and the rest of the contract stays as it was."""

from contextlib import closing

import pytest

from remotes import errors
from remotes.contract import Kind
from remotes.encryption import whole
from remotes.encryption.aead import Algorithm
from remotes.encryption.remote import EncryptedRemote
from remotes.encryption.whole import WholeObjects, WholeSealer
from remotes.memory import MemoryRemote

KEY = b"k" * 32
ALGORITHMS = pytest.mark.parametrize("algorithm", list(Algorithm))


def wrapped(algorithm=Algorithm.CHACHA20_POLY1305, **options):
    inner = MemoryRemote()
    return inner, EncryptedRemote(inner, WholeObjects(KEY, algorithm, **options), hidden=frozenset({"keys"}))


def read(remote, name, offset, length):
    with closing(remote.open(name)) as file:
        buffer = bytearray(length)
        return bytes(buffer[: file.read_into(offset, memoryview(buffer))])


@ALGORITHMS
def test_the_storage_sees_neither_content_nor_the_same_bytes_twice(algorithm):
    inner, remote = wrapped(algorithm)
    remote.put("a", b"content")
    first = inner.get("a")
    remote.put("a", b"content")
    assert len(first) == 12 + 7 + 16 and b"content" not in first and inner.get("a") != first
    assert remote.get("a") == b"content" and remote.stat("a").size_bytes == 7
    assert [(entry.name, entry.size_bytes) for entry in remote.list("")] == [("a", 7)]


@ALGORITHMS
@pytest.mark.parametrize("in_memory", [0, 1 << 20])
def test_a_file_is_written_in_order_and_read_anywhere(algorithm, in_memory, monkeypatch):
    monkeypatch.setattr(whole, "PIECE_BYTES", 50_000)
    _, remote = wrapped(algorithm, in_memory_bytes_max=in_memory)
    content = bytes(range(256)) * 1000
    with closing(remote.create("image")) as file:
        for at in range(0, len(content), 60_000):
            file.write_at(at, content[at : at + 60_000])
        assert file.size() == len(content)
        file.sync()
        with pytest.raises(errors.NotSupported, match="sealed"):
            file.write_at(len(content), b"x")
    for offset, length in ((0, 10), (63, 130), (1000, 200_000), (255_990, 100), (300_000, 5)):
        assert read(remote, "image", offset, length) == content[offset : offset + length]
    assert remote.get("image") == content


def test_nothing_else_than_writing_in_order_is_offered():
    _, remote = wrapped()
    assert not remote.capabilities.random_access and not remote.capabilities.range_reads
    assert remote.capabilities.authenticated
    remote.put("b", b"")
    with pytest.raises(errors.NotSupported, match="cannot be changed in place"):
        remote.update("b")
    with closing(remote.create("a")) as file:
        file.write_at(0, b"12345")
        for step in (
            lambda: file.write_at(3, b"x"),
            lambda: file.write_at(9, b"x"),
            lambda: file.truncate(2),
            lambda: file.read_into(0, memoryview(bytearray(1))),
        ):
            with pytest.raises(errors.NotSupported):
                step()
    with pytest.raises(errors.Corrupt):  # it was never synced
        remote.get("a")


@ALGORITHMS
@pytest.mark.parametrize("in_memory", [0, 1 << 20])
@pytest.mark.parametrize("at", [0, 20, -1])
def test_a_flipped_bit_gives_an_error_and_no_byte(algorithm, in_memory, at):
    inner, remote = wrapped(algorithm, in_memory_bytes_max=in_memory)
    remote.put("a", bytes(1000))
    stored = bytearray(inner.get("a"))
    stored[at] ^= 1
    inner.put("a", bytes(stored))
    with pytest.raises(errors.Corrupt, match="a: the authentication tag does not agree"):
        remote.get("a")
    buffer = bytearray(b"untouched")
    with closing(remote.open("a")) as file, pytest.raises(errors.Corrupt):
        file.read_into(0, memoryview(buffer))
    assert buffer == b"untouched"


@pytest.mark.parametrize("in_memory", [0, 1 << 20])
def test_what_is_cut_short_is_corrupt(in_memory):
    inner, remote = wrapped(in_memory_bytes_max=in_memory)
    remote.put("a", bytes(1000))
    inner.put("a", inner.get("a")[:500])
    for step in (lambda: remote.get("a"), lambda: read(remote, "a", 0, 10)):
        with pytest.raises(errors.Corrupt):
            step()
    inner.put("a", b"short")
    with pytest.raises(errors.Corrupt, match="expected at least 28 bytes, found 5"):
        remote.open("a")
    assert remote.stat("a").size_bytes == 0


def test_its_own_files_are_not_there():
    inner, remote = wrapped()
    inner.put("keys/one", b"secret")
    assert remote.list("") == []
    for step in (lambda: remote.get("keys/one"), lambda: remote.open("keys/one"), lambda: remote.stat("keys")):
        with pytest.raises(errors.NotFound):
            step()
    for step in (
        lambda: remote.put("keys/one", b""),
        lambda: remote.delete("keys/one"),
        lambda: remote.delete_tree("keys"),
        lambda: remote.rename("a", "keys/one"),
        lambda: remote.make_directory("keys"),
    ):
        with pytest.raises(errors.RemoteError):
            step()
    assert inner.get("keys/one") == b"secret"


def test_what_others_write_in_clear_is_read_in_clear():
    inner, remote = wrapped()
    inner.put("immutability.json", b'{"immutable":true}')
    assert remote.get("immutability.json") == b'{"immutable":true}'
    assert remote.stat("immutability.json").size_bytes == 18
    assert read(remote, "immutability.json", 2, 9) == b"immutable"


def test_the_beginning_is_announced_once_before_the_first_change():
    inner = MemoryRemote()
    calls = []
    remote = EncryptedRemote(
        inner, WholeObjects(KEY, Algorithm.AES_256_GCM), begin=lambda: calls.append(inner.list(""))
    )
    assert remote.list("") == [] and calls == []
    remote.make_directory("a")
    remote.put("a/b", b"")
    assert calls == [[]]


def test_a_limit_counts_the_content():
    _, remote = wrapped()
    remote.put("a", bytes(100))
    assert remote.get("a", limit_bytes=100) == bytes(100)
    with pytest.raises(errors.TooLarge, match="expected at most 99 bytes, found 100"):
        remote.get("a", limit_bytes=99)


def test_a_cipher_is_not_asked_for_more_than_it_can(monkeypatch):
    monkeypatch.setattr(Algorithm, "message_bytes_max", 10)
    sealer = WholeSealer(Algorithm.AES_256_GCM, KEY, bytes(12))
    sealer.update(bytes(10))
    with pytest.raises(ValueError, match="cannot seal more than 10 bytes"):
        sealer.update(b"x")


class ByName(WholeObjects):
    """As a scheme that seals names would have it moved: by opening and sealing again."""

    binds_names = True

    def binding(self, name: str) -> str:
        return name.removesuffix(".part")


def test_a_rename_that_the_scheme_does_not_allow_copies():
    inner = MemoryRemote()
    remote = EncryptedRemote(inner, ByName(KEY, Algorithm.AES_256_GCM))
    remote.put("a.part", b"one")
    before = inner.get("a.part")
    remote.rename("a.part", "a")
    assert inner.get("a") == before, "moved as it is"
    remote.rename("a", "b")
    assert inner.get("b") != before and remote.get("b") == b"one"
    remote.put("d/e/f", b"two")
    remote.rename("d", "g")
    assert remote.get("g/e/f") == b"two" and [(e.name, e.kind) for e in remote.list("")] == [
        ("b", Kind.FILE),
        ("g", Kind.DIRECTORY),
    ]
    with pytest.raises(errors.AlreadyExists):
        remote.rename("b", "g/e/f")
    assert remote.get("b") == b"one" and remote.get("g/e/f") == b"two"
    with pytest.raises(errors.NotFound):
        remote.rename("absent", "h")


def test_a_large_object_is_sealed_anew_out_of_sight(monkeypatch):
    monkeypatch.setattr("remotes.encryption.remote.IN_MEMORY_BYTES_MAX", 1000)
    inner = MemoryRemote()
    remote = EncryptedRemote(inner, ByName(KEY, Algorithm.AES_256_GCM))
    remote.put("a", bytes(range(250)) * 100)
    remote.put("taken", b"")
    with pytest.raises(errors.AlreadyExists):
        remote.rename("a", "taken")
    remote.rename("a", "b")
    assert remote.get("b") == bytes(range(250)) * 100
    assert [entry.name for entry in inner.list("")] == ["b", "taken"]
