"""Parent locators: up to eight entries of 24 bytes in the header, each naming the parent for one platform.

off  size  field
  0     4  platform code   "W2ru" relative UTF-16LE, "W2ku" absolute UTF-16LE, "MacX" URL bytes ...
  4     4  data space      bytes set aside (ocaml writes sectors: a value below 512 counts sectors)
  8     4  data length     bytes
 12     4  reserved
 16     8  data offset     absolute, of the text
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

LOCATOR_BYTES = 24
LOCATORS_MAX = 8
_ENTRY = struct.Struct(">4sIIIQ")

W2RU, W2KU, MACX = b"W2ru", b"W2ku", b"MacX"
PLATFORM_CODES = frozenset({b"Wi2r", b"Wi2k", W2RU, W2KU, b"Mac ", MACX})
NO_CODE = bytes(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Locator:
    """One entry; the text it points to lies elsewhere in the file."""

    code: bytes = NO_CODE
    data_space: int = 0
    data_length: int = 0
    reserved: int = 0
    data_offset: int = 0

    def pack(self) -> bytes:
        return _ENTRY.pack(self.code, self.data_space, self.data_length, self.reserved, self.data_offset)

    @property
    def used(self) -> bool:
        return self.code != NO_CODE

    @property
    def space_bytes(self) -> int:
        """The room for the text in bytes, whichever unit the writer used (libvhd's rule)."""
        return self.data_space * 512 if self.data_space < 512 else self.data_space


def unpack_locator(raw: bytes) -> Locator:
    code, space, length, reserved, offset = _ENTRY.unpack(raw)
    return Locator(code=code, data_space=space, data_length=length, reserved=reserved, data_offset=offset)


def encode_text(code: bytes, file_name: str) -> bytes:
    """The text that locates ``file_name`` beside the child, as platform ``code`` spells it."""
    if code == MACX:
        return b"file://./" + file_name.encode()
    return f".\\{file_name}".encode("utf-16-le")


def decode_text(code: bytes, raw: bytes) -> str | None:
    """The file path a locator's text gives, with ``/`` separators; ``None`` when it cannot be decoded."""
    try:
        if code == MACX:
            text = raw.decode()
            return text.removeprefix("file://") if text.startswith("file://") else None
        text = raw.decode("utf-16-le") if code in (W2RU, W2KU) else raw.decode("latin-1")
    except UnicodeDecodeError:
        return None
    text = text.rstrip("\0")
    return text.removeprefix("c:").removeprefix("C:").replace("\\", "/")
