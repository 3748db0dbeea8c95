"""``xobackup support-bundle``."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xobackup.cli.options import ConfigOption, JsonOption
from xobackup.cli.output import Output
from xobackup.texts import count_text, size_text

if TYPE_CHECKING:
    from xobackup.cli.support.contents import Place

DOCTOR_S = 120.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("support-bundle")(support_bundle)


def support_bundle(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write.", show_default="./xobackup-support-TIME.tar.gz"),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no pool and no remote.")] = False,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Without names, addresses and messages; ids, times and sizes stay.")
    ] = False,
    runs: Annotated[int, typer.Option("--runs", min=0, max=100, help="Journals of so many runs.")] = 5,
    log: Annotated[
        list[Path] | None, typer.Option("--log", help="A log file, of which the end is put in; may be repeated.")
    ] = None,
    doctor_wait: Annotated[
        float, typer.Option("--doctor-wait", min=1, metavar="SECONDS", help="How long to look at pools and remotes.")
    ] = DOCTOR_S,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put into one file what somebody needs who is asked for help: settings, versions, journals; no secrets."""
    from xobackup.cli.support.anonymous import Anonymous
    from xobackup.cli.support.archive import Part, Written, listing, scrubbed, write
    from xobackup.cli.support.contents import parts_of
    from xobackup.clock import SystemClock, utc
    from xobackup.config.load import configuration_path
    from xobackup.scrub import Scrubber

    told = Output(as_json=as_json)
    now_s = SystemClock().now_s()
    path = output or Path(f"xobackup-support-{utc(now_s):%Y%m%dT%H%M%SZ}.tar.gz")
    place, values, notes = _place(configuration_path(config), runs, tuple(log or ()), anonymous)
    scrubber = Scrubber(values)
    parts = parts_of(place, doctor_s=None if offline else doctor_wait)
    if anonymous:
        veil = Anonymous(secrets.token_bytes(16))
        parts = [Part(name=one.name, about=one.about, content=veil.data(one.content)) for one in parts]
        notes.append("Names, addresses and messages were replaced by words that say nothing.")
    files = scrubbed(parts, scrubber)
    notes += [f"{name}: too short to be searched for" for name in scrubber.too_short]
    notes.append(f"{count_text(len(values), 'secret')} searched for, {sum(scrubber.removed.values())} times removed.")
    if anonymous:
        notes = [scrubber.clean_text(one) for one in notes if ":" not in one]
    head = listing(files, [scrubber.clean_text(one) for one in notes])
    files = [Written(name="CONTENTS.txt", about="this list", data=scrubber.clean(head.encode())), *files]
    size = write(path, files, scrubber, now_s)
    for one in files:
        told.record("part", {"name": one.name, "about": one.about, "bytes": len(one.data)})
    told.record("support-bundle", {"path": str(path), "bytes": size, "notes": notes})
    told.table(None, ["in it!", "size>!", "what"], [[one.name, size_text(len(one.data)), one.about] for one in files])
    for line in notes:
        told.say(line)
    told.say(f"{path}: {size_text(size)}. Look at it before you send it.")


def _place(path: Path, runs: int, logs: tuple[Path, ...], anonymous: bool) -> tuple[Place, dict[str, str], list[str]]:
    """Where to look, the words that must not get in, and what to say of them."""
    from xobackup.cli.support.contents import Place
    from xobackup.config.errors import ConfigError
    from xobackup.config.load import load_configuration, load_raw
    from xobackup.config.model import Configuration
    from xobackup.config.secret_places import known_values, suspects

    usual = Configuration().state_directory
    try:
        configuration = load_configuration(path)
    except ConfigError as error:
        problem = "; ".join(error.problems)
        values: dict[str, str] = {}
        raw: dict[str, Any] = {}
        try:
            raw = load_raw(path)
            values, _ = suspects(raw)
        except ConfigError:
            problem = "it is no TOML, or cannot be read"  # of which a message might quote anything
        given = raw.get("state_directory")
        known = bool(values)
        state = Path(given) if isinstance(given, str) else usual
        note = "The configuration cannot be used: every text in it counted as secret, and journals were left out."
        place = Place(
            path=path,
            state=state,
            configuration=None,
            problem=problem,
            secrets_known=known,
            logs=logs,
            anonymous=anonymous,
        )
        return place, values, [note]
    values, unread = known_values(configuration)
    place = Place(
        path=path,
        state=configuration.state_directory,
        configuration=configuration,
        journals=runs,
        logs=logs,
        anonymous=anonymous,
    )
    return place, values, [f"not searched for, because it could not be read: {one}" for one in unread]
