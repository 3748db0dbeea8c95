"""Options that several commands share, declared once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.engine.job import Job
    from xobackup.engine.mirror.job import MirrorJob

LOCK_WAIT_S = 15.0
"""How long commands wait for a VM's lock: that of a process that was killed is stale after ten seconds."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The configuration file.",
        show_default="$XOBACKUP_CONFIG or /etc/xobackup/xobackup.toml",
        dir_okay=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON lines on standard output, for programs.")]
LogFormatOption = Annotated[
    str | None,
    typer.Option("--log-format", metavar="FORMAT", help="Of the log on standard error: text or json."),
]
RemoteOption = Annotated[
    str | None,
    typer.Option("--remote", "-r", help="A remote of the configuration, or a URL such as file:///mnt/backups."),
]
JobArguments = Annotated[list[str] | None, typer.Argument(metavar="JOB", help="All jobs when none is named.")]
OnlyVmsOption = Annotated[
    list[str] | None,
    typer.Option("--vm", help="Only this VM of the job: its uuid or its exact name; may be repeated."),
]
FullOption = Annotated[bool, typer.Option("--full", help="Read every disk whole this time, no deltas.")]
AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="TIME",
        help="As it was then, from old versions a bucket keeps: 2026-11-26T03:00 (UTC), or with an offset.",
    ),
]
VmOption = Annotated[str | None, typer.Option("--vm", help="Only this VM: its uuid or its name.")]


def wants_json(arguments: list[str]) -> bool:
    """Whether ``--json`` was given, for errors that happen before or after the options were parsed."""
    return "--json" in arguments


def checked_format(given: str | None) -> str | None:
    """What ``--log-format`` says."""
    if given not in (None, "text", "json"):
        raise typer.BadParameter(f"expected text or json, found {given!r}", param_hint="--log-format")
    return given


def read_configuration(path: Path | None) -> Configuration:
    """The configuration ``--config`` names."""
    from xobackup.config.load import configuration_path, load_configuration

    return load_configuration(configuration_path(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What ``plan`` and ``run`` are told: which jobs, how narrowed for this once, and how to answer."""

    jobs: list[str] | None
    vm: list[str] | None
    full: bool
    config: Path | None
    as_json: bool

    def chosen(self, configuration: Configuration) -> list[Job]:
        """The jobs that were named and read pools, for this once narrowed to the VMs that were named and to fulls."""
        from xobackup.cli.jobs import jobs_for

        return jobs_for(configuration, self.jobs, vms=self.vm, full=self.full)

    def mirrors(self, configuration: Configuration) -> list[MirrorJob]:
        """The mirrors among them."""
        from xobackup.cli.mirror_jobs import mirror_jobs_for

        return mirror_jobs_for(configuration, self.jobs, self.vm)


def job_command(app: typer.Typer, verb: Callable[[JobOptions], None]) -> None:
    """Add ``verb`` as a command that takes jobs: named like the function, described by its docstring."""

    def command(
        jobs: JobArguments = None,
        vm: OnlyVmsOption = None,
        full: FullOption = False,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        verb(JobOptions(jobs=jobs, vm=vm, full=full, config=config, as_json=as_json))

    app.command(verb.__name__, help=verb.__doc__)(command)
