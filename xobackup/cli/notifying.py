"""From ``[notify.NAME]`` to channels, and from the history to what they are told. Nothing here fails a backup."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.notify.channels import Channel


def channel_of(configuration: Configuration, name: str) -> Channel:
    """With its secrets. Raises ``SecretError``."""
    from xobackup.config.secrets import resolve
    from xobackup.notify.channels import Channel, all_kinds

    section = configuration.notify[name]

    def text(key: str) -> str:
        secret = getattr(section, key)
        return "" if secret is None else resolve(secret, f"notify.{name}.{key}")

    return Channel(
        name=name,
        webhook=text("webhook"),
        secret=text("secret"),
        healthchecks=text("healthchecks"),
        apprise=text("apprise"),
        kinds=all_kinds(section.on),
        jobs=frozenset(section.jobs),
        repeat_s=section.repeat_s,
    )


def notify_all(configuration: Configuration, complain: Callable[[str], None], problems: Iterable[str] = ()) -> None:
    """Tell every channel what it has not heard. ``problems``: of the service itself."""
    from xobackup.cli.history_store import opened_history
    from xobackup.cli.objectives import objectives
    from xobackup.clock import SystemClock, utc
    from xobackup.config.errors import ConfigError
    from xobackup.history import ask
    from xobackup.history.errors import HistoryError
    from xobackup.history.standing import overview
    from xobackup.notify.tell import tell_all
    from xobackup.notify.troubles import troubles_of

    if not configuration.notify:
        return
    channels = []
    for name in configuration.notify:
        try:
            channels.append(channel_of(configuration, name))
        except (ConfigError, OSError) as error:
            complain(f"notify.{name}: not told: {error}")
    now_s = SystemClock().now_s()
    try:
        with opened_history(configuration) as store:
            wanted = objectives(configuration, utc(now_s))
            found = overview(ask.latest(store), wanted, now_s)
            runs = [row for job in wanted for row in ask.runs(store, job=job, limit=1)]
        troubles = troubles_of(found, runs, problems)
        tell_all(channels, troubles, configuration.state_directory, now=now_s, complain=complain)
    except (HistoryError, ConfigError, OSError) as error:
        complain(f"nobody was told anything: {error}")
