"""The keys of a repository encrypted in our own way, as files at its root.

    encryption.json               {"algorithm":"xobackup-1","repository":"<uuid>","cipher":"aes-256-gcm"}
    encryption-keys/<id>.json     a slot (remotes.encryption.slots); any one of them opens the repository
    metadata.json                 sealed: {"random":"<uuid>"}; proves that the data key is this repository's

``encryption.json`` is where Xen Orchestra looks for its own: an algorithm that it does not know keeps it from taking
what it cannot read for broken backups and deleting it. The data key never changes; keys that wrap it come and go.

Invariants: at every instant at least one key opens the repository; a slot is only deleted after another one was read
back from the storage and proven. A repository is begun with ``encryption.json`` and is one from ``metadata.json`` on;
what lies between is finished, or begun again, by the next :func:`initialise`.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from remotes import errors, faces
from remotes.contract import Remote
from remotes.encryption.aead import KEY_BYTES, Algorithm
from remotes.encryption.chunked import ChunkedObjects
from remotes.encryption.markers import CHECK, ENCRYPTION, MARKER_BYTES_MAX, read_markers
from remotes.encryption.remote import EncryptedRemote
from remotes.encryption.slots import Slot, Stretching, unpack_slot, wrap

OWN_ALGORITHM = "xobackup-1"
KEYS = "encryption-keys"
SLOT_BYTES_MAX = 16 * 1024
SLOTS_MAX = 64
"""More are not tried: each passphrase costs half a second."""
DEFAULT_CIPHER = Algorithm.AES_256_GCM
_INIT_HINT = "`xobackup remote encryption init` makes an empty remote encrypted in this mode"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenSlot:
    """A key file that cannot be used."""

    name: str
    problem: str


class Keyring:
    """A repository that was opened by one of its keys."""

    def __init__(
        self, remote: Remote, repository: bytes, cipher: Algorithm, data_key: bytes, opened_by: Slot
    ) -> None:
        self.remote = remote
        self.repository = repository
        self.opened_by = opened_by
        """The slot whose secret was given."""
        self._cipher = cipher
        self._data_key = data_key

    def scheme(self, binding: Callable[[str], str]) -> ChunkedObjects:
        """How objects are sealed; ``binding``: what of their names is bound."""
        return ChunkedObjects(self._data_key, self._cipher, self.repository, binding=binding)

    def add(
        self,
        secret: str,
        *,
        label: str,
        created_s: float,
        recovery: bool = False,
        stretching: Stretching | None = None,
    ) -> Slot:
        """One more key; returns once its slot was read back and proven. A secret that is one already is let be."""
        slots = slots_of(self.remote)[0]
        for known in slots:
            if known.unwrap(secret, self.repository) is not None:
                return known
        if len(slots) >= SLOTS_MAX:
            raise errors.KeyRefused(self.remote.url, f"it has {SLOTS_MAX} keys already", hint="remove one first")
        slot = self._wrapped(secret, label=label, created_s=created_s, recovery=recovery, stretching=stretching)
        self.remote.put(slot_name(slot.id), slot.pack(), replace=False)
        stored = unpack_slot(self.remote.get(slot_name(slot.id), limit_bytes=SLOT_BYTES_MAX))
        if stored.unwrap(secret, self.repository) != self._data_key:
            raise errors.Corrupt(
                self.remote.url, slot_name(slot.id), "the new key, read back, does not open the remote"
            )
        return stored

    def remove(self, slot_id: str) -> None:
        """Take away the key ``slot_id``; never the one that was used to ask for it."""
        if slot_id == self.opened_by.id:
            problem = f"key {slot_id} is the one in use: nothing would be left that is known to open the remote"
            raise errors.KeyRefused(self.remote.url, problem, hint="use another key to remove it, or rotate it")
        if slot_id not in {slot.id for slot in slots_of(self.remote)[0]}:
            known = ", ".join(slot.id for slot in slots_of(self.remote)[0])
            raise errors.KeyRefused(self.remote.url, f"there is no key {slot_id!r} (known: {known})")
        self._prove_own()
        self.remote.delete(slot_name(slot_id), missing_ok=True)

    def rotate(self, secret: str, *, label: str, created_s: float, stretching: Stretching | None = None) -> Slot:
        """Put ``secret`` in the place of the key in use. The old one goes when the new one is proven."""
        old = self.opened_by
        slot = self.add(secret, label=label or old.label, created_s=created_s, stretching=stretching)
        if slot.id != old.id:
            self.remote.delete(slot_name(old.id), missing_ok=True)
            self.opened_by = slot
        return slot

    def _wrapped(
        self, secret: str, *, label: str, created_s: float, recovery: bool, stretching: Stretching | None
    ) -> Slot:
        return _wrap(
            self.remote.url,
            self._data_key,
            secret,
            self.repository,
            label=label,
            created_s=created_s,
            recovery=recovery,
            stretching=stretching,
        )

    def _prove_own(self) -> None:
        """The key in use is still there."""
        name = slot_name(self.opened_by.id)
        try:
            self.remote.stat(name)
        except errors.NotFound:
            problem = f"key {self.opened_by.id}, which is in use, was removed meanwhile"
            raise errors.KeyRefused(self.remote.url, problem) from None


def initialise(
    remote: Remote,
    secret: str,
    *,
    label: str,
    created_s: float,
    cipher: Algorithm = DEFAULT_CIPHER,
    stretching: Stretching | None = None,
) -> Keyring:
    """Make an empty remote one of ours. Refuses any other; what an interrupted one left is begun again."""
    repository = _repository_to_be(remote, cipher)
    data_key = secrets.token_bytes(KEY_BYTES)
    slot = _wrap(remote.url, data_key, secret, repository, label=label, created_s=created_s, stretching=stretching)
    for left in _slot_names(remote):
        remote.delete(f"{KEYS}/{left}", missing_ok=True)
    remote.put(slot_name(slot.id), slot.pack(), replace=False)
    keyring = Keyring(remote, repository, cipher, data_key, slot)
    check = json.dumps({"random": str(uuid.uuid4())}, separators=(",", ":")).encode()
    remote.put(CHECK, keyring.scheme(lambda name: name).seal(CHECK, check), replace=False)
    return open_keyring(remote, secret)


def open_keyring(remote: Remote, secret: str) -> Keyring:
    """Open a repository of ours with one of its keys. Raises :class:`~remotes.errors.KeyRefused`; changes nothing."""
    raw, markers = _own_marker(remote), read_markers(remote, ours=frozenset({KEYS}))
    repository, cipher = _understood(remote.url, raw)
    if markers.check is None:
        problem = f"{CHECK} is missing: the remote was never begun to its end, or that file was lost"
        hint = f"bring {CHECK} back from another copy of this remote" if markers.content else _INIT_HINT
        raise errors.KeyRefused(remote.url, problem, hint=hint)
    slots, broken = slots_of(remote)
    for slot in slots[:SLOTS_MAX]:
        try:
            data_key = slot.unwrap(secret, repository)
        except ValueError as error:
            raise errors.KeyRefused(remote.url, str(error), hint="compare it with what was written down") from None
        if data_key is None:
            continue
        keyring = Keyring(remote, repository, cipher, data_key, slot)
        try:
            keyring.scheme(lambda name: name).unseal(CHECK, markers.check)
        except ValueError as error:
            problem = f"the key is right, but {CHECK} does not open: {error}"
            raise errors.KeyRefused(remote.url, problem, hint=f"bring {CHECK} back from another copy") from None
        return keyring
    told = f"; {len(broken)} key files are damaged: {', '.join(one.name for one in broken)}" if broken else ""
    problem = f"the key is none of the {len(slots)} of this remote{told}"
    raise errors.KeyRefused(remote.url, problem, hint="`xobackup remote key list` shows which there are")


def open_own_encrypted(remote: Remote, secret: str, *, binding: Callable[[str], str]) -> EncryptedRemote:
    """``remote`` seen through its encryption in our own way."""
    keyring = open_keyring(remote, secret)
    hidden = frozenset({ENCRYPTION, CHECK, KEYS})
    return EncryptedRemote(remote, keyring.scheme(binding), hidden=hidden, notes=lambda: remarks_on_keys(remote))


def remarks_on_keys(remote: Remote) -> list[faces.Remark]:
    """What an operator should know of the keys of a repository."""
    slots, broken = slots_of(remote)
    found = [faces.Remark(state="warning", message=f"key file {one.name}: {one.problem}") for one in broken]
    if len(slots) == 1:
        hint = "`xobackup remote key add REMOTE --recovery` makes a second one to write down"
        found.append(
            faces.Remark(state="warning", message="it has one key: without it nothing can be read", hint=hint)
        )
    return found


def slots_of(remote: Remote) -> tuple[list[Slot], list[BrokenSlot]]:
    """The keys of a repository, oldest first, and the files that are none. Needs no key."""
    slots: list[Slot] = []
    broken: list[BrokenSlot] = []
    for name in _slot_names(remote):
        try:
            slot = unpack_slot(remote.get(f"{KEYS}/{name}", limit_bytes=SLOT_BYTES_MAX))
            if slot_name(slot.id) != f"{KEYS}/{name}":
                raise ValueError(f"it says that it is key {slot.id}")
        except ValueError as error:
            broken.append(BrokenSlot(name=name, problem=str(error)))
        except (errors.NotFound, errors.TooLarge) as error:
            broken.append(BrokenSlot(name=name, problem=error.problem))
        else:
            slots.append(slot)
    return sorted(slots, key=lambda slot: (slot.created_s, slot.id)), broken


def slot_name(slot_id: str) -> str:
    return f"{KEYS}/{slot_id}.json"


def _slot_names(remote: Remote) -> list[str]:
    try:
        return [entry.name for entry in remote.list(KEYS) if entry.name.endswith(".json")]
    except errors.NotFound:
        return []


def _repository_to_be(remote: Remote, cipher: Algorithm) -> bytes:
    """The uuid of a repository that may be begun; ``encryption.json`` is written if it is not there."""
    markers = read_markers(remote, ours=frozenset({KEYS}))
    if markers.algorithm == OWN_ALGORITHM and markers.check is None and not markers.content:
        repository, known = _understood(remote.url, _own_marker(remote))
        if known is not cipher:
            raise errors.KeyRefused(remote.url, f"it was begun with {known}", hint="ask for the same cipher again")
        return repository
    if markers.content or markers.algorithm is not None or markers.check is not None:
        what = markers.content or (ENCRYPTION if markers.algorithm is not None else CHECK)
        problem = f"expected an empty remote, found {what}"
        raise errors.KeyRefused(remote.url, problem, hint="encryption is chosen once, for a new and empty remote")
    fresh = uuid.uuid4()
    value = {"algorithm": OWN_ALGORITHM, "repository": str(fresh), "cipher": cipher.value}
    remote.put(ENCRYPTION, json.dumps(value, separators=(",", ":")).encode(), replace=False)
    return fresh.bytes


def _own_marker(remote: Remote) -> bytes:
    try:
        return remote.get(ENCRYPTION, limit_bytes=MARKER_BYTES_MAX)
    except errors.NotFound:
        raise errors.KeyRefused(remote.url, "the remote is not encrypted", hint=_INIT_HINT) from None


def _understood(url: str, raw: bytes) -> tuple[bytes, Algorithm]:
    """Repository and cipher of an ``encryption.json`` of ours."""
    try:
        value = json.loads(raw)
        if not isinstance(value, dict):
            raise TypeError
        algorithm, repository, cipher = value["algorithm"], value["repository"], value["cipher"]
        if algorithm == OWN_ALGORITHM:
            return uuid.UUID(repository).bytes, Algorithm(cipher)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        problem = f"{ENCRYPTION}: expected the algorithm {OWN_ALGORITHM!r} with repository and cipher"
        raise errors.KeyRefused(
            url, problem, hint="is it encrypted as Xen Orchestra does? Then leave out mode"
        ) from None
    problem = f"{ENCRYPTION}: expected the algorithm {OWN_ALGORITHM!r}, found {str(algorithm)[:40]!r}"
    raise errors.KeyRefused(url, problem, hint="is it encrypted as Xen Orchestra does? Then leave out mode")


def _wrap(
    url: str,
    data_key: bytes,
    secret: str,
    repository: bytes,
    *,
    label: str,
    created_s: float,
    recovery: bool = False,
    stretching: Stretching | None,
) -> Slot:
    try:
        return wrap(
            data_key,
            secret,
            repository,
            label=label,
            created_s=created_s,
            recovery=recovery,
            stretching=stretching,
        )
    except ValueError as error:
        raise errors.KeyRefused(url, f"the new key: {error}") from None
