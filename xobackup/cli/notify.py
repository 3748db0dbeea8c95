"""``xobackup notify``: try the channels by which people are told."""

from __future__ import annotations

from typing import Annotated

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output

app = typer.Typer(no_args_is_help=True, help="Who is told when something is wrong.")

Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="All of [notify.NAME] when none is named.")]


@app.command()
def test(names: Names = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Send a message that says it is a test."""
    from xobackup.cli.notifying import channel_of
    from xobackup.clock import SystemClock
    from xobackup.config.errors import ConfigError
    from xobackup.notify.channels import NotSent, send
    from xobackup.notify.decide import Message
    from xobackup.notify.troubles import Kind, Trouble

    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    unknown = [name for name in names or () if name not in configuration.notify]
    if unknown or not configuration.notify:
        known = ", ".join(sorted(configuration.notify)) or "none"
        asked = f"there is no {unknown[0]!r}" if unknown else "nobody is to be told"
        raise ConfigError([f"{asked} (known: {known})"], hint="add [notify.NAME]; see docs/notifications.md")
    text = "this is a test: nothing is wrong"
    trouble = Trouble(key="test", kind=Kind.SERVICE, job="", about="xobackup", text=text)
    message = Message(title=f"xobackup: {text}", new=(trouble,), again=(), over=(), open=0)
    failed = []
    for name in names or configuration.notify:
        try:
            send(channel_of(configuration, name), message, now=SystemClock().now_s(), trial=True)
        except NotSent as error:
            failed.append(f"notify.{name}: {error}")
            output.record("channel", {"name": name, "ok": False, "error": str(error)})
            continue
        output.record("channel", {"name": name, "ok": True, "error": ""})
        output.say(f"{name}: sent", style="green")
    if failed:
        some = len(failed) < len(names or configuration.notify)
        raise Outcome(Exit.SOME_FAILED if some else Exit.FAILED, "\n".join(failed))
