"""message messages: what the pool tells its operator."""

from __future__ import annotations

from typing import Any

from xobackup.simpool.database import copy_record
from xobackup.simpool.failures import Failure
from xobackup.simpool.registry import Call, message

_CLASS_OF = {"VM": "VM", "Host": "host", "SR": "SR", "Pool": "pool", "VDI": "VDI", "Certificate": "Certificate"}


@message("message.create")
def create(  # noqa: PLR0917 - the message's own parameters
    call: Call, name: str, priority: int, cls: str, obj_uuid: str, body: str
) -> str:
    if cls in _CLASS_OF:
        call.database.by_uuid(_CLASS_OF[cls], obj_uuid)
    record = {
        "name": name,
        "priority": priority,
        "cls": cls,
        "obj_uuid": obj_uuid,
        "body": body,
        "timestamp": call.toolstack.now_text(),
    }
    return call.database.create("message", record)


@message("message.get")
def get(call: Call, cls: str, obj_uuid: str, since: str) -> dict[str, Any]:
    found = call.database.where("message", cls=cls, obj_uuid=obj_uuid)
    return {ref: copy_record(record) for ref, record in found if record["timestamp"] > since}


@message("message.get_since")
def get_since(call: Call, since: str) -> dict[str, Any]:
    return {ref: copy_record(record) for ref, record in call.database.where("message") if record["timestamp"] > since}


@message("message.destroy")
def destroy(call: Call, ref: str) -> None:
    call.database.destroy("message", ref)


@message("message.destroy_many")
def destroy_many(call: Call, refs: list[str]) -> None:
    for ref in refs:
        if not call.database.exists("message", ref):
            raise Failure("HANDLE_INVALID", "message", ref)
    for ref in refs:
        call.database.destroy("message", ref)
