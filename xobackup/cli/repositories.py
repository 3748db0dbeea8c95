"""Repositories for commands: opened by name or URL, VMs and restore points found the way a person names them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xobackup.cli.errors import NoSuchVm, NotThere, Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import read_configuration

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.engine.job import RemoteTarget
    from xobackup.repository.metadata import RestorePoint
    from xobackup.repository.repository import Repository

LATEST = "latest"


def remote_targets(config: Path | None, given: str | None, *, as_of: str | None = None) -> list[RemoteTarget]:
    """The remote ``given`` by name or URL, all configured ones when none is; ``as_of``: as they were then."""
    targets = _targets(config, given)
    if as_of is None:
        return targets
    time_s = moment_s(as_of)
    return [replace(target, storage=replace(target.storage, as_of_s=time_s)) for target in targets]


def moment_s(text: str, option: str = "--as-of") -> float:
    """A time as a person writes it (ISO 8601; UTC unless it has an offset), or as restore points are named."""
    from datetime import UTC, datetime

    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        problem = f"{option}: expected a time like 2026-11-26T03:00 (UTC) or 2026-11-26T03:00+01:00, found {text!r}"
        raise Outcome(Exit.USAGE, problem) from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def _targets(config: Path | None, given: str | None) -> list[RemoteTarget]:
    from remotes.url import parse_url
    from xobackup.cli.jobs import remote_target
    from xobackup.config.errors import ConfigError
    from xobackup.engine.job import RemoteTarget

    if given is not None and ("://" in given or given.startswith("/")):
        return [RemoteTarget(name=parse_url(given).redacted, url=given)]
    configuration: Configuration = read_configuration(config)
    if given is not None:
        return [remote_target(configuration, given)]
    if not configuration.remotes:
        raise ConfigError(["the configuration defines no remote"], hint="name one with --remote file:///path")
    return [remote_target(configuration, name) for name in configuration.remotes]


@contextlib.contextmanager
def opened(target: RemoteTarget) -> Iterator[Repository]:
    """The repository of ``target``."""
    from xobackup.clock import SystemClock
    from xobackup.engine.storage import open_repository

    repository = open_repository(target, clock=SystemClock())
    try:
        yield repository
    finally:
        repository.remote.close()


def each(
    config: Path | None, remote: str | None, vm: str | None, *, as_of: str | None = None
) -> Iterator[tuple[str, Repository, list[str]]]:
    """Every repository meant, opened while it is its turn, with its name and the VMs meant in it.

    A VM that is named has to be in one of them, not in all. A repository that cannot be opened does not keep the
    others from their turn; its error comes at the end.
    """
    from remotes.errors import RemoteError

    missing: list[NotThere] = []
    failed: list[RemoteError] = []
    targets = remote_targets(config, remote, as_of=as_of)
    for target in targets:
        with contextlib.ExitStack() as stack:
            try:
                repository = stack.enter_context(opened(target))
            except RemoteError as error:
                failed.append(error)
                continue
            try:
                vms = [find_vm(repository, vm)] if vm else repository.vms()
            except NoSuchVm as error:
                missing.append(error)
                continue
            yield target.name, repository, vms
    if failed:
        raise failed[0]
    if len(missing) == len(targets):
        raise missing[0]


def find_vm(repository: Repository, given: str) -> str:
    """The uuid of the VM ``given`` by uuid or by the name in its newest restore point."""
    vms = repository.vms()
    if given in vms:
        return given
    named = [vm for vm in vms if vm_name(repository, vm) == given]
    if len(named) == 1:
        return named[0]
    if named:
        raise NotThere(
            f"{len(named)} VMs are called {given!r}: {', '.join(named)}", hint="give the uuid of the one you mean"
        )
    raise NoSuchVm(f"{repository.remote.url}: there is no VM {given!r}", hint="see `xobackup backups list`")


def vm_name(repository: Repository, vm: str) -> str:
    """What the VM was called in its newest restore point."""
    points = repository.points(vm).points
    return points[-1].vm_name if points else ""


def find_point(repository: Repository, vm: str, given: str) -> RestorePoint:
    """The restore point of that id, ``latest``, or the only one whose id begins like that."""
    points = repository.points(vm).points
    if given == LATEST and points:
        return points[-1]
    found = [point for point in points if point.id.startswith(given)]
    exact = [point for point in found if point.id == given]
    if len(exact or found) == 1:
        return (exact or found)[0]
    known = ", ".join(point.id for point in points[-5:]) or "none"
    problem = "matches several restore points" if found else "is no restore point"
    name = points[-1].vm_name if points else ""
    hint = f"see `xobackup backups show {vm}`"
    raise NotThere(f"VM {name or vm}: {given!r} {problem} (newest: {known})", hint=hint)
