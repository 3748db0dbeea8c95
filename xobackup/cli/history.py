"""``xobackup history``: what happened, from the database that is made from the journals."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xobackup.cli.errors import NotThere
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output
from xobackup.texts import count_text, duration_text, size_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xobackup.history.store import Store

app = typer.Typer(no_args_is_help=True, help="Runs of the past: what they did, for years.")

Number = Annotated[int, typer.Option("--number", "-n", min=1, max=100_000, help="At most so many, the newest.")]


@app.command("list")
def list_(
    number: Number = 30,
    job: Annotated[str | None, typer.Option("--job", help="Only runs of this job.")] = None,
    outcome: Annotated[str | None, typer.Option("--outcome", help="Only runs that ended so: failed, ok, ...")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Runs, the newest first."""
    from xobackup.cli.history_store import opened_history
    from xobackup.history import ask

    output = Output(as_json=as_json)
    with opened_history(read_configuration(config)) as store:
        found = ask.runs(store, limit=number, job=job, outcome=outcome)
    for row in found:
        output.record("run", dict(row))
    if not found:
        output.say("no run is known")
        return
    columns = ["run!", "began!", "job!", "outcome!", "time>!", "VMs", "read>!"]
    output.table(None, columns, [_run_row(row) for row in found])


@app.command()
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Its id, or how that begins.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """One run in depth: its VMs with their phases, disks, restore points, and all that was said."""
    from xobackup.cli.history_store import opened_history
    from xobackup.history import ask

    output = Output(as_json=as_json)
    with opened_history(read_configuration(config)) as store:
        found = ask.run(store, _one_run(store, run))
    assert found is not None
    output.record("run", found)
    if as_json:
        return
    of_job = f" of job {found['job']}" if found["job"] else ""
    output.say(f"{found['verb']}{of_job} on {found['host']}, {found['run_id']}")
    ended = found["outcome"] if found["ended_at"] else "still goes on"
    output.say(f"began {_moment(found['began_at'])}, {ended} after {duration_text(found['duration_s'])}")
    for message in found["messages"]:
        output.say(f"{message['level']}: {_said(message)}", style=_STYLES.get(message["level"]))
    for one in found["subjects"]:
        _show_subject(output, one)
    for row in found["traffic"]:
        sent, received = size_text(row["sent_bytes"]), size_text(row["received_bytes"])
        asked = count_text(row["requests"], "request")
        output.say(f"{row['remote']}: {asked}, {sent} sent, {received} received")


@app.command()
def vm(
    name: Annotated[str, typer.Argument(metavar="VM", help="A VM or pool, by its uuid or exact name.")],
    number: Number = 30,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What became of one VM, run by run."""
    from xobackup.cli.history_store import opened_history
    from xobackup.history import ask

    output = Output(as_json=as_json)
    with opened_history(read_configuration(config)) as store:
        uuids = ask.uuids_called(store, name)
        if not uuids:
            raise NotThere(f"no run knows a VM {name!r}", hint="`xobackup status` lists those it knows")
        rows = [row for uuid in uuids for row in ask.subjects(store, uuid, limit=number)]
    rows.sort(key=lambda row: -row["began_at"])
    for row in rows[:number]:
        output.record("vm-run", {"of": row["kind"], **{key: value for key, value in row.items() if key != "kind"}})
    columns = ["began!", "run!", "job!", "outcome!", "disks!", "read>!", "time>!", "remarks"]
    shown = [
        [
            _moment(row["began_at"]),
            row["run_id"][:8],
            row["job"],
            row["outcome"],
            _disks(row),
            size_text(row["read_bytes"]) if row["read_bytes"] else "",
            duration_text(row["duration_s"]),
            row["reason"],
        ]
        for row in rows[:number]
    ]
    output.table(None, columns, shown)


@app.command()
def forget(
    name: Annotated[str, typer.Argument(metavar="VM", help="A VM or pool, by its uuid or exact name.")],
    job: Annotated[str | None, typer.Option("--job", help="Only in this job.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """No longer count a VM that is gone for good as late. Its runs and its backups stay."""
    from xobackup.cli.history_store import opened_history
    from xobackup.history import ask

    output = Output(as_json=as_json)
    with opened_history(read_configuration(config)) as store:
        uuids = ask.uuids_called(store, name)
        if len(uuids) > 1:
            raise NotThere(f"several are called {name!r}: {', '.join(uuids)}", hint="name it by its uuid")
        count = store.forget(uuids[0], job) if uuids else 0
    if not count:
        raise NotThere(f"nothing called {name!r} is counted", hint="`xobackup status` lists what is")
    output.record("forgotten", {"uuid": uuids[0], "jobs": count})
    output.say(f"{name} is no longer counted in {count_text(count, 'job')}; a run that backs it up counts it again")


@app.command()
def rebuild(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make the database again of the journals that are left. A file that is there is set aside, not deleted."""
    from xobackup.cli.history_store import collect, history_url, set_aside
    from xobackup.history.store import open_store

    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    aside = set_aside(configuration)
    store = open_store(history_url(configuration))
    try:
        found = collect(configuration, store)
    finally:
        store.close()
    unreadable = [str(path) for path in found.unreadable]
    output.record("rebuilt", {"runs": found.runs, "unreadable": unreadable, "aside": str(aside or "")})
    if aside:
        output.say(f"what was there is now {aside}")
    output.say(f"{count_text(found.runs, 'run')} taken from the journals")
    for path in unreadable:
        output.say(f"{path} tells of no run", style="yellow")


def _one_run(store: Store, beginning: str) -> str:
    from xobackup.history import ask

    found = ask.run_ids(store, beginning)
    if not found:
        raise NotThere(f"no run's id begins with {beginning!r}", hint="`xobackup history list` shows the newest")
    if len(found) > 1 and beginning not in found:
        raise NotThere(f"several runs' ids begin with {beginning!r}: {', '.join(found)}", hint="give more of it")
    return beginning if beginning in found else found[0]


_STYLES = {"error": "red", "warning": "yellow"}


def _run_row(row: Mapping[str, Any]) -> list[str]:
    counts = [f"{row[key]} {key}" for key in ("ok", "failed", "skipped") if row[key]]
    return [
        row["run_id"][:8],
        _moment(row["began_at"]),
        row["job"] or f"({row['verb']})",
        row["outcome"],
        duration_text(row["duration_s"]) if row["ended_at"] else "",
        ", ".join(counts),
        size_text(row["read_bytes"]) if row["read_bytes"] else "",
    ]


def _show_subject(output: Output, one: Mapping[str, Any]) -> None:
    name = one["name"] or one["uuid"]
    read = f", {size_text(one['read_bytes'])} read" if one["read_bytes"] else ""
    reason = f": {one['reason']}" if one["reason"] else ""
    title = f"{name}: {one['outcome']} in {duration_text(one['duration_s'])}{read}{reason}"
    if one["phases"]:
        rows = [
            [
                phase["phase"] + (f" ({phase['attempt']}.)" if phase["attempt"] > 1 else ""),
                _moment(phase["began_at"], seconds=True),
                "" if phase["duration_s"] is None else duration_text(phase["duration_s"]),
                phase["error"] or ("did not end" if phase["ok"] is None else ""),
            ]
            for phase in one["phases"]
        ]
        output.table(title, ["phase!", "began!", "time>!", "remarks"], rows)
    else:
        output.say(title)
    for disk in one["disks"]:
        slow = f", slowest: {disk['bottleneck']}" if disk["bottleneck"] else ""
        read = size_text(disk["read_bytes"])
        packed = "" if disk["packed"] is None else f", a sample compresses to {disk['packed']:.0%}"
        output.say(
            f"  {disk['name'] or disk['disk'] or 'all disks'}: {disk['mode']}, {read}, {disk['via']}{packed}{slow}"
        )
        if disk["reasons"]:
            output.say(f"    {disk['reasons']}")
    for point in one["points"]:
        output.say(f"  {point['remote']}: restore point {point['point']}, {size_text(point['size_bytes'])}")
    for check in one["checks"]:
        how = f"up in {duration_text(check['duration_s'])}" if check["ok"] else f"FAILED: {check['reason']}"
        output.say(f"  health check of {check['point']} from {check['remote']}: {how}")
    for message in one["messages"]:
        output.say(f"  {message['level']}: {_said(message)}", style=_STYLES.get(message["level"]))


def _said(message: Mapping[str, Any]) -> str:
    where = f"{message['remote']}: " if message["remote"] else ""
    hint = f" ({message['hint']})" if message["hint"] else ""
    return f"{where}{message['text']}{hint}"


def _disks(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{row[key]} {word}" for key, word in (("fulls", "full"), ("deltas", "delta")) if row[key])


def _moment(at: float, *, seconds: bool = False) -> str:
    """In the zone of whoever looks."""
    moment = datetime.fromtimestamp(at).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S}" if seconds else f"{moment:%Y-%m-%d %H:%M}"
