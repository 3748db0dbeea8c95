"""``xobackup repair``: blocks that are not what was written, written again from a proven copy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from xobackup.cli import repositories
from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import LOCK_WAIT_S, ConfigOption, JsonOption, VmOption, read_configuration
from xobackup.cli.output import Output
from xobackup.texts import count_text

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.engine.job import RemoteTarget
    from xobackup.engine.repair import OtherRemote, PoolSnapshots
    from xobackup.repository.repair.damage import DamagedBlock, Damages
    from xobackup.repository.repair.images import DamagedImage, ImageSource
    from xobackup.repository.repair.rewrite import RepairReport
    from xobackup.repository.repair.sources import BlockSource
    from xobackup.repository.repository import Repository

NO_COPY = "nobody has a proven copy; left as it is"
SHOWN_MAX = 20
"""Blocks of one VM that are told one by one; with --json all of them."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(repair)


def repair(
    remote: Annotated[str, typer.Option("--remote", "-r", help="The remote to repair: its name, or a URL.")],
    vm: VmOption = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--from", help="Look for copies on this remote or pool only; may be repeated. Default: all."),
    ] = None,
    trust_days: Annotated[
        float, typer.Option("--trust-days", min=0, help="Do not read again what was verified within so many days.")
    ] = 1.0,
    apply: Annotated[bool, typer.Option("--apply", help="Write; without it only say what would be done.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find damaged blocks and a proven copy of each, elsewhere or in snapshots; with --apply write them again."""
    from xobackup.cli.live import watching

    output = Output(as_json=as_json)
    (target,) = repositories.remote_targets(config, remote)
    left = found = 0
    with (
        watching(output) as watch,
        repositories.opened(target) as repository,
        _sources(output, config, target, repository, source) as sources,
    ):
        vms = [repositories.find_vm(repository, vm)] if vm else repository.vms()
        for uuid in vms:
            damages = repository.damages(uuid, trusted_days=trust_days or None, check=watch.cancel.check)
            images = repository.damaged_images(uuid, trusted_days=trust_days or None, check=watch.cancel.check)
            found += len(damages.blocks) + len(damages.hopeless) + len(images)
            left += _repair_vm(output, repository, uuid, damages, sources, apply=apply)
            left += _repair_images(output, repository, uuid, images, sources, apply=apply)
    if not found:
        output.say("no damage found", style="green")
    elif left or not apply:
        if not apply:
            output.say("nothing was written; add --apply to repair what has a copy")
        raise Outcome(Exit.DAMAGE, f"{count_text(left, 'finding')} of damage left" if apply else "there is damage")


def _repair_vm(
    output: Output,
    repository: Repository,
    vm: str,
    damages: Damages,
    sources: list[BlockSource],
    *,
    apply: bool,
) -> int:
    """How much is damaged still."""
    for sentence in damages.hopeless:
        output.record("hopeless", {"vm": vm, "message": sentence})
        output.say(f"cannot be repaired here: {sentence}", style="red")
    if not damages.blocks:
        return len(damages.hopeless)
    if not apply:
        _propose(output, damages, sources)
        return len(damages.blocks) + len(damages.hopeless)
    with repository.lock(vm, timeout_s=LOCK_WAIT_S, purpose="repair") as directory:
        report = directory.repair(damages.blocks, sources)
    _show(output, report)
    return len(report.without_copy) + len(damages.hopeless)


def _repair_images(
    output: Output,
    repository: Repository,
    vm: str,
    images: list[DamagedImage],
    sources: list[BlockSource],
    *,
    apply: bool,
) -> int:
    """How many images are damaged still."""
    from xobackup.engine.repair import PoolSnapshots
    from xobackup.repository.repair.images import ImageRepairs, proven_image

    if not images:
        return 0
    remotes = [source for source in sources if not isinstance(source, PoolSnapshots)]
    if apply:
        with repository.lock(vm, timeout_s=LOCK_WAIT_S, purpose="repair") as directory:
            report = directory.repair_images(images, cast("list[ImageSource]", remotes))
    else:
        report = ImageRepairs()
    for image in images:
        place = dict(report.repaired).get(image, "")
        if apply:
            told = f"repaired from {place}" if place else "is whole" if image in report.whole else NO_COPY
        else:
            place = proven_image(repository.remote, image, cast("list[ImageSource]", remotes))
            told = f"would be written again from {place}" if place else NO_COPY
        state = ("repaired" if apply else "proposed") if place else "no-copy"
        output.record("image", {"vm": vm, "point": image.point.id, "state": state, "from": place})
        output.say(f"{image}: {image.problem}: {told}", style=None if place else "red")
    return len(report.without_copy) if apply else len(images)


def _propose(output: Output, damages: Damages, sources: list[BlockSource]) -> None:
    from vhd.block import BlockBuffer
    from xobackup.repository.repair.sources import proven_copy

    buffer = BlockBuffer()
    for number, block in enumerate(damages.blocks):
        place = proven_copy(block, sources, buffer)
        told = f"would be written again from {place}" if place else "nobody has a proven copy"
        _tell(output, block, told, state="proposed" if place else "no-copy", place=place, shown=number < SHOWN_MAX)
    _rest(output, len(damages.blocks))


def _show(output: Output, report: RepairReport) -> None:
    for number, (block, place) in enumerate(report.repaired):
        _tell(output, block, f"repaired from {place}", state="repaired", place=place, shown=number < SHOWN_MAX)
    _rest(output, len(report.repaired))
    for block in report.whole:
        _tell(output, block, "is not damaged any more", state="whole", place="", shown=True)
    for number, block in enumerate(report.without_copy):
        _tell(output, block, NO_COPY, state="no-copy", place="", shown=number < SHOWN_MAX)
    _rest(output, len(report.without_copy))
    if report.quarantine:
        output.record("quarantine", {"path": report.quarantine})
        output.say(f"what was there before is in {report.quarantine}: delete it when it is not needed")


def _tell(output: Output, block: DamagedBlock, told: str, *, state: str, place: str, shown: bool) -> None:
    facts = {"vm": block.vm, "lineage": block.lineage, "disk": block.disk, "block": block.index}
    output.record("block", {**facts, "state": state, "from": place, "points": block.points})
    if shown:
        style = "red" if state == "no-copy" else None
        output.say(f"{block}: {told}", style=style)
        if block.points:
            output.say(f"  touches {', '.join(block.points)}", style=style)


def _rest(output: Output, count: int) -> None:
    if count > SHOWN_MAX:
        output.say(f"and {count_text(count - SHOWN_MAX, 'block')} more; --json lists all")


@contextlib.contextmanager
def _sources(
    output: Output, config: Path | None, target: RemoteTarget, repository: Repository, given: list[str] | None
) -> Iterator[list[BlockSource]]:
    """Where to look, in this order: the repository itself, other remotes, pools."""
    from xobackup.config.errors import ConfigError
    from xobackup.repository.repair.sources import RepositorySource

    made: list[BlockSource] = [RepositorySource("this remote", repository.remote)]
    with contextlib.ExitStack() as held:
        try:
            configuration = read_configuration(config)
        except ConfigError:
            if given or config is not None:
                raise
            yield made
            return
        known = {*configuration.remotes, *configuration.pools}
        if given and (unknown := set(given) - known):
            names = ", ".join(sorted(known))
            raise ConfigError([f"--from: there is no remote or pool {sorted(unknown)[0]!r} (known: {names})"])
        for name in [*configuration.remotes, *configuration.pools]:
            if given and name not in given:
                continue
            try:
                source = _source(configuration, name, target, output)
            except ConfigError as error:
                output.note(f"{name} has no say: {error}")
                continue
            if source is not None:
                held.callback(source.close)
                made.append(source)
        yield made


def _source(
    configuration: Configuration, name: str, target: RemoteTarget, output: Output
) -> OtherRemote | PoolSnapshots | None:
    """The remote or pool of that name as a source; nothing for the remote that is repaired."""
    from xobackup.cli.jobs import pool_address, remote_target
    from xobackup.clock import SystemClock
    from xobackup.engine.repair import OtherRemote, PoolSnapshots
    from xobackup.engine.storage import open_repository
    from xobackup.xapi.session import Session

    clock = SystemClock()
    if name in configuration.pools:
        address = pool_address(configuration, name)
        return PoolSnapshots(name, lambda: Session.connect(address, clock=clock), output.note)
    other = remote_target(configuration, name)
    if target.name == name or target.url == other.url:
        return None
    return OtherRemote(name, lambda: open_repository(other, clock=clock), output.note)
