"""The file of "export config": one JSON object of lists, perhaps gzipped; with a passphrase an OpenPGP message.

An XO config backup on a remote (``xo-config-backups/<schedule>/<time>/data.json``) is the same.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, NoReturn

from xobackup.config.from_xo.errors import BadExport
from xobackup.config.from_xo.records import Records, TooDeep, cleaned, records_of

BYTES_MAX = 256 << 20
"""Of a whole export, unpacked."""
_GZIP = b"\x1f\x8b"
_LISTS = {"jobs": "jobs", "schedules": "schedules", "remotes": "remotes", "xenServers": "servers"}
"""Xen Orchestra's name of a list, and ours."""
DECRYPT_HINT = "export it again without a passphrase, or decrypt it: gpg --decrypt FILE | xobackup import-from-xo -"


def read_export(raw: bytes, source: str) -> Records:
    """Understand an export. ``source`` names it in errors. Raises :class:`BadExport`."""
    text = _unpacked(raw, source)
    _refuse_encrypted(text, source)
    value = parse_json(text, source)
    if not isinstance(value, dict):
        raise BadExport(source, f"expected a JSON object, found {_kind(value)}", _hint())
    if not any(name in value for name in _LISTS):
        known = ", ".join(sorted(str(key)[:40] for key in value)[:8]) or "nothing"
        raise BadExport(source, f"it has no jobs, schedules, remotes or xenServers (but {known!a})", _hint())
    lists: dict[str, list[Any]] = {}
    for theirs, ours in _LISTS.items():
        found = value.get(theirs, [])
        if not isinstance(found, list):
            raise BadExport(source, f"{theirs}: expected a list, found {_kind(found)}", _hint())
        lists[ours] = cleaned_list(found, f"{source}: {theirs}")
    return records_of(**lists)


def parse_json(raw: bytes, source: str) -> Any:
    """Strict JSON, whatever is wrong told as :class:`BadExport`."""

    def no_number(text: str) -> NoReturn:
        raise ValueError(f"{text} is no JSON")

    try:
        return json.loads(raw.decode("utf-8-sig"), parse_constant=no_number)
    except UnicodeDecodeError as error:
        raise BadExport(source, f"expected JSON, found something that is not UTF-8 (byte {error.start})") from None
    except (ValueError, RecursionError) as error:
        raise BadExport(source, f"expected JSON: {str(error)[:120]}") from None


def cleaned_list(members: list[Any], source: str) -> list[Any]:
    """See :func:`~.records.cleaned`."""
    try:
        return [cleaned(member) for member in members]
    except (TooDeep, RecursionError):
        raise BadExport(source, "nested deeper than anything Xen Orchestra writes") from None


def _unpacked(raw: bytes, source: str) -> bytes:
    if not raw.startswith(_GZIP):
        return raw
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(raw, BYTES_MAX + 1)
    except zlib.error as error:
        raise BadExport(source, f"its gzip is damaged: {error}", "was it copied completely?") from None
    if len(data) > BYTES_MAX:
        raise BadExport(source, f"more than {BYTES_MAX >> 20} MiB when unpacked, this is no configuration")
    if not unpacker.eof:
        raise BadExport(source, "its gzip ends too early", "was it copied completely?")
    return data


def _refuse_encrypted(text: bytes, source: str) -> None:
    """An OpenPGP message begins with a packet for a passphrase (tag 3), or for a key (tag 1); or in letters."""
    is_packet = bool(text) and text[0] in (0xC3, 0xC1, 0x8C, 0x8D, 0x8E, 0x84, 0x85, 0x86)
    if is_packet or text.lstrip().startswith(b"-----BEGIN PGP MESSAGE"):
        raise BadExport(source, "it is encrypted with a passphrase (OpenPGP)", DECRYPT_HINT)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _hint() -> str:
    return "expected what Xen Orchestra's Settings > Config > Export gives"
