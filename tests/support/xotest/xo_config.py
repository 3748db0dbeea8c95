"""A configuration of Xen Orchestra's, as "export config" would give it.

Made by hand: no export of a real installation was at hand. Names of keys, nesting and URL forms are those of
xo-server (``addConfigManager`` of jobs, schedules, remotes, xenServers), of the examples in its REST API's
description and of xo-remote-parser's tests; everything else (values, texts) is invented.
"""

from __future__ import annotations

import copy
from typing import Any

PARIS, LYON = "63375ed4-6d71-4fce-91b0-0a98921b1f9f", "7202d2b7-913a-473b-b6d1-39447a51643f"
"""Ids of servers."""
PARIS_POOL, LYON_POOL = "b7569d99-30f8-178a-7d94-801de3e29b5b", "355ee47d-ff4c-4924-3db2-fd86ae629676"
NAS, BUCKET, SHARE, FILES, AZURE = (f"aaaaaaaa-0000-4000-8000-00000000000{number}" for number in range(1, 6))
NIGHTLY, SMART, FULL, METADATA, MIRROR, CR, ROLLING, LONG, SEQUENCE = (
    f"bbbbbbbb-0000-4000-8000-00000000000{number}" for number in range(1, 10)
)
DB, WEB = "1dc9a1d4-65bc-4211-9529-4abbd0ff2072", "f07ab729-c0e8-721c-45ec-f11276377030"
"""Uuids of VMs."""


def schedule_id(number: int) -> str:
    return f"cccccccc-0000-4000-8000-{number:012}"


def schedule(number: int, job: str, **more: Any) -> dict[str, Any]:
    return {
        "cron": "0 1 * * *",
        "enabled": True,
        "jobId": job,
        "name": "",
        "timezone": "Europe/Paris",
        "userId": "d558dd75-c928-45f6-b8e3-4375bdda59f8",
        "id": schedule_id(number),
        **more,
    }


def job(job_id: str, name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "mode": "delta",
        "type": "backup",
        "compression": "",
        "vms": {"id": {"__or": [DB, WEB]}},
        "remotes": {"id": {"__or": [NAS]}},
        "srs": {"id": {"__or": []}},
        "settings": {"": {}},
        "userId": "d558dd75-c928-45f6-b8e3-4375bdda59f8",
        "id": job_id,
        **more,
    }


_SERVERS: list[dict[str, Any]] = [
    {
        "host": "10.0.0.1",
        "label": "Paris",
        "username": "root",
        "password": "paris secret",
        "allowUnauthorized": True,
        "enabled": True,
        "readOnly": False,
        "id": PARIS,
    }
]
_REMOTES: list[dict[str, Any]] = [
    {"enabled": True, "name": "NAS", "url": "nfs://10.0.0.5:/export/xo", "options": "vers=4.1 nolock", "id": NAS},
    {
        "enabled": True,
        "name": "S3 off site",
        "url": "s3://AKIAEXAMPLE:s%2Fecret%2B@s3.eu-west-3.amazonaws.com/bucket/xen"
        "?useVhdDirectory=true&encryptionKey=%220123456789abcdef0123456789abcdef%22#eu-west-3",
        "benchmarks": [{"readRate": 7999965.19, "timestamp": 1751469269245, "writeRate": 7767798.7}],
        "id": BUCKET,
    },
    {
        "enabled": True,
        "name": "share",
        "url": "smb://backup:pas:sw@ord@CORP\\\\192.168.100.225\\backups\0xo\\prod",
        "id": SHARE,
    },
    {"enabled": True, "name": "local disk", "url": "file:///var/lib/xoa/my backups", "error": "", "id": FILES},
    {"enabled": True, "name": "blob", "url": "azure://acc:key@acc.blob.core.windows.net/box/dir", "id": AZURE},
]


def small_export() -> dict[str, Any]:
    """One server, one remote, one job with one schedule."""
    return copy.deepcopy(
        {
            "jobs": [job(NIGHTLY, "Nightly", settings={"": {}, schedule_id(1): {"exportRetention": 7}})],
            "schedules": [schedule(1, NIGHTLY, name="every night")],
            "remotes": _REMOTES[:1],
            "xenServers": _SERVERS,
        }
    )


def whole_export() -> dict[str, Any]:
    """Jobs of every kind, remotes of every kind."""
    general = {
        "reportWhen": "failure",
        "concurrency": 4,
        "nRetriesVmBackupFailures": 2,
        "preferNbd": True,
        "nbdConcurrency": 2,
        "cbtDestroySnapshotData": True,
        "maxExportRate": 104857600,
        "timezone": "Europe/Paris",
    }
    both = {"id": {"__or": [NAS, BUCKET]}}
    jobs = [
        job(
            NIGHTLY,
            "Nightly / prod",
            remotes=both,
            settings={
                "": general,
                schedule_id(1): {"exportRetention": 14, "snapshotRetention": 0},
                schedule_id(2): {"exportRetention": 4, "fullInterval": 1, "healthCheckSr": "sr", "fresh": True},
            },
        ),
        job(
            SMART,
            "Smart",
            vms={
                "type": "VM",
                "power_state": "Running",
                "$pool": {"__or": [PARIS_POOL]},
                "tags": {"__and": [{"__or": [["prod"], ["web"]]}, {"__not": {"__or": [["scratch"]]}}]},
            },
            remotes={"id": SHARE},
            proxy="83050a39-44e2-4e59-b612-860250ce9338",
            settings={
                "": {"offlineSnapshot": True},
                schedule_id(3): {"exportRetention": 3},
                SHARE: {"deleteFirst": True},
            },
        ),
        job(
            FULL,
            "Full",
            mode="full",
            compression="zstd",
            vms={"id": DB},
            remotes={"id": {"__or": [FILES, AZURE]}},
            srs={"id": {"__or": ["c787b75c-3e0d-70fa-d0c3-cbfd382d7e33"]}},
            settings={"": {"offlineBackup": True}, schedule_id(4): {"exportRetention": 2, "copyRetention": 1}},
        ),
        {
            "name": "Pools",
            "type": "metadataBackup",
            "pools": {"id": PARIS_POOL},
            "remotes": {"id": NAS},
            "settings": {schedule_id(5): {"retentionPoolMetadata": 10, "retentionXoMetadata": 5}},
            "xoMetadata": True,
            "userId": "e531b8c9-3876-4ed9-8fd2-0476d5f825c9",
            "id": METADATA,
        },
        {
            "name": "Mirror",
            "mode": "delta",
            "type": "mirrorBackup",
            "sourceRemote": NAS,
            "remotes": {"id": BUCKET},
            "settings": {"": {}, schedule_id(6): {"exportRetention": 1}},
            "id": MIRROR,
        },
        job(
            CR,
            "Replication",
            remotes={"id": {"__or": []}},
            srs={"id": "c787b75c-3e0d-70fa-d0c3-cbfd382d7e33"},
            settings={"": {}, schedule_id(7): {"copyRetention": 3}},
        ),
        job(
            ROLLING,
            "Snapshots",
            remotes={"id": {"__or": []}},
            settings={"": {}, schedule_id(8): {"snapshotRetention": 5}},
        ),
        job(
            LONG,
            "Long term",
            settings={
                "": {"longTermRetention": {"weekly": {"retention": 4, "settings": {}}}, "timezone": "Europe/Paris"},
                schedule_id(9): {"exportRetention": 7},
            },
        ),
        {
            "name": "All in turn",
            "type": "call",
            "key": "genericTask",
            "method": "schedule.runSequence",
            "paramsVector": {
                "type": "crossProduct",
                "items": [{"type": "set", "values": [{"schedules": [schedule_id(1), schedule_id(4)]}]}],
            },
            "id": SEQUENCE,
        },
    ]
    schedules = [
        schedule(1, NIGHTLY, name="daily"),
        schedule(2, NIGHTLY, name="weekly", cron="0 3 * * 0"),
        schedule(3, SMART),
        schedule(4, FULL, enabled=False),
        schedule(5, METADATA),
        schedule(6, MIRROR),
        schedule(7, CR),
        schedule(8, ROLLING, enabled=False),
        schedule(9, LONG),
        schedule(10, SEQUENCE, cron="0 22 * * 5"),
    ]
    return copy.deepcopy(
        {
            "acls": [],
            "groups": [],
            "users": [
                {"id": "d558dd75-c928-45f6-b8e3-4375bdda59f8", "email": "admin@admin.net", "permission": "admin"}
            ],
            "plugins": [{"id": "backup-reports", "autoload": True, "configuration": {"toMails": ["a@b.example"]}}],
            "proxies": [],
            "jobs": jobs,
            "schedules": schedules,
            "remotes": _REMOTES,
            "xenServers": _SERVERS,
        }
    )
