"""The data key of a repository, wrapped by one or several keys of its operators. Pure: bytes in, bytes out.

A slot is a small JSON file: how the operator's secret becomes a wrapping key, and the data key wrapped with it.

    {"version":1, "id":"<8 hex>", "label":"...", "created_s":..., "kind":"key" | "passphrase" | "recovery",
     "kdf":{"name":"hkdf-sha256","salt":"<base64>"}
        or {"name":"scrypt","salt":"<base64>","n":131072,"r":8,"p":1},
     "wrapped":"<base64: nonce(12) + aes-256-gcm of the data key (32) + tag(16)>"}

Associated data of the wrapping: "xobackup slot" 00, the repository's uuid, then the compact JSON of everything but
``wrapped`` with its keys sorted. So no slot can be altered, relabelled, or carried to another repository. A key
(:mod:`remotes.encryption.keytext`) is as random as the data key and only expanded; a passphrase (its
UTF-8 in the composed form, NFC) is stretched by scrypt, which takes 128 * n * r bytes of memory.
"""

from __future__ import annotations

import base64
import json
import math
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from remotes.encryption import aead
from remotes.encryption.aead import KEY_BYTES, NONCE_BYTES, Algorithm
from remotes.encryption.keytext import is_key, unpack_key

VERSION = 1
SALT_BYTES = 16
PASSPHRASE_CHARACTERS_MIN = 12
LABEL_CHARACTERS_MAX = 80
SCRYPT_MEMORY_BYTES_MAX = 1 << 30
"""A slot that asks for more is refused: opening a repository must not take all memory."""


class Kind(StrEnum):
    KEY = "key"
    PASSPHRASE = "passphrase"  # noqa: S105 - the name of a kind, not a secret
    RECOVERY = "recovery"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretching:
    """What scrypt costs: the default is 128 MiB of memory, about half a second."""

    n: int = 1 << 17
    r: int = 8
    p: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One wrapped copy of the data key."""

    id: str
    kind: Kind
    label: str
    created_s: int
    kdf: dict[str, Any]
    wrapped: bytes

    def pack(self) -> bytes:
        value = {**self._described(), "wrapped": base64.b64encode(self.wrapped).decode()}
        return json.dumps(value, indent=2).encode() + b"\n"

    def unwrap(self, secret: str, repository: bytes) -> bytes | None:
        """The data key, or ``None`` when ``secret`` is not this slot's."""
        if is_key(secret) == (self.kind is Kind.PASSPHRASE):
            return None
        key = _wrapping_key(secret, self.kdf)
        try:
            found = aead.unseal(
                Algorithm.AES_256_GCM,
                key,
                self.wrapped[:NONCE_BYTES],
                self.wrapped[NONCE_BYTES:],
                self._bound_to(repository),
            )
        except ValueError:
            return None
        return found if len(found) == KEY_BYTES else None

    def _described(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "id": self.id,
            "label": self.label,
            "created_s": self.created_s,
            "kind": self.kind.value,
            "kdf": self.kdf,
        }

    def _bound_to(self, repository: bytes) -> bytes:
        described = json.dumps(self._described(), sort_keys=True, separators=(",", ":"))
        return b"xobackup slot\0" + repository + described.encode()


def wrap(
    data_key: bytes,
    secret: str,
    repository: bytes,
    *,
    label: str,
    created_s: float,
    recovery: bool = False,
    stretching: Stretching | None = None,
    randomness: Callable[[int], bytes] = secrets.token_bytes,
) -> Slot:
    """A new slot. ``ValueError`` says what is wrong with the secret or the label."""
    if len(label) > LABEL_CHARACTERS_MAX or not label.isprintable():
        raise ValueError(f"a label is at most {LABEL_CHARACTERS_MAX} printable characters")
    salt = base64.b64encode(randomness(SALT_BYTES)).decode()
    kdf: dict[str, Any]
    if is_key(secret):
        unpack_key(secret)
        kind, kdf = Kind.RECOVERY if recovery else Kind.KEY, {"name": "hkdf-sha256", "salt": salt}
    else:
        if len(secret) < PASSPHRASE_CHARACTERS_MIN:
            raise ValueError(f"a passphrase has at least {PASSPHRASE_CHARACTERS_MIN} characters, found {len(secret)}")
        cost = stretching or Stretching()
        kind, kdf = Kind.PASSPHRASE, {"name": "scrypt", "salt": salt, "n": cost.n, "r": cost.r, "p": cost.p}
    slot = Slot(id=randomness(4).hex(), kind=kind, label=label, created_s=int(created_s), kdf=kdf, wrapped=b"")
    nonce = randomness(NONCE_BYTES)
    sealed = aead.seal(Algorithm.AES_256_GCM, _wrapping_key(secret, kdf), nonce, data_key, slot._bound_to(repository))
    return Slot(id=slot.id, kind=kind, label=label, created_s=slot.created_s, kdf=kdf, wrapped=nonce + sealed)


def unpack_slot(raw: bytes) -> Slot:
    """Parse a slot; ``ValueError`` for anything that is none."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(value, dict) or value.get("version") != VERSION:
        raise ValueError(f"expected a key slot of version {VERSION}")
    texts = {key: value.get(key) for key in ("id", "label", "kind", "wrapped")}
    if not all(isinstance(text, str) for text in texts.values()) or type(value.get("created_s")) is not int:
        raise ValueError("a field is missing or of another type")
    if texts["kind"] not in set(Kind):
        raise ValueError(f"expected one of the kinds {', '.join(Kind)}, found {texts['kind']!r}")
    wrapped = _unbase64(texts["wrapped"])
    if len(wrapped) < NONCE_BYTES:
        raise ValueError("the wrapped key is too short")
    return Slot(
        id=str(texts["id"]),
        kind=Kind(str(texts["kind"])),
        label=str(texts["label"]),
        created_s=value["created_s"],
        kdf=_checked_kdf(value.get("kdf")),
        wrapped=wrapped,
    )


def passphrase_bytes(passphrase: str) -> bytes:
    """UTF-8 of the composed form (NFC), so that it does not matter how an accent was typed."""
    return unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogateescape")


def _checked_kdf(kdf: object) -> dict[str, Any]:
    if not isinstance(kdf, dict):
        raise ValueError("kdf is missing")
    _unbase64(kdf.get("salt"))
    if kdf.get("name") == "hkdf-sha256" and set(kdf) == {"name", "salt"}:
        return kdf
    if kdf.get("name") != "scrypt" or set(kdf) != {"name", "salt", "n", "r", "p"}:
        raise ValueError("expected hkdf-sha256 or scrypt with its parameters")
    n, r, p = (kdf[key] for key in "nrp")
    if not all(type(number) is int and number > 0 for number in (n, r, p)) or n < 2 or not math.log2(n).is_integer():
        raise ValueError("scrypt: n is a power of two, r and p are positive")
    if 128 * n * r > SCRYPT_MEMORY_BYTES_MAX or p > 16:
        raise ValueError(f"scrypt: more than {SCRYPT_MEMORY_BYTES_MAX} bytes of memory are asked for")
    return kdf


def _unbase64(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("expected base64")
    return base64.b64decode(text, validate=True)


def _wrapping_key(secret: str, kdf: dict[str, Any]) -> bytes:
    salt = _unbase64(kdf["salt"])
    if kdf["name"] == "hkdf-sha256":
        derive = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=b"xobackup slot")
        try:
            return derive.derive(unpack_key(secret))
        except ValueError as error:
            raise ValueError(f"the key cannot be read: {error}") from None
    return Scrypt(salt=salt, length=KEY_BYTES, n=kdf["n"], r=kdf["r"], p=kdf["p"]).derive(passphrase_bytes(secret))
