"""Xen Orchestra's records, as far as they are needed, read tolerantly: an unknown key is no error.

Shapes (docs/from-xen-orchestra.md says where each is known from):

    job        {id, name, type, mode, compression, vms, remotes, srs, pools, proxy, settings: {"" | id: {...}}, ...}
    schedule   {id, jobId, cron, timezone, enabled, name}
    remote     {id, name, url, options, enabled, proxy}
    server     {id, host, label, username, password, allowUnauthorized, enabled, httpProxy, readOnly; poolId}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xobackup.config.from_xo.remarks import Level, Remark, plain

_SURROGATES = re.compile(r"[\ud800-\udfff]")
DEPTH_MAX = 60
OBFUSCATED = "obfuscated-q3oi6d9X8uenGvdLnHk2"
"""What Xen Orchestra gives instead of a secret (packages/xo-server/src/sensitive-values.mjs)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XoServer:
    """A pool that Xen Orchestra is connected to."""

    id: str
    host: str
    label: str
    username: str
    password: str | None = field(repr=False)
    """``None``: it was not given."""
    allow_unauthorized: bool
    enabled: bool
    read_only: bool
    http_proxy: str
    pool_uuid: str
    """Empty: not known; only the REST API tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XoRemote:
    id: str
    name: str
    url: str = field(repr=False)
    options: str = field(repr=False)
    """Of ``mount``."""
    enabled: bool
    proxy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class XoSchedule:
    id: str
    job_id: str
    name: str
    cron: str
    timezone: str
    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class XoJob:
    id: str
    name: str
    type: str
    raw: Mapping[str, Any]
    """All of it."""
    settings: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a VM is."""

    pool_uuid: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """All that is translated. ``vms`` is ``None`` when nobody told which VMs there are."""

    servers: tuple[XoServer, ...] = ()
    remotes: tuple[XoRemote, ...] = ()
    schedules: tuple[XoSchedule, ...] = ()
    jobs: tuple[XoJob, ...] = ()
    vms: Mapping[str, Place] | None = None
    remarks: tuple[Remark, ...] = ()


class TooDeep(ValueError):
    """A record is nested deeper than any of Xen Orchestra's is."""


def cleaned(value: Any, depth: int = 0) -> Any:
    """``value`` without halves of surrogate pairs, which no file can hold. Raises :class:`TooDeep`."""
    if depth > DEPTH_MAX:
        raise TooDeep
    if isinstance(value, str):
        return _SURROGATES.sub("�", value)
    if isinstance(value, dict):
        return {cleaned(key): cleaned(member, depth + 1) for key, member in value.items()}
    if isinstance(value, list):
        return [cleaned(member, depth + 1) for member in value]
    return value


def records_of(
    *,
    jobs: Iterable[Any] = (),
    schedules: Iterable[Any] = (),
    remotes: Iterable[Any] = (),
    servers: Iterable[Any] = (),
    vms: Iterable[Any] | None = None,
) -> Records:
    """Read lists of records; members that are none are told."""
    remarks: list[Remark] = []

    def objects(kind: str, members: Iterable[Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for number, member in enumerate(members):
            if isinstance(member, dict) and isinstance(member.get("id"), str) and member["id"]:
                found.append(member)
            else:
                text = f"expected an object with an id, found {plain(type(member).__name__)}"
                remarks.append(Remark(level=Level.REFUSED, about=f"{kind} number {number + 1}", text=text))
        return found

    return Records(
        servers=tuple(_server(one) for one in objects("server", servers)),
        remotes=tuple(_remote(one) for one in objects("remote", remotes)),
        schedules=tuple(_schedule(one) for one in objects("schedule", schedules)),
        jobs=tuple(_job(one) for one in objects("job", jobs)),
        vms=None if vms is None else _places(vms),
        remarks=tuple(remarks),
    )


def _places(vms: Iterable[Any]) -> dict[str, Place]:
    return {
        _text(vm, "uuid"): Place(pool_uuid=_text(vm, "$pool"), name=_text(vm, "name_label"))
        for vm in vms
        if isinstance(vm, dict) and _text(vm, "uuid")
    }


def _server(raw: Mapping[str, Any]) -> XoServer:
    password = raw.get("password")
    return XoServer(
        id=raw["id"],
        host=_text(raw, "host"),
        label=_text(raw, "label") or _text(raw, "poolNameLabel"),
        username=_text(raw, "username") or "root",
        password=password if isinstance(password, str) and password and password != OBFUSCATED else None,
        allow_unauthorized=_flag(raw, "allowUnauthorized", default=False),
        enabled=_flag(raw, "enabled", default=False),
        read_only=_flag(raw, "readOnly", default=False),
        http_proxy=_text(raw, "httpProxy"),
        pool_uuid=_text(raw, "poolId"),
    )


def _remote(raw: Mapping[str, Any]) -> XoRemote:
    return XoRemote(
        id=raw["id"],
        name=_text(raw, "name"),
        url=_text(raw, "url"),
        options=_text(raw, "options"),
        enabled=_flag(raw, "enabled", default=True),
        proxy=_text(raw, "proxy"),
    )


def _schedule(raw: Mapping[str, Any]) -> XoSchedule:
    return XoSchedule(
        id=raw["id"],
        job_id=_text(raw, "jobId") or _text(raw, "job"),
        name=_text(raw, "name"),
        cron=_text(raw, "cron"),
        timezone=_text(raw, "timezone"),
        enabled=_flag(raw, "enabled", default=False),
    )


def _job(raw: Mapping[str, Any]) -> XoJob:
    settings = raw.get("settings")
    members = settings.items() if isinstance(settings, dict) else ()
    return XoJob(
        id=raw["id"],
        name=_text(raw, "name"),
        type=_text(raw, "type"),
        raw=raw,
        settings={key: value for key, value in members if isinstance(value, dict)},
    )


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    return value if isinstance(value, str) else ""


def _flag(raw: Mapping[str, Any], key: str, *, default: bool) -> bool:
    """Old databases keep them as texts."""
    value = raw.get(key)
    if isinstance(value, str):
        return value == "true"
    return value if isinstance(value, bool) else default
