"""``xobackup seed``: restore points to a disk that travels, and from it to a remote that is far away."""

from __future__ import annotations

import contextlib
from importlib import metadata as packages
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.mirror import MS_PER_DAY, chosen_vms, mirror_vms, opened_remote
from xobackup.cli.options import ConfigOption, JsonOption
from xobackup.cli.output import Output
from xobackup.texts import count_text

if TYPE_CHECKING:
    from xobackup.engine.mirror.seed import Manifest

app = typer.Typer(no_args_is_help=True, help="Carry restore points to a far remote on a disk.")


@app.command()
def export(
    source: Annotated[str, typer.Option("--from", help="A remote of the configuration, or a URL. Only read.")],
    to: Annotated[str, typer.Option("--to", help="Path of the disk's directory, or a remote.")],
    vm: Annotated[list[str] | None, typer.Option("--vm", help="Only this VM: uuid or name; may be repeated.")] = None,
    job: Annotated[list[str] | None, typer.Option("--job-id", help="Only of this job; may be repeated.")] = None,
    days: Annotated[
        float | None, typer.Option("--days", min=0, help="Only what is not older than so many days.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy restore points to a disk, read them again from there, and write a manifest of what it carries."""
    from xobackup.cli.live import watching
    from xobackup.clock import SystemClock, utc
    from xobackup.engine.mirror import seed
    from xobackup.engine.mirror.choose import Filter
    from xobackup.engine.mirror.copy import Wish, refuse_same

    output, clock = Output(as_json=as_json), SystemClock()
    since_ms = 0 if days is None else round(clock.now_s() * 1000 - days * MS_PER_DAY)
    wish = Wish(filter=Filter(jobs=job or (), since_ms=since_ms), verify=True)
    with watching(output) as watch, contextlib.ExitStack() as stack:
        one, disk = (stack.enter_context(opened_remote(config, name)) for name in (source, to))
        refuse_same(one, disk)
        vms = chosen_vms(one, vm)
        seed.withdraw(disk)
        mirror_vms(watch, output, (one, disk), vms, wish)
        manifest = seed.Manifest(
            version=packages.version("xobackup"),
            source=one.remote.url,
            made_at=utc(clock.now_s()).isoformat(timespec="seconds"),
            points=seed.carried(disk, disk.vms()),
        )
        seed.write(disk, manifest)
        _show(output, disk.remote.url, manifest)


@app.command("import")
def import_seed(
    source: Annotated[str, typer.Option("--from", help="Path of the disk's directory, or a remote.")],
    to: Annotated[str, typer.Option("--to", help="A remote of the configuration, or a URL.")],
    vm: Annotated[list[str] | None, typer.Option("--vm", help="Only this VM: uuid or name; may be repeated.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the manifest of a disk, copy what the remote lacks, and read it again from there."""
    from xobackup.cli.live import watching
    from xobackup.engine.mirror import seed
    from xobackup.engine.mirror.copy import Wish, refuse_same

    output = Output(as_json=as_json)
    with watching(output) as watch, contextlib.ExitStack() as stack:
        disk, other = (stack.enter_context(opened_remote(config, name)) for name in (source, to))
        refuse_same(disk, other)
        manifest = seed.read(disk)
        _show(output, disk.remote.url, manifest)
        wrong = seed.problems(disk, manifest)
        for (uuid, point), error in wrong.items():
            output.record("failure", {"vm": uuid, "point": point, "error": error})
            output.say(f"{uuid} {point}: {error}", style="red")
        if wrong:
            raise Outcome(
                Exit.DAMAGE,
                f"{count_text(len(wrong), 'restore point')} of the seed not as exported; nothing was imported",
                hint="export again, or take what is whole with `xobackup mirror`",
            )
        mirror_vms(watch, output, (disk, other), chosen_vms(disk, vm), Wish(verify=True))


def _show(output: Output, where: str, manifest: Manifest) -> None:
    points = len(manifest.points)
    facts = {"disk": where, "source": manifest.source, "made_at": manifest.made_at, "version": manifest.version}
    output.record("seed", {**facts, "points": points})
    output.say(
        f"{where}: a seed of {manifest.source}, made {manifest.made_at} by xobackup {manifest.version}, "
        f"{count_text(points, 'restore point')}"
    )
