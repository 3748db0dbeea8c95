"""Xen Orchestra's REST API, as far as it tells what an export does. ``get`` does the requests.

Secrets do not come this way: passwords of servers are left out, those in URLs are obfuscated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from xobackup.config.from_xo.errors import BadExport
from xobackup.config.from_xo.export import cleaned_list, parse_json
from xobackup.config.from_xo.records import Records, XoServer, records_of
from xobackup.config.from_xo.remarks import Level, Remark

BASE = "/rest/v0"
OLD_JOBS = ("backup/jobs/vm", "backup/jobs/metadata", "backup/jobs/mirror")
"""Where jobs were before ``backup-jobs``; to be removed from Xen Orchestra at the end of 2026."""

Get = Callable[[str], bytes | None]
"""The body of an answer to GET of a path; ``None``: there is no such thing (404)."""


def read_rest(get: Get, source: str) -> Records:
    """Everything from the API. Raises :class:`BadExport`, and what ``get`` raises."""
    jobs = _collection(get, "backup-jobs", "*", source)
    if jobs is None:
        old = [_collection(get, path, "*", source) for path in OLD_JOBS]
        if all(one is None for one in old):
            problem = "it has neither backup-jobs nor backup/jobs"
            raise BadExport(source, problem, "this Xen Orchestra is too old for its API; export its configuration")
        jobs = [job for one in old if one is not None for job in one]
    parts = {
        "schedules": _collection(get, "schedules", "*", source),
        "remotes": _collection(get, "backup-repositories", "*", source),
        "servers": _collection(get, "servers", "*", source),
    }
    records = records_of(jobs=jobs, vms=_vms(get, source), **{key: value or [] for key, value in parts.items()})
    about = "REST API"
    missing = [
        Remark(level=Level.REFUSED, about=about, text=f"it has no {name}: too old; export its configuration instead")
        for name, value in parts.items()
        if value is None
    ]
    return replace(records, remarks=(*records.remarks, *missing))


def look_up(records: Records, get: Get, source: str) -> Records:
    """An export's records, with the pools of its servers and VMs from the API."""
    servers = records_of(servers=_collection(get, "servers", "*", source) or []).servers
    pools = {server.id: server.pool_uuid for server in servers}
    known = tuple(_placed(server, pools) for server in records.servers)
    return replace(records, servers=known, vms=records_of(vms=_vms(get, source)).vms)


def _placed(server: XoServer, pools: dict[str, str]) -> XoServer:
    return replace(server, pool_uuid=server.pool_uuid or pools.get(server.id, ""))


def _vms(get: Get, source: str) -> list[Any]:
    return _collection(get, "vms", "uuid,name_label,%24pool", source) or []


def _collection(get: Get, name: str, fields: str, source: str) -> list[Any] | None:
    raw = get(f"{BASE}/{name}?fields={fields}")
    if raw is None:
        return None
    where = f"{source}{BASE}/{name}"
    value = parse_json(raw, where)
    if not isinstance(value, list):
        raise BadExport(where, "expected a list of objects")
    return cleaned_list(value, where)
