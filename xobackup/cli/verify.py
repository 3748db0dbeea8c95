"""``xobackup verify``: are the backups whole, and do they hold what was written?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli import repositories
from xobackup.cli.coverage import show_coverage
from xobackup.cli.errors import NotThere, Outcome
from xobackup.cli.examined import examining
from xobackup.cli.exits import Exit
from xobackup.cli.options import AsOfOption, ConfigOption, JsonOption, RemoteOption, VmOption
from xobackup.cli.output import Output
from xobackup.texts import count_text, size_text

if TYPE_CHECKING:
    from xobackup.repository.slices import Slice
    from xobackup.repository.verify import VerifyReport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


def verify(
    remote: RemoteOption = None,
    vm: VmOption = None,
    point: Annotated[
        list[str] | None, typer.Option("--point", help="Only this restore point (with --vm); may be repeated.")
    ] = None,
    latest: Annotated[bool, typer.Option("--latest", help="Only the newest restore point of each VM.")] = False,
    percent: Annotated[
        float, typer.Option("--percent", min=0, max=100, help="Share of the blocks to read; 0 = structure only.")
    ] = 100.0,
    seed: Annotated[int, typer.Option("--seed", help="Which blocks a share takes; another seed, other blocks.")] = 0,
    slice_: Annotated[
        str | None,
        typer.Option("--slice", help="2%: what was verified longest ago; 3/30: the third of thirty fixed parts."),
    ] = None,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Read nothing; tell how much was verified, and how long ago.")
    ] = False,
    as_of: AsOfOption = None,
    days: Annotated[float, typer.Option("--days", min=0, help="What --coverage counts as recent.")] = 30.0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the structure of restore points, and their blocks against the digests of what was written."""
    from xobackup.cli.live import watching
    from xobackup.cli.verbs.verifying import note_verified, verify_points
    from xobackup.repository.verify import VerifyOptions, VerifyReport

    if coverage:
        show_coverage(Output(as_json=as_json), repositories.each(config, remote, vm, as_of=as_of), days)
        return
    chosen = _slice(slice_, percent)
    if point and vm is None:
        raise NotThere("--point needs --vm: restore points are named by their time, every VM has its own")
    wanted = [*(point or []), *([repositories.LATEST] if latest else [])]
    output = Output(as_json=as_json)
    total = VerifyReport()
    whole = not wanted and percent == 100 and chosen is None
    with watching(output) as watch, examining(config, "verify") as notes:
        for name, repository, vms in repositories.each(config, remote, vm, as_of=as_of):
            for uuid in vms:
                if not ((latest or as_of) and not repository.points(uuid).points):
                    asked = VerifyOptions(fraction=percent / 100, seed=seed, slice=chosen, remember=as_of is None)
                    found = verify_points(
                        repository,
                        uuid,
                        wanted,
                        asked,
                        remote=name,
                        progress=watch.progress,
                        cancel=watch.cancel,
                    )
                    total.add(found)
                    if as_of is None:
                        note_verified(notes, name, repository, uuid, found, all_of_it=whole)
    _show(output, total)


def _slice(text: str | None, percent: float) -> Slice | None:
    from xobackup.repository.slices import parse_slice

    if text is None:
        return None
    if percent != 100.0:
        raise Outcome(Exit.USAGE, "expected one of --slice and --percent, found both")
    try:
        return parse_slice(text)
    except ValueError as error:
        raise Outcome(Exit.USAGE, f"--slice: {error}") from None


def _show(output: Output, report: VerifyReport) -> None:
    from xobackup.cli.verbs.verifying import incomplete

    for problem in report.problems:
        output.record("problem", asdict(problem))
        style = "red" if problem.severity == "damage" else "yellow"
        output.say(str(problem), style=style)
        if problem.points:
            output.say(f"  touches {', '.join(problem.points)}", style=style)
    coverage = report.coverage
    output.record("coverage", {"points": report.points, "damaged": report.damaged, **asdict(coverage)})
    counted = [
        count_text(number, noun)
        for number, noun in (
            (len(report.points), "restore point"),
            (coverage.disks, "disk"),
            (coverage.blocks, "block"),
        )
    ]
    read = f"{coverage.read} read ({size_text(coverage.bytes_read - coverage.image_bytes)})"
    output.say(f"{', '.join(counted)}: {read}, {coverage.compared} compared with their digests")
    if coverage.images:
        told = f"{size_text(coverage.image_bytes)} read, {coverage.images_compared} compared with their checksums"
        output.say(f"{count_text(coverage.images, 'full backup')}: {told}")
    if coverage.blocks - coverage.with_digest:
        output.say(
            f"{coverage.blocks - coverage.with_digest} blocks have no digest: only their structure can be told"
        )
    if bad := incomplete(report):
        raise Outcome(Exit.DAMAGE if report.damaged else Exit.FAILED, bad[0], hint=bad[1] or None)
    output.say("no damage found", style="green")
