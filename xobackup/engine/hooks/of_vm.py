"""The hooks after a VM: those for a failure, and those after it in any case.

They are run once per VM and run, after the last attempt. A VM that was refused before it was begun has only those for
a failure; one that was not begun because the run was stopped has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.engine.errors import Cancelled, HookFailed, Outcome
from xobackup.engine.hooks.hook import When
from xobackup.engine.hooks.running import run_hooks

if TYPE_CHECKING:
    from xobackup.engine.context import RunContext
    from xobackup.engine.hooks.facts import Facts
    from xobackup.engine.hooks.hook import HookResult


def hooks_after_vm(
    context: RunContext,
    facts: Facts,
    outcome: Outcome,
    error: BaseException | None,
    results: list[HookResult],
    *,
    begun: bool,
) -> HookFailed | None:
    """Run them; returns the failure that makes the VM count as failed. ``error``: why it failed, if it did."""
    stopped = isinstance(error, Cancelled)
    facts = facts.of(outcome="cancelled" if stopped else outcome.value, error=str(error) if error else facts.error)
    world, hooks = context.world, context.job.hooks
    moments = [When.ON_FAILURE] if outcome is Outcome.FAILED and not stopped else []
    moments += [When.AFTER_VM] if begun else []
    failed: HookFailed | None = None
    for when in moments:
        try:
            run_hooks(world, hooks, when, facts, cancel=world.cancel, results=results)
        except HookFailed as one:
            failed = failed or one
    return failed
