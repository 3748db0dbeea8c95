"""Servers become pools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xobackup.config.from_xo.credentials import Held
from xobackup.config.from_xo.naming import Names, slug
from xobackup.config.from_xo.records import XoServer
from xobackup.config.from_xo.remarks import Level, Remark, plain, quoted
from xobackup.config.from_xo.sections import Section, problems_of
from xobackup.config.places import PoolSection


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool of ours, and what Xen Orchestra calls it (empty when nobody told)."""

    name: str
    uuid: str
    host: str
    label: str


def translate_servers(
    servers: tuple[XoServer, ...], *, with_disabled: bool
) -> tuple[list[Section], list[Pool], list[Remark]]:
    """A pool for every server that Xen Orchestra connects to."""
    names, uuids = Names(), set[str]()
    sections: list[Section] = []
    pools: list[Pool] = []
    remarks: list[Remark] = []
    for server in servers:
        about = f"server {quoted(server.label or server.host.rpartition('@')[2])}"

        def remark(level: Level, text: str, about: str = about) -> None:
            remarks.append(Remark(level=level, about=about, text=text))

        if not server.enabled and not with_disabled:
            remark(Level.NOTE, "left out, it is disabled in Xen Orchestra (--with-disabled takes it)")
            continue
        if server.pool_uuid and server.pool_uuid in uuids:
            remark(Level.NOTE, f"left out, another server leads to the same pool {plain(server.pool_uuid)}")
            continue
        values = _values(server)
        if "@" in server.host:
            remark(Level.REFUSED, "its address holds a user or a password, expected a host alone")
            continue
        if problems := problems_of(PoolSection, values):
            remark(Level.REFUSED, "; ".join(problems))
            continue
        name = names.unique(slug(server.label or server.host, otherwise="pool"))
        for level, text in _told(server):
            remark(level, text)
        uuids.add(server.pool_uuid)
        pools.append(Pool(name=name, uuid=server.pool_uuid, host=server.host, label=server.label))
        comments = [f"Xen Orchestra: server {quoted(server.label or server.host)}, id {server.id}"]
        comments += [text for level, text in _told(server) if level is Level.DIFFERS]
        sections.append(Section(kind="pools", name=name, values=values, comments=tuple(comments)))
    return sections, pools, remarks


def _values(server: XoServer) -> dict[str, Any]:
    values: dict[str, Any] = {"url": server.host, "username": server.username}
    values["password"] = Held(value=server.password)
    if server.host and "://" not in server.host:
        values["url"] = f"https://{server.host}"
    if server.allow_unauthorized:
        values["tls"] = {"verify": False}
    return values


def _told(server: XoServer) -> list[tuple[Level, str]]:
    found: list[tuple[Level, str]] = []
    if server.allow_unauthorized:
        text = 'any certificate is accepted, as Xen Orchestra does; better: tls = { fingerprint = "..." }'
        found.append((Level.NOTE, text))
    if server.http_proxy:
        found.append((Level.DIFFERS, "httpProxy: not supported, the pool is reached directly"))
    if server.read_only:
        found.append((Level.DIFFERS, "readOnly: not supported; backups take and delete snapshots there"))
    return found
