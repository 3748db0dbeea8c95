"""Keys that come and go: any one of them opens the remote, at every instant at least one does."""

import json
import unicodedata

import pytest

from remotes import errors
from remotes.encryption import keyring as rings
from remotes.encryption.keyring import initialise, open_keyring, open_own_encrypted, slots_of
from remotes.encryption.keytext import pack_key
from remotes.encryption.markers import open_xo_encrypted
from remotes.encryption.slots import Kind, Stretching, unpack_slot
from remotes.memory import MemoryRemote
from xotest.sweep import sweep, sweep_errors

ONE, TWO, THREE = (pack_key(bytes([number]) * 32) for number in (1, 2, 3))
PASSPHRASE = "correct horse battery staple"
QUICK = Stretching(n=1 << 4)


def same(name):
    return name


def opened(remote, secret=ONE):
    return open_own_encrypted(remote, secret, binding=same)


@pytest.fixture
def remote():
    made = MemoryRemote()
    initialise(made, ONE, label="first", created_s=1.0)
    opened(made).put("xo-vm-backups/x", b"content")
    return made


def test_each_key_opens_it_and_no_other(remote):
    ring = open_keyring(remote, ONE)
    ring.add(PASSPHRASE, label="in the safe", created_s=2.0, stretching=QUICK)
    ring.add(TWO, label="", created_s=3.0, recovery=True)
    for secret in (ONE, PASSPHRASE, TWO):
        assert opened(remote, secret).get("xo-vm-backups/x") == b"content"
    slots, broken = slots_of(remote)
    assert [slot.kind for slot in slots] == [Kind.KEY, Kind.PASSPHRASE, Kind.RECOVERY] and broken == []
    for wrong in (THREE, "another passphrase", TWO[:-1] + ("0" if TWO[-1] != "0" else "1")):
        with pytest.raises(errors.KeyRefused) as caught:
            opened(remote, wrong)
        assert wrong not in str(caught.value) and caught.value.hint
    assert [entry.name for entry in opened(remote).list("")] == ["xo-vm-backups"]


def test_the_data_key_is_in_no_file(remote):
    secret = open_keyring(remote, ONE)._data_key
    for name in (
        "encryption.json",
        "metadata.json",
        *(f"encryption-keys/{slot.id}.json" for slot in slots_of(remote)[0]),
    ):
        assert secret not in remote.get(name)


def test_a_key_that_is_there_already_is_not_added_twice(remote):
    ring = open_keyring(remote, ONE)
    assert ring.add(ONE, label="again", created_s=9.0).label == "first"
    assert len(slots_of(remote)[0]) == 1


def test_there_are_never_more_keys_than_are_tried(remote, monkeypatch):
    monkeypatch.setattr(rings, "SLOTS_MAX", 2)
    ring = open_keyring(remote, ONE)
    ring.add(TWO, label="", created_s=2.0)
    with pytest.raises(errors.KeyRefused, match="it has 2 keys already"):
        ring.add(THREE, label="", created_s=3.0)
    assert opened(remote, TWO).get("xo-vm-backups/x") == b"content"


def test_the_key_in_use_is_not_removed_and_neither_is_one_that_is_not_there(remote):
    ring = open_keyring(remote, ONE)
    other = ring.add(TWO, label="", created_s=2.0)
    with pytest.raises(errors.KeyRefused, match="is the one in use"):
        ring.remove(ring.opened_by.id)
    with pytest.raises(errors.KeyRefused, match="there is no key 'abc'"):
        ring.remove("abc")
    open_keyring(remote, TWO).remove(ring.opened_by.id)
    with pytest.raises(errors.KeyRefused, match="which is in use, was removed meanwhile"):
        ring.remove(other.id)
    assert opened(remote, TWO).get("xo-vm-backups/x") == b"content"
    with pytest.raises(errors.KeyRefused, match="none of the 1 of this remote"):
        opened(remote, ONE)


def test_a_slot_cannot_be_altered_or_carried_elsewhere(remote):
    (slot,) = slots_of(remote)[0]
    name = f"encryption-keys/{slot.id}.json"
    value = json.loads(remote.get(name))
    for change in ({"label": "other"}, {"created_s": 7}, {"kind": "recovery"}):
        remote.put(name, json.dumps({**value, **change}).encode())
        with pytest.raises(errors.KeyRefused):
            opened(remote)
    other = MemoryRemote()
    initialise(other, TWO, label="", created_s=1.0)
    other.put(name, slot.pack())
    with pytest.raises(errors.KeyRefused, match="none of the 2"):
        opened(other, ONE)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{" * 100_000,
        b'{"version":2}',
        b'{"version":1,"id":"x","label":"","created_s":1,"kind":"key","wrapped":"!","kdf":{}}',
        b'{"version":1,"id":"x","label":"","created_s":1,"kind":"key","wrapped":"","kdf":{}}',
        b'{"version":1,"id":"x","label":"","created_s":1,"kind":"rune","wrapped":"AAAAAAAAAAAAAAAAAAAA","kdf":{}}',
        b'{"version":1,"id":"x","label":"","created_s":1,"kind":"passphrase","wrapped":"AAAAAAAAAAAAAAAAAAAA",'
        b'"kdf":{"name":"scrypt","salt":"","n":1073741824,"r":8,"p":1}}',
        b'{"version":1,"id":"x","label":"","created_s":1,"kind":"passphrase","wrapped":"AAAAAAAAAAAAAAAAAAAA",'
        b'"kdf":{"name":"scrypt","salt":"","n":1000,"r":8,"p":1}}',
        b'{"version":1,"id":"x","label":"","created_s":1,"kind":"key","wrapped":"AAAAAAAAAAAAAAAAAAAA",'
        b'"kdf":{"name":"md5","salt":""}}',
    ],
)
def test_a_key_file_that_is_none_is_told_and_the_others_still_open(remote, raw):
    with pytest.raises(ValueError, match=r"."):
        unpack_slot(raw)
    remote.put("encryption-keys/x.json", raw)
    assert opened(remote).get("xo-vm-backups/x") == b"content"
    (broken,) = slots_of(remote)[1]
    assert broken.name == "x.json" and broken.problem
    with pytest.raises(errors.KeyRefused, match=r"1 key files are damaged: x.json"):
        opened(remote, TWO)


@pytest.mark.parametrize("name", ["xo-vm-backups/a", "notes.txt", "metadata.json", ".xobackup/digests/a"])
def test_only_an_empty_remote_is_begun(name):
    made = MemoryRemote()
    made.put(name, b"x")
    with pytest.raises(errors.KeyRefused, match="expected an empty remote"):
        initialise(made, ONE, label="", created_s=1.0)
    assert [entry.name for entry in made.list("")] == [name.split("/")[0]]


def test_a_remote_of_the_other_mode_is_refused_both_ways(remote):
    with pytest.raises(errors.KeyRefused, match="found 'xobackup-1'"):
        open_xo_encrypted(remote, "k" * 32)
    with pytest.raises(errors.KeyRefused, match="expected an empty remote"):
        initialise(remote, TWO, label="", created_s=1.0)
    theirs = MemoryRemote()
    open_xo_encrypted(theirs, "k" * 32).put("a", b"x")
    with pytest.raises(errors.KeyRefused, match="expected the algorithm 'xobackup-1'"):
        opened(theirs)
    with pytest.raises(errors.KeyRefused, match="the remote is not encrypted"):
        opened(MemoryRemote())


def test_without_metadata_json_it_does_not_open(remote):
    check = remote.get("metadata.json")
    remote.delete("metadata.json")
    with pytest.raises(errors.KeyRefused, match=r"metadata.json is missing"):
        opened(remote)
    remote.put("metadata.json", check[:-1])
    with pytest.raises(errors.KeyRefused, match=r"metadata.json does not open"):
        opened(remote)


@pytest.mark.parametrize("secret", ["short", "XBK1-nonsense", ""])
def test_bad_secrets_are_refused_before_anything_is_written(secret):
    made = MemoryRemote()
    with pytest.raises(errors.KeyRefused):
        initialise(made, secret, label="", created_s=1.0)
    assert slots_of(made) == ([], [])
    initialise(made, ONE, label="", created_s=1.0)
    with pytest.raises(errors.KeyRefused, match="the new key: a label is at most"):
        open_keyring(made, ONE).add(TWO, label="x" * 81, created_s=1.0)


def secrets_that_open(remote):
    found = []
    for secret in (ONE, TWO):
        try:
            assert opened(remote, secret).get("xo-vm-backups/x") == b"content"
        except errors.KeyRefused:
            continue
        found.append(secret)
    return found


def test_the_power_may_go_at_any_step_of_a_rotation(remote):
    def run(remote):
        secret = ONE if ONE in secrets_that_open(remote) else TWO
        open_keyring(remote, secret).rotate(TWO, label="second", created_s=5.0)

    def check(remote):
        assert secrets_that_open(remote)

    def finished(remote):
        assert secrets_that_open(remote) == [TWO] and [slot.label for slot in slots_of(remote)[0]] == ["second"]

    assert sweep(remote.snapshot, run, check, finished, survivors=2) == 3
    assert sweep_errors(remote.snapshot, run, check, finished, error=errors.NoSpace) == 2


def test_the_power_may_go_at_any_step_of_the_beginning():
    def run(remote):
        try:
            opened(remote)
        except errors.KeyRefused:
            initialise(remote, ONE, label="", created_s=1.0)

    def check(remote):
        names = {entry.name for entry in remote.list("")}
        assert not names or "encryption.json" in names, "Xen Orchestra would take it for its own"

    def finished(remote):
        opened(remote).put("xo-vm-backups/x", b"content")
        assert len(slots_of(remote)[0]) == 1

    assert sweep(MemoryRemote, run, check, finished) == 6


def test_a_new_key_that_the_storage_did_not_keep_is_noticed(remote, monkeypatch):
    class Forgetful(MemoryRemote):
        pass

    ring = open_keyring(remote, ONE)
    monkeypatch.setattr(rings, "unpack_slot", lambda raw: slots_of_first)
    slots_of_first = ring.opened_by
    with pytest.raises(errors.Corrupt, match="read back, does not open"):
        ring.rotate(TWO, label="", created_s=2.0)
    monkeypatch.undo()
    assert ONE in secrets_that_open(remote)


def test_a_passphrase_opens_however_its_accents_were_typed():
    remote = MemoryRemote()
    initialise(remote, "un mot d'été très sûr", label="", created_s=1.0, stretching=QUICK)
    decomposed = unicodedata.normalize("NFD", "un mot d'été très sûr")
    assert open_keyring(remote, decomposed).opened_by.kind is Kind.PASSPHRASE
    ring = open_keyring(remote, decomposed)
    ring.add("not utf-8 at all: \udcff", label="", created_s=2.0, stretching=QUICK)
    assert open_keyring(remote, "not utf-8 at all: \udcff").opened_by.created_s == 2
