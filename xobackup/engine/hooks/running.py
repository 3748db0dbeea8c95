"""All hooks of one moment, in the order of the configuration, each told in the journal and in the report.

Before something: the first failure that stops is the last hook run. After something: every hook is run, and a
failure that stops is told at the end. A hook that runs after something is never cut off by stopping the run, only by
its own timeout: it cleans up.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING

from xobackup.engine import events
from xobackup.engine.errors import HookFailed
from xobackup.engine.hooks.command import run_command
from xobackup.engine.hooks.facts import Facts, as_data, environment
from xobackup.engine.hooks.hook import Hook, HookResult, IfItFails, When
from xobackup.engine.hooks.request import Request, send

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.world import World


def run_hooks(
    world: World, hooks: Iterable[Hook], when: When, facts: Facts, *, cancel: CancelToken, results: list[HookResult]
) -> None:
    """Run those of ``hooks`` that are meant for this moment; ``results`` gets one entry each.

    Raises :class:`HookFailed` when one failed whose failure is to stop.
    """
    told = facts.of(hook=when.value)
    failed: list[str] = []
    for hook in hooks:
        if hook.on is not when:
            continue
        result = _run_one(world, hook, told, cancel if when.before else None)
        results.append(result)
        if when.before:
            cancel.check()
        if result.stopped:
            failed.append(f"hook {hook.label} ({when.value}) {result.error}")
            if when.before:
                break
    if failed:
        raise HookFailed("; ".join(failed))


def _run_one(world: World, hook: Hook, facts: Facts, cancel: CancelToken | None) -> HookResult:
    began_s = world.clock.monotonic_s()
    world.journal.write(events.HookBegan(vm=facts.vm_uuid, on=facts.hook, hook=hook.label))
    error = _problem(hook, facts, cancel)
    stopped = bool(error) and hook.if_it_fails is IfItFails.STOP
    result = HookResult(
        on=facts.hook,
        hook=hook.label,
        vm=facts.vm_uuid,
        duration_s=world.clock.monotonic_s() - began_s,
        error=error,
        stopped=stopped,
    )
    tell(world, result)
    return result


def tell(world: World, result: HookResult) -> None:
    """Into the journal."""
    world.journal.write(
        events.HookEnded(
            vm=result.vm,
            on=result.on,
            hook=result.hook,
            ok=result.ok,
            duration_s=result.duration_s,
            error=result.error,
            stopped=result.stopped,
        )
    )


def _problem(hook: Hook, facts: Facts, cancel: CancelToken | None) -> str:
    if hook.command:
        return run_command(hook.command, environment(facts, os.environ), timeout_s=hook.timeout_s, cancel=cancel)
    headers = {"Content-Type": "application/json", "User-Agent": "xobackup", **dict(hook.headers)}
    body = json.dumps(as_data(facts)).encode()
    try:
        tls = ssl.create_default_context(cafile=str(hook.ca) if hook.ca else None)
    except OSError as error:  # SSLError is one
        return f"cannot use {hook.ca}: {error}"
    request = Request(method="POST", url=hook.url, headers=headers, body=body, tls=tls)
    return send(request, timeout_s=hook.timeout_s, cancel=cancel)
