"""pool and host messages."""

from __future__ import annotations

from xobackup.simpool.failures import Failure
from xobackup.simpool.messages.vm_life import free_memory
from xobackup.simpool.registry import Call, message
from xobackup.simpool.values import date_text


@message("pool.sync_database")
def sync_database(call: Call) -> None:
    del call  # one host: the database is where it belongs


@message("pool.designate_new_master")
def designate_new_master(call: Call, host: str) -> None:
    """Sessions do not survive it."""
    call.database.row("host", host)
    if not call.toolstack.is_live(host):
        raise Failure("HOST_OFFLINE", host)
    call.database.update("pool", call.toolstack.pool, master=host)
    call.toolstack.sessions.end_all()


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
    return free_memory(call, host)
