"""The one kind of task that Procrastinate knows. Its name is given, not made of where this module happens to be."""

from __future__ import annotations

from procrastinate import Blueprint, JobContext

NAMESPACE = "xobackup"
NAME = "xobackup:vm"


def blueprint() -> Blueprint:
    """For one app: whoever takes it in changes the names in it."""
    made = Blueprint()

    @made.task(name="vm", pass_context=True)
    async def vm(context: JobContext, task: str) -> None:
        """Do the task with that id: what that means the worker brought along."""
        await context.additional_context["do"](task)

    return made
