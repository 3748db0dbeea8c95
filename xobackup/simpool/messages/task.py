"""task messages: what clients do with tasks, their own (for transfers) and others'."""

from __future__ import annotations

from xobackup.simpool.registry import Call, message


@message("task.create")
def create(call: Call, label: str, description: str) -> str:
    return call.toolstack.tasks.create_for_client(label, description)


@message("task.destroy")
def destroy(call: Call, ref: str) -> None:
    call.toolstack.tasks.destroy(ref)


@message("task.cancel")
def cancel(call: Call, ref: str) -> None:
    call.toolstack.tasks.cancel(ref)


@message("task.set_status")
def set_status(call: Call, ref: str, value: str) -> None:
    call.toolstack.tasks.set_status(ref, value)


@message("task.set_progress")
def set_progress(call: Call, ref: str, value: float) -> None:
    call.database.update("task", ref, progress=value)
