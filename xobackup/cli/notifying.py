"""From ``[notify.NAME]`` to channels, and from the history to what they are told. Nothing here fails a backup."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.notify.channels import Channel
    from xobackup.notify.troubles import Seen

RUNS_LOOKED_AT = 20
FAILING = ("failure", "rpo", "damage", "lock", "service")
"""What makes a check fail: one that failed already for a VM without a job would not tell of a failed backup."""


def channel_of(configuration: Configuration, name: str) -> Channel:
    """With its secrets. Raises ``SecretError``."""
    from xobackup.config.secrets import resolve
    from xobackup.notify.channels import Channel, all_kinds

    section = configuration.notify[name]

    def text(key: str) -> str:
        secret = getattr(section, key)
        return "" if secret is None else resolve(secret, f"notify.{name}.{key}")

    kinds: tuple[str, ...] = () if section.digest_only else section.on
    if section.healthchecks is not None:
        kinds = kinds or FAILING
    return Channel(
        name=name,
        webhook=text("webhook"),
        secret=text("secret"),
        healthchecks=text("healthchecks"),
        apprise=text("apprise"),
        kinds=all_kinds(kinds),
        jobs=frozenset(section.jobs),
        repeat_s=section.repeat_s,
        digest_only=section.digest_only,
    )


def notify_all(
    configuration: Configuration, complain: Callable[[str], None], problems: Mapping[str, str] | None = None
) -> None:
    """Tell every channel what it has not heard. ``problems``: of the service itself, by what they are of; an empty
    text: it is well."""
    if not configuration.notify:
        return
    try:
        _notify_all(configuration, complain, problems or {})
    except Exception as error:  # noqa: BLE001 - whatever it is, the backup is made and the service goes on
        complain(f"nobody was told anything: {type(error).__name__}: {error}")


def _notify_all(configuration: Configuration, complain: Callable[[str], None], problems: Mapping[str, str]) -> None:
    from xobackup.cli.digests import send_due
    from xobackup.clock import SystemClock
    from xobackup.config.errors import ConfigError
    from xobackup.notify.tell import tell_all

    channels: dict[str, Channel] = {}
    for name in configuration.notify:
        try:
            channels[name] = channel_of(configuration, name)
        except (ConfigError, OSError) as error:
            complain(f"notify.{name}: not told: {error}")
    now_s = SystemClock().now_s()
    seen = look(configuration, now_s, problems)
    tell_all(list(channels.values()), seen, configuration.state_directory, now=now_s, complain=complain)
    send_due(configuration, channels, seen, now_s=now_s, complain=complain)


def look(configuration: Configuration, now_s: float, problems: Mapping[str, str] | None = None) -> Seen:
    """What is wrong now. A history that cannot be read is one thing more."""
    from xobackup.config.errors import ConfigError
    from xobackup.history.errors import HistoryError
    from xobackup.notify.troubles import Seen

    seen = Seen()
    for name, problem in (problems or {}).items():
        seen.service(name, problem)
    try:
        _look(configuration, seen, now_s)
        seen.service("history", "")
    except (HistoryError, ConfigError, OSError) as error:
        seen.service("history", f"the history cannot be written or read: {error}")
    return seen


def _look(configuration: Configuration, seen: Seen, now_s: float) -> None:
    """What the history says of the jobs that there are."""
    from xobackup.cli.history_store import opened_history
    from xobackup.cli.objectives import objectives
    from xobackup.cli.unusual import unusual
    from xobackup.clock import utc
    from xobackup.history import ask
    from xobackup.history.standing import overview
    from xobackup.notify.troubles import LOCKS

    with opened_history(configuration) as store:
        wanted = objectives(configuration, utc(now_s))
        found = overview(ask.latest(store), wanted, now_s)
        seen.vms(found)
        seen.damage(ask.damaged(store))
        seen.locks(found, ask.about_locks(store, LOCKS))
        seen.oddities(unusual(configuration, store, found, now_s))
        for job in wanted:
            seen.runs(ask.runs(store, job=job, limit=RUNS_LOOKED_AT))
