"""The history of a configuration: the database it names, and taking in what runs left. Never fails a backup."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from xobackup.config.model import Configuration
    from xobackup.history.collect import Collected
    from xobackup.history.store import Store


def history_url(configuration: Configuration) -> str:
    """With the password in it: not for people."""
    from xobackup.config.secrets import resolve
    from xobackup.history.store import default_url, with_password

    section = configuration.history
    if section.url is None:
        return default_url(configuration.state_directory)
    password = None if section.password is None else resolve(section.password, "history.password")
    return with_password(section.url, password)


@contextmanager
def opened_history(configuration: Configuration) -> Iterator[Store]:
    """The database, up to date with the journals. Raises ``HistoryError``."""
    from xobackup.history.store import open_store

    store = open_store(history_url(configuration))
    try:
        collect(configuration, store)
        yield store
    finally:
        store.close()


def set_aside(configuration: Configuration) -> Path | None:
    """Rename the database file, if it is one and there; its new path. A server's tables are only written again."""
    from xobackup.clock import SystemClock, utc
    from xobackup.history.store import sqlite_path

    path = sqlite_path(history_url(configuration))
    if path is None or not path.exists():
        return None
    aside = path.with_name(f"{path.name}.{utc(SystemClock().now_s()):%Y%m%dT%H%M%SZ}.aside")
    for suffix in ("-wal", "-shm", ""):  # the file itself last: a new one must never find the old one's log
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + suffix))
    return aside


def collect(configuration: Configuration, store: Store) -> Collected:
    """What is new in the journals, into the database."""
    from xobackup.history.collect import catch_up

    return catch_up(store, configuration.state_directory / "journal")


def tidy(configuration: Configuration, store: Store, now_s: float) -> None:
    """Delete what is older than ``[history]`` wants to keep."""
    from xobackup.history.collect import remove_old_journals

    section = configuration.history
    store.prune(runs_before=now_s - section.keep_s, details_before=now_s - section.keep_details_s)
    directory = configuration.state_directory / "journal"
    remove_old_journals(store, directory, before_s=now_s - section.keep_journals_s)


def note_history(configuration: Configuration, complain: Callable[[str], None]) -> None:
    """Take in what a run left. What goes wrong is told, and made up for the next time."""
    from xobackup.clock import SystemClock
    from xobackup.config.errors import ConfigError
    from xobackup.history.errors import HistoryError

    try:
        with opened_history(configuration) as store:
            tidy(configuration, store, SystemClock().now_s())
    except (HistoryError, ConfigError, OSError) as error:
        hint = getattr(error, "hint", "")
        complain(f"the history was not written: {error}{f' ({hint})' if hint else ''}")
