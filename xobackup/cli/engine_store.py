"""The engine of a configuration: its database, who does which VMs, and what a worker needs to know."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xobackup.clock import Clock
    from xobackup.config.model import Configuration
    from xobackup.service.shared import SharedStore
    from xobackup.workers.board import Board
    from xobackup.workers.hand_out import BoardHandOut

_PRIVATE = {"hooks", "guest_hooks", "health_check"}
"""May hold secrets, of which not even a digest shall leave this machine."""


def engine_url(configuration: Configuration) -> str:
    """With the password in it: not for people. Refused when there is no engine."""
    from xobackup.config.errors import ConfigError
    from xobackup.config.secrets import resolve
    from xobackup.history.store import with_password

    section = configuration.engine
    if section.database is None:
        hint = 'add [engine] database = "postgresql://user@host/database": docs/workers.md'
        raise ConfigError(["the configuration has no [engine] database: there are no workers"], hint=hint)
    password = None if section.password is None else resolve(section.password, "engine.password")
    return with_password(section.database, password)


@contextmanager
def opened_board(configuration: Configuration) -> Iterator[Board]:
    """The database. Raises ``WorkersError``."""
    from xobackup.workers.opening import open_board

    board = open_board(engine_url(configuration))
    try:
        yield board
    finally:
        board.close()


def shares_schedules(configuration: Configuration) -> bool:
    """Whether several control nodes follow the schedules by one database."""
    return configuration.engine.schedules == "shared"


def shared_schedules(configuration: Configuration, clock: Clock) -> SharedStore | None:
    """What this node remembers with others; ``None`` when it does by itself. Raises ``AlreadyServed``."""
    import os
    import socket
    import uuid

    from xobackup.engine.run import version
    from xobackup.service.shared import SharedStore
    from xobackup.workers.nodes import Node
    from xobackup.workers.opening import open_board

    if not shares_schedules(configuration):
        return None
    me = Node(
        id=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=version(),
        lease_s=configuration.engine.lease_s,
        plan={},
    )
    url = engine_url(configuration)
    return SharedStore(configuration.state_directory, lambda: open_board(url), me, clock=clock)


def schedule_fingerprints(configuration: Configuration) -> dict[str, str]:
    """What tells whether two nodes mean the same by the name of a schedule."""
    of_job = fingerprint_of(configuration)
    found = {}
    for name, section in configuration.schedules.items():
        told = [section.model_dump(mode="json"), [of_job(job) for job in section.jobs]]
        found[name] = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    return found


@contextmanager
def handing_out(configuration: Configuration) -> Iterator[BoardHandOut | None]:
    """Who gives VMs to workers; ``None`` without an engine. A database that is away costs no backup that this machine
    can make itself: then it does."""
    from xobackup.workers.errors import WorkersError
    from xobackup.workers.hand_out import BoardHandOut
    from xobackup.workers.opening import open_board

    section = configuration.engine
    if section.database is None:
        yield None
        return
    url = engine_url(configuration)
    board, away = None, ""
    try:
        board = open_board(url)
    except WorkersError as error:
        away = str(error)
    hand_out = BoardHandOut(
        board,
        away=away,
        sites=sites_of(configuration),
        here=section.site or "",
        wait_s=section.wait_s,
        fingerprint=fingerprint_of(configuration),
        reopen=lambda: open_board(url),
    )
    with closing(hand_out):
        yield hand_out


def sites_of(configuration: Configuration) -> dict[str, tuple[str, ...]]:
    """From where each pool (``pool:NAME``), remote and target is reached. A target's pool must be reached as well."""
    found = {f"pool:{name}": pool.sites for name, pool in configuration.pools.items()}
    found |= {name: remote.sites for name, remote in configuration.remotes.items()}
    for name, target in configuration.targets.items():
        of_pool = configuration.pools[target.pool].sites
        both = tuple(site for site in target.sites if not of_pool or site in of_pool)
        found[name] = both if target.sites else of_pool
    return found


def fingerprint_of(configuration: Configuration) -> Callable[[str], str]:
    """What tells whether two configurations mean the same by the name of a job."""

    def fingerprint(name: str) -> str:
        section = configuration.jobs.get(name) or configuration.mirror_jobs.get(name)
        if section is None:
            return ""
        told = section.model_dump(mode="json", exclude=_PRIVATE)
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    return fingerprint


def reach_of(configuration: Configuration, site: str) -> dict[str, list[str]]:
    """What a worker of ``site`` reaches, by its own configuration."""
    sites = sites_of(configuration)

    def near(names: Iterator[str], prefix: str = "") -> list[str]:
        return sorted(name for name in names if not (of := sites[prefix + name]) or site in of)

    return {
        "pools": near(iter(configuration.pools), "pool:"),
        "remotes": near(iter(configuration.remotes)),
        "targets": near(iter(configuration.targets)),
    }
