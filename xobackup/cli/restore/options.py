"""What every restore is told: which VM, which restore point, from where; and how what was read is summed up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import NotThere

if TYPE_CHECKING:
    from xobackup.repository.metadata import RestorePoint
    from xobackup.repository.repository import Repository

VmArgument = Annotated[str, typer.Argument(metavar="VM", help="The VM as backed up: its uuid or its name.")]
PointArgument = Annotated[
    str,
    typer.Argument(metavar="[POINT]", help="A restore point (or how its id begins), as `backups show` lists them."),
]
FromOption = Annotated[str, typer.Option("--remote", "-r", help="A remote of the configuration, or a URL.")]
CheckOption = Annotated[bool, typer.Option("--check/--no-check", help="Compare every block with its digest.")]


@contextlib.contextmanager
def found(
    config: Path | None, remote: str, vm: str, point: str, *, as_of: str | None = None
) -> Iterator[tuple[Repository, RestorePoint, str]]:
    """The repository ``remote`` names while it is open, the restore point meant in it, and the remote's name."""
    from xobackup.cli import repositories
    from xobackup.cli.examined import configuration_of, noting_damage

    (target,) = repositories.remote_targets(config, remote, as_of=as_of)
    with repositories.opened(target) as repository:
        uuid = repositories.find_vm(repository, vm)
        found = repositories.find_point(repository, uuid, point)
        with noting_damage(None if as_of else configuration_of(config), found, target.name):
            yield repository, found, target.name


def mapping(option: str, given: list[str] | None) -> dict[str, str | None]:
    """``KEY=VALUE`` options as a table; an empty value is ``None``."""
    pairs: dict[str, str | None] = {}
    for text in given or []:
        key, separator, value = text.rpartition("=")
        if not separator or not key:
            raise NotThere(f"{option}: expected KEY=VALUE, found {text!r}")
        pairs[key] = value or None
    return pairs


def checked_text(compared: int, unchecked: int, *, check: bool) -> str:
    """How many blocks were compared with their digests."""
    if not check:
        return "blocks were not compared with their digests"
    told = f"{compared} blocks compared with their digests"
    return told + (f", {unchecked} have none" if unchecked else "")


def archive_text(compared: int, _unchecked: int, *, check: bool) -> str:
    """Whether the image of a full backup was compared with its checksum."""
    if not check:
        return "its image was not compared with its checksum"
    return "its image agrees with its checksum" if compared else "its image has no checksum to compare it with"
