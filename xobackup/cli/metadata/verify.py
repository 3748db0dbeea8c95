"""``xobackup metadata verify``: are the backups of pools whole, and what is in them?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import NotThere, Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.metadata.points import OfOption, each, find_point, name_of, of_pool, tell
from xobackup.cli.options import ConfigOption, JsonOption, RemoteOption
from xobackup.cli.output import Output
from xobackup.texts import count_text, size_text

if TYPE_CHECKING:
    from xobackup.repository.pools.verify import PoolVerdict

PointOption = Annotated[
    str | None, typer.Option("--point", help="Only this backup (or how its id begins); latest for the newest.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


def verify(
    remote: RemoteOption = None,
    of: OfOption = None,
    point: PointOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read every backup: is it what was written, is it XML to its end, and whose database is it?"""
    from xobackup.cli.live import watching

    output = Output(as_json=as_json)
    damaged = unread = seen = 0
    with watching(output) as watch:
        for name, backups in each(config, remote):
            listing = backups.points()
            damaged += tell(output, listing.problems)
            unread += sum(problem.severity == "unknown" for problem in listing.problems)
            points = of_pool(listing.points, of)
            for one in [find_point(points, point)] if point and points else points:
                meter = watch.progress.meter(f"{name_of(one)} on {name}", stage="verify", total_bytes=one.size)

                def told(count: int, meter: object = meter) -> None:
                    meter.add(count)  # type: ignore[attr-defined]
                    watch.cancel.check()

                try:
                    verdict = backups.verify(one, seen=told)
                finally:
                    watch.progress.drop(meter)
                _show(output, name, verdict)
                seen += 1
                damaged += sum(problem.severity == "damage" for problem in verdict.problems)
                unread += sum(problem.severity == "unknown" for problem in verdict.problems)
    if not seen and (of or point) and not damaged:
        raise NotThere("there is no such backup of a pool", hint="see `xobackup metadata list`")
    if damaged:
        raise Outcome(
            Exit.DAMAGE, f"{count_text(damaged, 'finding')} of damage", hint="see `xobackup metadata clean`"
        )
    if unread:
        raise Outcome(Exit.FAILED, "not everything could be read: nothing is known about that part")
    output.say(f"{count_text(seen, 'backup')} of pools: no damage found", style="green")


def _show(output: Output, remote: str, verdict: PoolVerdict) -> None:
    point, summary = verdict.point, verdict.summary
    output.record(
        "pool-verdict",
        {
            "remote": remote,
            "pool": point.pool_uuid,
            "id": point.id,
            "good": verdict.good,
            "with_digest": verdict.with_digest,
            "holds": summary.as_data() if summary else None,
            "problems": [asdict(problem) for problem in verdict.problems],
        },
    )
    for problem in verdict.problems:
        output.say(str(problem), style="red" if problem.severity == "damage" else "yellow")
    if summary is not None and not verdict.problems:
        counts = [
            count_text(len(names), noun)
            for names, noun in ((summary.hosts, "host"), (summary.srs, "SR"), (summary.vms, "VM"))
        ]
        digest = "compared with its digest" if verdict.with_digest else "no digest: only its structure can be told"
        what = f"{name_of(point)} {point.id} on {remote}"
        output.say(f"{what}: {', '.join(counts)}, {size_text(summary.size_bytes)}, {digest}")
