"""pool and host messages."""

from __future__ import annotations

from xobackup.simpool.registry import Call, message
from xobackup.simpool.values import date_text


@message("pool.sync_database")
def sync_database(call: Call) -> None:
    del call  # one host: the database is where it belongs


@message("host.get_servertime")
def get_servertime(call: Call, host: str) -> str:
    call.database.row("host", host)
    return call.toolstack.now_text()


@message("host.get_server_localtime")
def get_server_localtime(call: Call, host: str) -> str:
    call.database.row("host", host)
    return date_text(call.toolstack.clock.now_s()).rstrip("Z")  # real hosts give no zone here


@message("host.enable")
def enable(call: Call, host: str) -> None:
    call.database.update("host", host, enabled=True)


@message("host.disable")
def disable(call: Call, host: str) -> None:
    call.database.update("host", host, enabled=False)


@message("host.compute_free_memory")
def compute_free_memory(call: Call, host: str) -> int:
    database = call.database
    used: int = sum(database.get("VM", vm)["memory_static_max"] for vm in database.get("host", host)["resident_VMs"])
    metrics = database.get("host_metrics", database.get("host", host)["metrics"])
    return int(metrics["memory_total"] - used)
