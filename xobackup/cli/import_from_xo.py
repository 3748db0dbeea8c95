"""``xobackup import-from-xo``: a configuration made of Xen Orchestra's."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.options import JsonOption
from xobackup.cli.output import Output
from xobackup.config.from_xo.credentials import Keeping
from xobackup.texts import count_text

if TYPE_CHECKING:
    from xobackup.config.from_xo.plan import Plan
    from xobackup.config.from_xo.records import Records
    from xobackup.xapi.tls import TlsPolicy

TOKEN_VARIABLE = "XO_TOKEN"  # noqa: S105 - the name of a variable
EXPORT_BYTES_MAX = 256 << 20
STYLES = {"refused": "red", "differs": "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach Xen Orchestra's REST API."""

    url: str
    token_file: Path | None
    ca: Path | None
    fingerprint: str | None
    insecure: bool


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import-from-xo")(import_from_xo)


def import_from_xo(
    export: Annotated[
        Path | None, typer.Argument(metavar="[EXPORT]", help="An exported configuration (.json, .json.gz), or -.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Ask this XO's REST API; beside an EXPORT only where VMs are.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="Holds the API's token.", show_default=f"${TOKEN_VARIABLE}")
    ] = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="Trust XO's certificate by this authority.")] = None,
    fingerprint: Annotated[str | None, typer.Option("--fingerprint", help="Trust this SHA-256 of it.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Trust any certificate.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write this file.", show_default="standard output")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    secrets: Annotated[
        Keeping, typer.Option("--secrets", help="Named for the environment, in files beside the output, or in clear.")
    ] = Keeping.ENV,
    pool: Annotated[
        list[str] | None,
        typer.Option("--pool", metavar="UUID=SERVER", help="Which server a pool or VM is on; may be repeated."),
    ] = None,
    with_disabled: Annotated[
        bool, typer.Option("--with-disabled", help="Also servers, remotes and schedules that are disabled in XO.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a configuration of Xen Orchestra's: pools, remotes and jobs, with ids under which chains go on."""
    from xobackup.config.errors import ConfigError
    from xobackup.config.from_xo.plan import Wishes, translate

    target = None if output is None or str(output) == "-" else output.absolute()
    if secrets is Keeping.FILES and target is None:
        raise ConfigError(["--secrets files: the files are written beside the output"], hint="name it with --output")
    if target is not None and not target.parent.is_dir():
        raise ConfigError([f"{target.parent}: there is no such directory to write {target.name} in"])
    access = None
    if url is not None:
        access = Access(url=url, token_file=token_file, ca=ca, fingerprint=fingerprint, insecure=insecure)
    records, source = _records(export, access)
    directory = target.with_name(f"{target.stem}.secrets") if target is not None else None
    plan = translate(
        records,
        source,
        Wishes(keeping=secrets, secrets_directory=directory, with_disabled=with_disabled, said=_said(pool or [])),
    )
    if target is not None:
        _write(plan, target, directory, force=force)
    _tell(plan, target, Output(as_json=as_json), secrets)


def _records(export: Path | None, access: Access | None) -> tuple[Records, str]:
    """What Xen Orchestra says, and whence."""
    from xobackup.config.errors import ConfigError

    if export is not None:
        from xobackup.config.from_xo.export import read_export

        raw, source = _read(export)
        records = read_export(raw, source)
        return (records if access is None else _from_rest(access, records)), source
    if access is None:
        hint = "name the file that Settings > Config > Export of Xen Orchestra gave, or --url"
        raise ConfigError(["there is nothing to import"], hint=hint)
    return _from_rest(access, None), access.url


def _from_rest(access: Access, records: Records | None) -> Records:
    from xobackup.cli.xo_rest import checked_token, checked_url, rest_client
    from xobackup.config.from_xo.rest import look_up, read_rest
    from xobackup.config.secrets import Secret, resolve

    policy = _policy(access)
    url = checked_url(access.url, policy)
    if access.token_file is not None:
        secret, key = Secret(file=access.token_file), "--token-file"
    else:
        secret, key = Secret(env=TOKEN_VARIABLE), "the API's token"
    with rest_client(url, checked_token(resolve(secret, key).strip()), policy) as get:
        return read_rest(get, url) if records is None else look_up(records, get, url)


def _policy(access: Access) -> TlsPolicy:
    from xobackup.config.errors import ConfigError
    from xobackup.xapi.tls import Ca, Fingerprint, SystemCa, Unverified

    if sum((access.ca is not None, access.fingerprint is not None, access.insecure)) > 1:
        raise ConfigError(["expected at most one of --ca, --fingerprint, --insecure"])
    if access.ca is not None:
        return Ca(access.ca)
    if access.fingerprint is not None:
        return Fingerprint(access.fingerprint)
    return Unverified() if access.insecure else SystemCa()


def _read(export: Path) -> tuple[bytes, str]:
    from xobackup.config.errors import ConfigError

    source = "standard input" if str(export) == "-" else str(export)
    try:
        if str(export) == "-":
            raw = sys.stdin.buffer.read(EXPORT_BYTES_MAX + 1)
        else:
            with export.open("rb") as file:
                raw = file.read(EXPORT_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError([f"{source}: {error.strerror}"]) from error
    if len(raw) > EXPORT_BYTES_MAX:
        raise ConfigError([f"{source}: larger than {EXPORT_BYTES_MAX >> 20} MiB, this is no configuration"])
    return raw, source


def _said(given: list[str]) -> dict[str, str]:
    from xobackup.config.errors import ConfigError

    pairs = [one.partition("=") for one in given]
    if any(not uuid or not server for uuid, _, server in pairs):
        raise ConfigError(["--pool: expected UUID=SERVER"])
    return {uuid: server for uuid, _, server in pairs}


def _write(plan: Plan, target: Path, directory: Path | None, *, force: bool) -> None:
    """Secrets first, so that the configuration never names a file that is not there."""
    from xobackup.cli.new_files import make_directory, refuse_existing, write_new

    files = [(Path(file.path), file.content) for file in plan.files]
    if not force:
        refuse_existing([target, *(path for path, _ in files)])
    if files and directory is not None:
        make_directory(directory)
    for path, content in files:
        write_new(path, content, force=force)
    write_new(target, plan.toml, force=force)


def _tell(plan: Plan, target: Path | None, output: Output, secrets: Keeping) -> None:
    """The configuration on standard output, everything about it on standard error."""
    for remark in plan.remarks:
        output.record("remark", {"level": remark.level, "about": remark.about, "text": remark.text})
        output.note(str(remark), style=STYLES.get(remark.level))
    for one in plan.missing:
        output.record("fill-in", {"key": one.key, "where": one.where})
        output.note(f"fill in: {one.key}: {one.where}")
    summary = {"jobs": list(plan.jobs), "refused": plan.refused, "output": None if target is None else str(target)}
    output.record("configuration", {**summary, "toml": plan.toml if target is None else None})
    if target is None and not output.as_json:
        sys.stdout.write(plan.toml)
        sys.stdout.flush()
    where = "" if target is None else f" in {target}"
    output.note(f"{count_text(len(plan.jobs), 'job')}{where}; next: xobackup config check, doctor, plan")
    if secrets is Keeping.INLINE:
        output.note("it holds secrets in clear", style="yellow")
    if plan.refused:
        raise Outcome(Exit.SOME_FAILED, f"{count_text(plan.refused, 'thing')} could not be translated, see above")
