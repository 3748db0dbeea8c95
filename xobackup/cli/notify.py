"""``xobackup notify``: try the channels by which people are told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.notify.digest import Digest

app = typer.Typer(no_args_is_help=True, help="Who is told when something is wrong, and what happened.")

Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="All of [notify.NAME] when none is named.")]


@app.command()
def test(names: Names = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Send a message that says it is a test."""
    from xobackup.cli.notifying import channel_of
    from xobackup.clock import SystemClock
    from xobackup.notify.channels import NotSent, send
    from xobackup.notify.decide import Message
    from xobackup.notify.troubles import Kind, Trouble

    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    _refuse_unknown(configuration, names or [])
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


@app.command()
def digest(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Of [notify.NAME]; all that get one when none is named.")
    ] = None,
    show: Annotated[bool, typer.Option("--print", help="Show its text, send nothing.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write it as HTML, send nothing.", dir_okay=False)
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send the digest of the last day or week now, besides its time; or look at it."""
    from xobackup.cli.new_files import write_new
    from xobackup.clock import SystemClock
    from xobackup.config.errors import ConfigError

    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    _refuse_unknown(configuration, [name] if name else [], needed=not (show or html))
    names = [name] if name else [one for one, section in configuration.notify.items() if section.digest]
    now_s = SystemClock().now_s()
    if show or html:
        found = _digest_for(configuration, names[0] if names else None, now_s)
        output.record("digest", found.as_data())
        if show:
            output.say(found.body)
        if html is not None:
            write_new(html, found.html, force=True)
            output.note(f"written to {html}")
        return
    if not names:
        raise ConfigError(["nobody gets a digest"], hint='add digest = "daily" to a [notify.NAME]; or use --print')
    _send_digests(output, configuration, names, now_s)


def _send_digests(output: Output, configuration: Configuration, names: list[str], now_s: float) -> None:
    from xobackup.cli.notifying import channel_of
    from xobackup.config.errors import ConfigError
    from xobackup.notify.channels import NotSent, send

    failed = []
    for name in names:
        if configuration.notify[name].healthchecks is not None:
            raise ConfigError([f"notify.{name}: a check reads nothing"], hint="name one with apprise or a webhook")
        try:
            send(channel_of(configuration, name), _digest_for(configuration, name, now_s), now=now_s)
        except NotSent as error:
            failed.append(f"notify.{name}: {error}")
            output.record("channel", {"name": name, "ok": False, "error": str(error)})
            continue
        output.record("channel", {"name": name, "ok": True, "error": ""})
        output.say(f"{name}: sent", style="green")
    if failed:
        raise Outcome(Exit.SOME_FAILED if len(failed) < len(names) else Exit.FAILED, "\n".join(failed))


def _digest_for(configuration: Configuration, name: str | None, now_s: float) -> Digest:
    """As the channel would get it now; a daily one of everything without a channel."""
    from xobackup.cli.digests import LENGTHS, make_digest
    from xobackup.cli.notifying import channel_of, look
    from xobackup.config.notify import NotifySection
    from xobackup.notify.channels import Channel

    section = (
        configuration.notify[name] if name else NotifySection.model_validate({"webhook": "-", "digest": "daily"})
    )
    channel = channel_of(configuration, name) if name else Channel(name="")
    since_s = now_s - LENGTHS[section.digest or "daily"].total_seconds()
    return make_digest(configuration, section, channel, look(configuration, now_s), since_s=since_s, now_s=now_s)


def _refuse_unknown(configuration: Configuration, names: list[str], *, needed: bool = True) -> None:
    from xobackup.config.errors import ConfigError

    unknown = [name for name in names if name not in configuration.notify]
    if unknown or (needed and not configuration.notify):
        known = ", ".join(sorted(configuration.notify)) or "none"
        asked = f"there is no {unknown[0]!r}" if unknown else "nobody is to be told"
        raise ConfigError([f"{asked} (known: {known})"], hint="add [notify.NAME]; see docs/notifications.md")
