"""``xobackup remote``: can this storage be trusted with backups?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from xobackup.cli import encryption, keys
from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption
from xobackup.cli.output import Output
from xobackup.texts import size_text

app = typer.Typer(no_args_is_help=True, help="Test remotes and their encryption.")
app.add_typer(encryption.app, name="encryption")
app.add_typer(keys.app, name="key")


@app.command()
def test(
    remote: Annotated[str, typer.Argument(metavar="REMOTE", help="A remote of the configuration, or a URL.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the storage for everything a backup needs of it, in a scratch directory that is removed again."""
    from remotes import faces
    from remotes.conformance import PROMISES, run_promise, scratch_of
    from xobackup.cli.repositories import remote_targets
    from xobackup.engine.storage import open_remote_of

    output = Output(as_json=as_json)
    (target,) = remote_targets(config, remote)
    opened = open_remote_of(target)
    broken = 0
    try:
        with scratch_of(opened) as scratch:
            output.record("capabilities", asdict(opened.capabilities))
            for promise in PROMISES:
                check = run_promise(promise, scratch)
                broken += not check.ok
                output.record("check", asdict(check))
                verdict = "skipped" if check.skipped else "ok" if check.ok else "BROKEN"
                detail = f" ({check.detail})" if check.detail else ""
                output.say(f"{verdict:8} {check.name}{detail}", style=None if check.ok else "red")
        for remark in faces.remarks(opened):
            output.record("remark", asdict(remark))
            output.say(f"{remark.state:8} {remark.message}", style="yellow" if remark.state == "warning" else None)
            if remark.hint:
                output.say(f"         hint: {remark.hint}")
        usage = opened.usage()
        if usage is not None:
            output.record("usage", asdict(usage))
            output.say(f"{size_text(usage.free_bytes)} free of {size_text(usage.total_bytes)}")
    finally:
        opened.close()
    if broken:
        raise Outcome(Exit.FAILED, f"{opened.url}: {broken} promises broken", hint="do not keep backups there")
    output.say(f"{opened.url}: keeps every promise", style="green")


@app.command()
def accept(
    remote: Annotated[str, typer.Argument(metavar="REMOTE", help="A remote of the configuration.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take what is at a remote's URL now for that remote, although it was another repository, or none, before."""
    from xobackup.cli.jobs import remote_target
    from xobackup.cli.options import read_configuration
    from xobackup.cli.repositories import opened
    from xobackup.engine.known_remotes import forget, known_path
    from xobackup.repository.errors import BadMetadata
    from xobackup.repository.identity import DAMAGED, read_identity, set_damaged_aside

    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    with opened(remote_target(configuration, remote)) as repository:
        where, vms = repository.remote.url, len(repository.vms())
        try:
            found = read_identity(repository.remote)
        except BadMetadata as error:
            set_damaged_aside(repository.remote)
            output.say(f"{remote}: {error}; it is kept as {DAMAGED}")
            found = None
    was = forget(known_path(configuration.state_directory, remote))
    output.record(
        "accepted", {"remote": remote, "was": asdict(was) if was else None, "is": asdict(found) if found else None}
    )
    before = f"repository {was.id} of {was.since}" if was else "nothing that is remembered"
    now = f"repository {found.id} of {found.since}" if found else "no repository yet"
    output.say(f"{remote}: it was {before}; at {where} is {now}, with backups of {vms} VMs. The next run uses it.")
