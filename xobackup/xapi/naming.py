"""Names for what a failure calls by a reference: an operator knows VMs and disks, not ``OpaqueRef:``s."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from xobackup.xapi.errors import XapiError, clean_text

if TYPE_CHECKING:
    from xobackup.xapi.session import Session

CLASSES = ("VM", "VDI", "SR", "host", "network", "VBD", "pool")
"""Looked through in this order where a sentence does not say what a reference is."""
NAMES_MAX = 6
"""So many references of one sentence are looked up."""
_REF = re.compile(r"(?:\b(\w+) )?(OpaqueRef:[0-9a-fA-F-]{36})")


def with_names(session: Session, text: str) -> str:
    """``text`` with the name and uuid of every object of the pool it names by reference, as far as they are known."""
    known: dict[str, str] = {}
    for label, ref in _REF.findall(text)[:NAMES_MAX]:
        if ref not in known:
            known[ref] = _name(session, label, ref)
    return _REF.sub(lambda found: found[0].replace(found[2], known.get(found[2], found[2])), text)


def _name(session: Session, label: str, ref: str) -> str:
    for cls in (label,) if label in CLASSES else CLASSES:
        try:
            uuid = str(session.call_once(f"{cls}.get_uuid", ref))
            if cls == "VBD":
                return uuid
            return f"{clean_text(str(session.call_once(f'{cls}.get_name_label', ref)))} ({uuid})"
        except XapiError as error:
            if error.transient:  # the pool cannot be asked now
                return ref
    return ref
