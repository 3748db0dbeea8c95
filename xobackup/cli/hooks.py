"""Hooks: from the configuration to what the engine takes, checked on this machine, and told on the screen."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xobackup.config.hooks import HookSection
    from xobackup.config.jobs import JobSection
    from xobackup.config.model import Configuration
    from xobackup.engine.hooks.hook import GuestHooks, Hook, HookResult


def hooks_of(sections: Iterable[HookSection], job: str, *, with_secrets: bool) -> tuple[Hook, ...]:
    """The engine's view of a job's hooks. Without secrets they can be shown, not run."""
    return tuple(_hook(section, f"jobs.{job}.hooks.{at}", with_secrets) for at, section in enumerate(sections))


def _hook(section: HookSection, key: str, with_secrets: bool) -> Hook:
    from xobackup.config.errors import ConfigError
    from xobackup.config.hooks import checked_url
    from xobackup.config.secrets import resolve
    from xobackup.engine.hooks.hook import Hook, IfItFails, When

    on = When(section.on)
    url = ""
    if section.url is not None and (with_secrets or section.url.value is not None):
        try:
            url = checked_url(resolve(section.url, f"{key}.url"))
        except ValueError as error:
            raise ConfigError([f"{key}.url: {error}"]) from None
    headers = tuple(
        (name, resolve(value, f"{key}.headers.{name}") if with_secrets else "")
        for name, value in section.headers.items()
    )
    default = IfItFails.STOP if on.before else IfItFails.WARN
    return Hook(
        on=on,
        command=section.command or (),
        url=url,
        headers=headers,
        ca=section.ca,
        timeout_s=section.timeout_s,
        if_it_fails=IfItFails(section.if_it_fails) if section.if_it_fails else default,
    )


def guest_hooks_of(section: JobSection, job: str, *, with_secrets: bool) -> GuestHooks:
    """The engine's view of how guests are told."""
    from xobackup.config.secrets import resolve
    from xobackup.engine.hooks.hook import GuestHooks

    secret = ""
    if section.guest_hook_secret is not None and with_secrets:
        secret = resolve(section.guest_hook_secret, f"jobs.{job}.guest_hook_secret")
    return GuestHooks(
        allowed=section.guest_hooks,
        secret=secret,
        verify=section.guest_hook_verify or section.guest_hook_ca is not None,
        ca=section.guest_hook_ca,
        timeout_s=section.guest_hook_timeout_s,
    )


def hook_problems(configuration: Configuration) -> Iterator[str]:
    """What this machine lacks for the hooks of all jobs, as sentences that name the key."""
    sections: Mapping[str, Any] = {**configuration.jobs, **configuration.metadata_jobs}
    for name, section in sections.items():
        for at, hook in enumerate(section.hooks):
            key = f"jobs.{name}.hooks.{at}"
            if hook.command is not None and shutil.which(hook.command[0]) is None:
                yield f"{key}.command: there is no program {hook.command[0]!r} that could be run"
            if hook.ca is not None and not hook.ca.is_file():
                yield f"{key}.ca: there is no file {hook.ca}"
        ca = getattr(section, "guest_hook_ca", None)
        if ca is not None and not ca.is_file():
            yield f"jobs.{name}.guest_hook_ca: there is no file {ca}"


def plan_line(hook: Mapping[str, Any]) -> str:
    """One line of a plan."""
    means = "its failure stops" if hook["if_it_fails"] == "stop" else "its failure is a warning"
    return f"{hook['on']}: {hook['hook']} (at most {hook['timeout_s']:g} s; {means})"


def failed_lines(results: Iterable[HookResult], names: Mapping[str, str]) -> Iterator[str]:
    """One line of a report per hook that failed without failing anything else."""
    for result in results:
        if result.error and not result.stopped:
            whose = f" of {names[result.vm]}" if result.vm in names else ""
            yield f"hook {result.hook} ({result.on}){whose} {result.error}"
