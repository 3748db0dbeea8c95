"""Is it encrypted, and is this the key? Every answer before anything is touched."""

import json

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from remotes import errors
from remotes.encryption.markers import CHECK, ENCRYPTION, open_xo_encrypted, read_markers
from remotes.memory import MemoryRemote
from xotest.golden import ENCRYPTION_KEY as KEY
from xotest.sweep import sweep

OTHER = "x" * 32
CIPHERS = {"chacha20-poly1305": ChaCha20Poly1305, "aes-256-gcm": AESGCM}


def made(algorithm="chacha20-poly1305", *, content=True):
    """As Xen Orchestra would leave it, written without the code under test."""
    remote = MemoryRemote()
    cipher = CIPHERS[algorithm](KEY.encode())
    remote.put(ENCRYPTION, json.dumps({"algorithm": algorithm}).encode())
    remote.put(CHECK, bytes(12) + cipher.encrypt(bytes(12), b'{"random":"x"}', None))
    if content:
        remote.put("xo-vm-backups/x", bytes(12) + cipher.encrypt(bytes(12), b"content", None))
    return remote


def content_of(remote):
    return {entry.name: entry.modified_s for entry in remote.list("")}


@pytest.mark.parametrize("algorithm", CIPHERS)
def test_the_right_key_opens_it(algorithm):
    remote = open_xo_encrypted(made(algorithm), KEY)
    assert remote.get("xo-vm-backups/x") == b"content"
    assert [entry.name for entry in remote.list("")] == ["xo-vm-backups"]


def test_without_encryption_json_the_default_counts():
    remote = made()
    remote.delete(ENCRYPTION)
    assert open_xo_encrypted(remote, KEY).get("xo-vm-backups/x") == b"content"


@pytest.mark.parametrize(
    ("change", "key", "told"),
    [
        (lambda remote: None, OTHER, "the key does not open metadata.json"),
        (lambda remote: None, "short", "expected 32 characters .*, found 5"),
        (lambda remote: None, "é" * 32, "expected 32 characters .*, found 64"),
        (lambda remote: remote.delete(CHECK), KEY, "metadata.json is missing"),
        (lambda remote: remote.put(CHECK, b"rubbish"), KEY, "does not open metadata.json"),
        (lambda remote: remote.put(ENCRYPTION, b'{"algorithm":"rot13"}'), KEY, "expected one of .*, found 'rot13'"),
        (lambda remote: remote.put(ENCRYPTION, b"["), KEY, "expected one of .*, found ''"),
        (lambda remote: remote.put(ENCRYPTION, b'{"algorithm":"aes-256-gcm"}'), KEY, "does not open metadata.json"),
        (lambda remote: remote.put(ENCRYPTION, b'{"algorithm":"none"}'), KEY, "says that it is not encrypted"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_touched(change, key, told):
    remote = made()
    change(remote)
    before = content_of(remote)
    with pytest.raises(errors.KeyRefused, match=told) as caught:
        open_xo_encrypted(remote, key)
    assert caught.value.hint and key not in str(caught.value)
    assert content_of(remote) == before


@pytest.mark.parametrize("name", ["xo-vm-backups/a/b", "notes.txt", ".xobackup/digests/x"])
def test_a_plain_remote_with_content_takes_no_key(name):
    remote = MemoryRemote()
    remote.put(name, b"plain")
    with pytest.raises(errors.KeyRefused, match=rf"holds what is not encrypted \({name.split('/')[0]}\)"):
        open_xo_encrypted(remote, KEY)
    assert [entry.name for entry in remote.list("")] == [name.split("/")[0]]


@pytest.mark.parametrize("algorithm", [None, *CIPHERS])
def test_an_empty_remote_becomes_encrypted_with_its_first_change(algorithm):
    inner = MemoryRemote()
    inner.put(".snapshot", b"a file system's own")
    remote = open_xo_encrypted(inner, KEY, algorithm=algorithm)
    assert [entry.name for entry in remote.list("")] == [".snapshot"]
    assert not read_markers(inner).encrypted
    remote.put("xo-vm-backups/x", b"content")
    name = algorithm or "chacha20-poly1305"
    assert inner.get(ENCRYPTION) == f'{{"algorithm":"{name}"}}'.encode()
    check = inner.get(CHECK)
    assert list(json.loads(CIPHERS[name](KEY.encode()).decrypt(check[:12], check[12:], None))) == ["random"]
    stored = inner.get("xo-vm-backups/x")
    assert CIPHERS[name](KEY.encode()).decrypt(stored[:12], stored[12:], None) == b"content"
    assert open_xo_encrypted(inner, KEY).get("xo-vm-backups/x") == b"content"


def test_an_algorithm_that_was_asked_for_does_not_change_one_that_is_there():
    assert open_xo_encrypted(made("aes-256-gcm"), KEY, algorithm="chacha20-poly1305").get("xo-vm-backups/x")


def test_two_who_begin_at_once_agree_or_are_told():
    inner = MemoryRemote()
    one, other = open_xo_encrypted(inner, KEY), open_xo_encrypted(inner, KEY)
    third = open_xo_encrypted(inner, OTHER)
    fourth = open_xo_encrypted(inner, KEY, algorithm="aes-256-gcm")
    one.put("a", b"1")
    other.put("b", b"2")
    assert one.get("b") == b"2"
    with pytest.raises(errors.KeyRefused, match="does not open"):
        third.put("c", b"3")
    with pytest.raises(errors.KeyRefused, match="somebody else made it encrypted"):
        fourth.put("c", b"3")
    assert [entry.name for entry in one.list("")] == ["a", "b"]


def test_the_power_may_go_at_any_step_of_the_beginning():
    def run(remote):
        open_xo_encrypted(remote, KEY).put("xo-vm-backups/x", b"content")

    def check(remote):
        if any(entry.name == "xo-vm-backups" for entry in remote.list("")):
            assert read_markers(remote).encrypted and read_markers(remote).check

    def finished(remote):
        assert open_xo_encrypted(remote, KEY).get("xo-vm-backups/x") == b"content"

    assert sweep(MemoryRemote, run, check, finished) >= 5
