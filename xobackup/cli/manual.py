"""``xobackup manual`` and ``xobackup completion``: manual pages and shell completions, made of the commands.

So they are never older than the program: packages call these two when they are built.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from xobackup.cli.exits import MEANINGS
from xobackup.texts import count_text

PROGRAM = "xobackup"
SHELLS = ("bash", "zsh", "fish")
FILES = (
    ("/etc/xobackup/xobackup.toml", "The configuration."),
    ("/etc/xobackup/xobackup.d/*.toml", "Its drop-ins, read after it in order of name."),
    ("/var/lib/xobackup", "The state directory: journals of runs, the history, what the service remembers."),
)
ENVIRONMENT = (
    ("XOBACKUP_CONFIG", "The configuration file, when --config does not name one."),
    ("XOBACKUP_DEBUG", "When set, errors are shown with their tracebacks."),
    ("CREDENTIALS_DIRECTORY", "Where secrets with a relative file are, as systemd sets it."),
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(manual)
    app.command()(completion)


def manual(
    directory: Annotated[Path, typer.Argument(help="Where to write them, such as /usr/local/share/man/man1.")],
) -> None:
    """Write the manual pages of all commands into a directory."""
    written = pages()
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in written.items():
        (directory / name).write_text(text)
    typer.echo(f"{count_text(len(written), 'page')} in {directory}")


def completion(shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print the completions for a shell; `xobackup --install-completion` puts them in place for this user."""
    from typer._completion_shared import get_completion_script

    if shell not in SHELLS:
        raise typer.BadParameter(f"expected {', '.join(SHELLS)}, found {shell!r}", param_hint="shell")
    typer.echo(get_completion_script(prog_name=PROGRAM, complete_var="_XOBACKUP_COMPLETE", shell=shell))


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One argument or option, as its command shows it. ``names``: ``--vm``; of an argument its metavar."""

    names: tuple[str, ...]
    value: str
    help: str
    argument: bool
    required: bool
    many: bool


def pages() -> dict[str, str]:
    """Every page in section 1 by its file's name, as roff."""
    from xobackup.cli.main import app

    root: Any = typer.main.get_command(app)
    commands = dict(_walk(root, ()))
    found = {}
    for path, command in commands.items():
        below = [(other, one) for other, one in commands.items() if other[:-1] == path and other]
        found[f"{_file(path)}.1"] = _page(path, command, below)
    return found


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, one in sorted(getattr(command, "commands", {}).items()):
        if not getattr(one, "hidden", False):
            yield from _walk(one, (*path, name))


def options_of(command: Any) -> list[Option]:
    """Of a command of typer's, hidden ones left out."""
    found = []
    for one in command.params:
        if getattr(one, "hidden", False):
            continue
        names = (*one.opts, *(getattr(one, "secondary_opts", None) or ()))
        argument = not names[0].startswith("-")
        word = (one.metavar or one.name or "").upper() if argument else one.metavar or (one.name or "").upper()
        found.append(
            Option(
                names=(word,) if argument else names,
                value="" if argument or getattr(one, "is_flag", False) else word,
                help=getattr(one, "help", None) or "",
                argument=argument,
                required=bool(getattr(one, "required", False)),
                many=one.nargs == -1 or bool(getattr(one, "multiple", False)),
            )
        )
    return found


def _page(path: tuple[str, ...], command: Any, below: list[tuple[tuple[str, ...], Any]]) -> str:
    name = _file(path)
    options = options_of(command)
    lines = [
        f'.TH "{roff(name.upper())}" "1" "" "xobackup {roff(_version())}" "xobackup"',
        ".ad l",
        ".SH NAME",
        f"{roff(name)} \\- {roff(_first(command.help))}",
        ".SH SYNOPSIS",
        f".B {roff(' '.join((PROGRAM, *path)))}",
        *_synopsis(options, bool(below)),
        ".SH DESCRIPTION",
        roff(" ".join((command.help or "").split())),
    ]
    if below:
        lines.append(".SH COMMANDS")
        for other, one in below:
            lines += [".TP", f".BR {roff(_file(other))} (1)", roff(_first(one.help))]
    if options:
        lines.append(".SH OPTIONS")
        for option in options:
            value = f" \\fI{roff(option.value)}\\fR" if option.value else ""
            named = ", ".join(f"\\fB{roff(one)}\\fR" for one in option.names)
            lines += [".TP", f"{named}{value}", roff(option.help) or "\\&"]
    if not path:
        for title, rows in (("FILES", FILES), ("ENVIRONMENT", ENVIRONMENT)):
            lines.append(f".SH {title}")
            for first, second in rows:
                lines += [".TP", f".B {roff(first)}", roff(second)]
    lines.append(".SH EXIT STATUS")
    for code, meaning in MEANINGS.items():
        lines += [".TP", f".B {code.value}", roff(meaning)]
    up = [path[:-1]] if path else []
    also = [f".BR {roff(_file(one))} (1)" for one in dict.fromkeys([*up, *(other for other, _ in below)])]
    if also:
        lines += [".SH SEE ALSO", *(f"{one} ," for one in also[:-1]), also[-1]]
    return "\n".join(lines) + "\n"


def _synopsis(options: list[Option], has_commands: bool) -> list[str]:
    shown = []
    for one in sorted(options, key=lambda option: option.argument):
        word = f"\\fI{roff(one.names[0])}\\fR" if one.argument else f"\\fB{roff(one.names[0])}\\fR"
        word += f" \\fI{roff(one.value)}\\fR" if one.value else ""
        word = word if one.required else f"[{word}]"
        shown.append(f"{word}..." if one.many else word)
    return [*shown, "\\fICOMMAND\\fR ..."] if has_commands else shown


def _file(path: tuple[str, ...]) -> str:
    return "-".join((PROGRAM, *path))


def _first(help_text: str | None) -> str:
    """Its first sentence, without the full stop."""
    return " ".join((help_text or "").split()).partition(". ")[0].rstrip(".")


def roff(text: str) -> str:
    """``text`` as it is: nothing in it is a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version(PROGRAM)
    except metadata.PackageNotFoundError:
        return ""
