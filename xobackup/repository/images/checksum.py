"""``<ts>.xva.checksum``: ``$<id>$<salt>$<hex>``, no newline. Xen Orchestra writes MD5 (id 1) and never reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass

CHECKSUM_BYTES_MAX = 1024
_TEXT = re.compile(r"\$(1|5|6)\$([^$]{0,64})\$([0-9a-fA-F]{32,128})", re.ASCII)
_ALGORITHMS = {"1": ("md5", 32), "5": ("sha256", 64), "6": ("sha512", 128)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksum:
    """``algorithm`` as :mod:`hashlib` knows it, ``digest`` in hex."""

    algorithm: str
    digest: str


def pack_checksum(md5: str) -> bytes:
    """The file for an image whose MD5 is ``md5``."""
    assert re.fullmatch(r"[0-9a-f]{32}", md5)
    return f"$1$${md5}".encode()


def unpack_checksum(raw: bytes) -> Checksum | None:
    """``None`` when the text is none that is known, or salted."""
    found = _TEXT.fullmatch(raw.decode("ascii", "replace").strip())
    if found is None or found[2]:
        return None
    algorithm, length = _ALGORITHMS[found[1]]
    return Checksum(algorithm=algorithm, digest=found[3].lower()) if len(found[3]) == length else None
