"""Is a remote encrypted in Xen Orchestra's way, and is this the key? Two files at the root say so.

    encryption.json   in clear: {"algorithm":"chacha20-poly1305"}, or "aes-256-gcm" (older); "none" is a plain remote
    metadata.json     sealed: {"random":"<uuid>"}; that it opens proves the key

A key is 32 bytes of UTF-8, used as they are. A remote becomes encrypted before anything else is in it, with its first
change; files whose name begins with a dot do not count (ours below ``.xobackup/`` do). Once something is there
a key is refused unless ``metadata.json`` opens with it. Nothing is ever written to find out.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from functools import partial

from remotes import errors
from remotes.contract import Remote
from remotes.encryption.aead import KEY_BYTES, Algorithm
from remotes.encryption.remote import EncryptedRemote
from remotes.encryption.whole import WholeObjects

ENCRYPTION, CHECK = "encryption.json", "metadata.json"
PRIVATE = ".xobackup"
STORAGES_OWN = frozenset({"s3.json"})
"""Files in there that a storage keeps for itself, below any encryption."""
MARKER_BYTES_MAX = 4096
NONE = "none"
DEFAULT = Algorithm.CHACHA20_POLY1305


@dataclass(frozen=True, slots=True, kw_only=True)
class Markers:
    """What the root of a remote says, as found."""

    algorithm: str | None
    """Of ``encryption.json``; ``None`` when there is no such file, ``""`` when it cannot be understood."""
    check: bytes | None
    """What is stored as ``metadata.json``."""
    content: str
    """Something at the root that is not about encryption, ``""`` when there is nothing."""

    @property
    def encrypted(self) -> bool:
        return self.algorithm not in (None, NONE)


def read_markers(remote: Remote, *, ours: frozenset[str] = frozenset()) -> Markers:
    """Look at the root of ``remote``; ``ours`` are more names that are about encryption."""
    entries = {entry.name for entry in remote.list("")} - ours
    content = min(
        (name for name in entries if not name.startswith(".") and name not in (ENCRYPTION, CHECK)), default=""
    )
    if not content and PRIVATE in entries and any(entry.name not in STORAGES_OWN for entry in remote.list(PRIVATE)):
        content = PRIVATE
    raw = remote.get(ENCRYPTION, limit_bytes=MARKER_BYTES_MAX) if ENCRYPTION in entries else None
    check = remote.get(CHECK, limit_bytes=MARKER_BYTES_MAX) if CHECK in entries else None
    return Markers(algorithm=None if raw is None else algorithm_in(raw), check=check, content=content)


def algorithm_in(raw: bytes) -> str:
    """The algorithm that an ``encryption.json`` names; ``""`` when it is not understood."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return ""
    name = value.get("algorithm") if isinstance(value, dict) else None
    return name if isinstance(name, str) else ""


def open_xo_encrypted(remote: Remote, key: str, *, algorithm: str | None = None) -> EncryptedRemote:
    """``remote`` seen through its encryption. Raises :class:`~remotes.errors.KeyRefused` before touching anything.

    ``algorithm`` is for a remote that is still empty; one that says its own keeps it.
    """
    secret = checked_key(remote.url, key)
    markers = read_markers(remote)
    scheme = WholeObjects(secret, _algorithm(remote.url, markers, algorithm))
    if markers.check is not None:
        _check_key(remote.url, scheme, markers.check)
    elif markers.content:
        raise _not_for(remote.url, markers)
    begin = partial(_begin, remote, scheme) if markers.check is None or markers.algorithm is None else lambda: None
    return EncryptedRemote(remote, scheme, hidden=frozenset({ENCRYPTION, CHECK}), begin=begin)


def checked_key(url: str, key: str) -> bytes:
    """The bytes of a key as Xen Orchestra takes it."""
    secret = key.encode("utf-8", "surrogateescape")
    if len(secret) != KEY_BYTES:
        problem = f"the encryption key: expected {KEY_BYTES} characters (bytes of UTF-8), found {len(secret)}"
        raise errors.KeyRefused(url, problem, hint="`xobackup remote encryption generate-key` makes one")
    return secret


def _algorithm(url: str, markers: Markers, wanted: str | None) -> Algorithm:
    name = markers.algorithm
    if name == NONE and markers.content:
        raise errors.KeyRefused(
            url, "a key was given, but the remote says that it is not encrypted", hint=_PLAIN_HINT
        )
    if name is None or name == NONE:
        name = wanted or DEFAULT.value
    try:
        return Algorithm(name)
    except ValueError:
        known = ", ".join(one.value for one in Algorithm)
        problem = f"{ENCRYPTION}: expected one of the algorithms {known}, found {name[:40]!r}"
        raise errors.KeyRefused(
            url, problem, hint="a newer program may have written it; nothing was touched"
        ) from None


_PLAIN_HINT = "leave the key out to use it as it is; encryption needs a new, empty remote"


def _not_for(url: str, markers: Markers) -> errors.KeyRefused:
    if markers.encrypted:
        problem = f"{CHECK} is missing, which proves the key; it is not known whether the key given is right"
        return errors.KeyRefused(url, problem, hint=f"bring {CHECK} back from another copy of this remote")
    problem = f"a key was given, but the remote holds what is not encrypted ({markers.content})"
    return errors.KeyRefused(url, problem, hint=_PLAIN_HINT)


def _check_key(url: str, scheme: WholeObjects, check: bytes) -> None:
    try:
        scheme.unseal(CHECK, check)
    except ValueError:
        problem = f"the key does not open {CHECK} ({scheme.algorithm}): it is another key, or that file is damaged"
        hint = "give the key the remote was made with; nothing was touched"
        raise errors.KeyRefused(url, problem, hint=hint) from None


def _begin(remote: Remote, scheme: WholeObjects) -> None:
    """Say that the remote is encrypted, before anything else is there. Somebody else may do the same just now."""
    text = json.dumps({"algorithm": scheme.algorithm.value}, separators=(",", ":"))
    check = json.dumps({"random": str(uuid.uuid4())}, separators=(",", ":"))
    found = read_markers(remote)
    if found.algorithm in (None, NONE):
        try:
            remote.put(ENCRYPTION, text.encode(), replace=found.algorithm == NONE)
        except errors.AlreadyExists:
            found = read_markers(remote)
    if found.algorithm not in (None, NONE, scheme.algorithm.value):
        problem = f"somebody else made it encrypted with {found.algorithm} just now"
        raise errors.KeyRefused(remote.url, problem, hint="try again")
    try:
        if found.check is None:
            remote.put(CHECK, scheme.seal(CHECK, check.encode()), replace=False)
            return
    except errors.AlreadyExists:
        found = read_markers(remote)
    _check_key(remote.url, scheme, found.check or b"")
