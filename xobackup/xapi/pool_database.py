"""The pool's own database, out and in: ``GET`` and ``PUT /pool/xmldbdump``.

The dump comes without a length and ends with the connection; whether it is whole only its reader (the XML ends where
it should) and the task can tell. It contains secrets.

A dump put back is only tried with ``dry_run``. Without, the master restarts into it: sessions and connections end,
and so may the task before anybody saw its end. Then :class:`~xobackup.xapi.errors.OutcomeUnknown` or a broken
connection says that somebody has to look. No probe goes before a ``PUT``, as it does for disks: an empty body would
be a database too. The master answers before the first byte is sent, so nothing is lost when it redirects or refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.xapi.handler import Handler, StopAsked
from xobackup.xapi.transfer import Export, Import, Throttle, begin_export, begin_import

if TYPE_CHECKING:
    from xobackup.xapi.session import Session

PATH = "/pool/xmldbdump"
DatabaseDump = Export
"""A dump on its way out: read until 0 bytes come, then ``finish``."""
DatabaseRestore = Import
"""A dump on its way in."""


def open_dump(
    session: Session,
    *,
    task_label: str = "",
    throttle: Throttle | None = None,
    should_stop: StopAsked | None = None,
) -> DatabaseDump:
    """Start to fetch the dump; its first bytes are there. ``should_stop`` is asked until then."""
    label = task_label or "dump of the pool's database"
    handler = Handler(session, label, method="GET", path=PATH, query={}, should_stop=should_stop)
    return begin_export(handler, label, throttle)


def open_restore(
    session: Session,
    *,
    length_bytes: int,
    dry_run: bool,
    task_label: str = "",
    throttle: Throttle | None = None,
    should_stop: StopAsked | None = None,
) -> DatabaseRestore:
    """Start to put exactly ``length_bytes`` of a dump back; only tried when ``dry_run``."""
    label = task_label or ("trial of a database" if dry_run else "restore of the pool's database")
    query = {"dry_run": "true"} if dry_run else {}
    handler = Handler(session, label, method="PUT", path=PATH, query=query, should_stop=should_stop)
    return begin_import(handler, label, length_bytes, throttle, probe=False)
