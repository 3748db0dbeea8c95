"""``<name>.alias.vhd``: a small text that says in which directory a VHD directory's objects are.

A relative path with ``/``, no newline, at most 1024 bytes, ending in ``.vhd``, not another alias, and (our rule)
inside the alias's own directory: an alias never leads out of the directory of its disk.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, NoReturn

from vhd.errors import Malformed
from vhd.findings import Finding

if TYPE_CHECKING:
    from vhd.storage import ObjectStore

ALIAS_SUFFIX = ".alias.vhd"
ALIAS_MAX_BYTES = 1024


def is_alias(name: str) -> bool:
    """Whether a file name announces an alias."""
    return name.endswith(ALIAS_SUFFIX)


def read_alias(store: ObjectStore, alias_path: str) -> str:
    """The directory that ``alias_path`` stands for, as a name of ``store``. Raises :class:`Malformed`."""
    return resolve_alias(alias_path, store.get(alias_path))


def resolve_alias(alias_path: str, raw: bytes) -> str:
    """The directory that an alias at ``alias_path`` with content ``raw`` stands for."""
    if len(raw) > ALIAS_MAX_BYTES:
        _refuse(alias_path, "alias-long", f"expected at most {ALIAS_MAX_BYTES} bytes, found {len(raw)}")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        _refuse(alias_path, "alias-text", f"expected a path, found {raw[:32]!r}")
    if not text.endswith(".vhd") or any(ord(letter) < 32 for letter in text):
        _refuse(alias_path, "alias-target", f"expected a path that ends in .vhd, found {text[:64]!r}")
    if is_alias(text):
        _refuse(alias_path, "alias-of-alias", f"{text!r} is an alias itself")
    directory = posixpath.dirname(alias_path)
    inside = posixpath.normpath(text)
    if text.startswith("/") or "\\" in text or ".." in text.split("/") or inside.startswith((".vhd", "/")):
        _refuse(alias_path, "alias-outside", f"expected a path inside its own directory, found {text!r}")
    return posixpath.join(directory, inside)


def alias_text(alias_path: str, data_path: str) -> bytes:
    """What to put at ``alias_path`` for it to stand for ``data_path`` (both names of one store)."""
    directory = posixpath.dirname(alias_path)
    text = posixpath.relpath(data_path, directory) if directory else data_path
    raw = text.encode()
    resolve_alias(alias_path, raw)
    return raw


def write_alias(store: ObjectStore, alias_path: str, data_path: str) -> None:
    """Publish ``data_path`` under ``alias_path``. Its objects must be durable by now."""
    store.put(alias_path, alias_text(alias_path, data_path))


def _refuse(name: str, code: str, message: str) -> NoReturn:
    raise Malformed(name, [Finding(code=code, message=message)])
