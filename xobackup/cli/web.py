"""``xobackup web``: passwords and tokens for the status page and its API."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from xobackup.cli.errors import NotThere
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output

app = typer.Typer(no_args_is_help=True, help="Who may come in to the status page and its API.")
token_app = typer.Typer(no_args_is_help=True, help="Tokens for programs.")
app.add_typer(token_app, name="token")

PASSWORD_MIN = 8


@app.command()
def password() -> None:
    """Ask for a password (or read a line from a pipe) and print its hash, for [web.users.NAME] password_hash."""
    from xobackup.config.errors import ConfigError
    from xobackup.web.access import hash_password

    if sys.stdin.isatty():
        given = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != given:
            raise ConfigError(["the two are not the same"])
    else:
        given = sys.stdin.readline().rstrip("\n")
    if len(given) < PASSWORD_MIN:
        raise ConfigError([f"a password has at least {PASSWORD_MIN} characters, this one has {len(given)}"])
    typer.echo(hash_password(given))


@token_app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What it is for; shown in the audit log.")],
    role: Annotated[str, typer.Option("--role", help="viewer, operator or admin.")] = "viewer",
    expires: Annotated[str, typer.Option("--expires", help="30d, 1y, or never.")] = "90d",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it, once: only its hash is kept."""
    from xobackup.clock import SystemClock
    from xobackup.config.errors import ConfigError
    from xobackup.config.periods import seconds
    from xobackup.web.access import Role
    from xobackup.web.tokens import make_token

    if role not in ("viewer", "operator", "admin"):
        raise ConfigError([f"--role: expected viewer, operator or admin, found {role!r}"])
    if not name.isprintable() or not 0 < len(name) <= 100:
        raise ConfigError(["a token's name can be printed and has at most 100 characters"])
    now_s = SystemClock().now_s()
    try:
        ends_at = None if expires == "never" else now_s + seconds(expires)
        directory = read_configuration(config).state_directory
        word = make_token(directory, name, Role.named(role), now_s=now_s, ends_at=ends_at)
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    output = Output(as_json=as_json)
    output.record("token", {"name": name, "role": role, "ends_at": ends_at, "token": word})
    output.say(word)
    output.note("It is not shown again. Send it as: Authorization: Bearer TOKEN")


@token_app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Every token: what for, with which role, until when."""
    from xobackup.clock import SystemClock, utc
    from xobackup.web.tokens import read_tokens

    output = Output(as_json=as_json)
    now_s = SystemClock().now_s()
    rows = []
    for one in read_tokens(read_configuration(config).state_directory):
        output.record(
            "token", {"name": one.name, "role": one.role, "ends_at": one.ends_at, "holds": one.holds(now_s)}
        )
        until = "for ever" if one.ends_at is None else f"{utc(one.ends_at):%Y-%m-%d %H:%M} UTC"
        rows.append([one.name, one.role, f"{utc(one.made_at):%Y-%m-%d}", until, "" if one.holds(now_s) else "over"])
    if rows:
        output.table(None, ["token!", "role!", "made!", "holds until!", ""], rows)
    else:
        output.say("there is no token")


@token_app.command("revoke")
def revoke(name: str, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make a token worthless, at once."""
    from xobackup.web.tokens import revoke_token

    output = Output(as_json=as_json)
    if not revoke_token(read_configuration(config).state_directory, name):
        raise NotThere(f"there is no token {name!r}", hint="`xobackup web token list` shows those there are")
    output.record("revoked", {"name": name})
    output.say(f"{name}: revoked")
