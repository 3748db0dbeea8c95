"""Dumps of a pool's database, as small as they may be and as a pool writes them."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

from xobackup.repository.pools.point import PoolDraft

POOL = "eeeeeeee-0000-4000-8000-000000000001"
HOST = "eeeeeeee-0000-4000-8000-000000000002"
JOB = "bbbbbbbb-0000-4000-8000-000000000003"
SCHEDULE = "cccccccc-0000-4000-8000-000000000003"


def row(ref: str, **fields: str) -> str:
    return (
        f"<row ref={quoteattr(ref)} " + " ".join(f"{key}={quoteattr(value)}" for key, value in fields.items()) + "/>"
    )


def dump_of(
    *, pool: str = POOL, hosts: Sequence[str] = (HOST,), vms: Sequence[str] = ("web", "db"), note: str = ""
) -> bytes:
    """A dump; ``note`` is text that makes it differ."""
    tables = {
        "pool": [row("OpaqueRef:p", uuid=pool, name__label="main & more", master="OpaqueRef:h0", note=note)],
        "host": [row(f"OpaqueRef:h{n}", uuid=uuid, name__label=f"host-{n}") for n, uuid in enumerate(hosts)],
        "SR": [row("OpaqueRef:s", uuid="5" * 8, name__label="local")],
        "VM": [
            row("OpaqueRef:dom0", uuid="d0", name__label="dom0", is_control_domain="true"),
            row("OpaqueRef:t", uuid="t", name__label="template", is_a_template="true"),
            *(
                row(f"OpaqueRef:{name}", uuid=f"uuid-of-{name}", name__label=name, is_a_template="false")
                for name in vms
            ),
        ],
        "task": [],
    }
    manifest = '<pair key="schema_major_vsn" value="5"/><pair key="schema_minor_vsn" value="785"/>'
    manifest += '<pair key="generation_count" value="103"/>'
    body = "".join(f"<table name={quoteattr(name)}>{''.join(rows)}</table>" for name, rows in tables.items())
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><database><manifest>{manifest}</manifest>{body}</database>'.encode()
    )


def draft(at_s: float, *, pool: str = POOL, schedule: str = SCHEDULE) -> PoolDraft:
    return PoolDraft(
        job_id=JOB,
        job_name="meta job",
        schedule_id=schedule,
        schedule_name="meta",
        timestamp_ms=int(at_s * 1000),
        pool={"uuid": pool, "name_label": "main & more", "master": "OpaqueRef:h0"},
        master={"uuid": HOST, "name_label": "host-0", "software_version": {"product_version": "8.3.0"}},
    )
