"""``xobackup health-check``: restore points are restored, booted, asked, and removed; replicas are cloned."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xobackup.cli.errors import NotThere, Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.health_results import Done, Wanted, found_out, sampled, write_report
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output
from xobackup.texts import count_text, size_text

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.engine.health.request import CheckRequest, CheckResult
    from xobackup.engine.restore.plan import RestorePlan
    from xobackup.engine.world import World
    from xobackup.repository.repository import Repository
    from xobackup.xapi.session import Session

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
VmsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[VM]...", help="VMs as backed up: uuids or names.", show_default="all that are there"),
]
RemoteOption = Annotated[
    str | None, typer.Option("--remote", "-r", help="A remote of the configuration, or a URL.", show_default=False)
]
PoolOption = Annotated[str | None, typer.Option("--pool", "-p", help="The pool to restore to.", show_default=False)]
SrOption = Annotated[str | None, typer.Option("--sr", help="SR for the disks: uuid or name.", show_default=False)]
ReplicaOption = Annotated[
    str | None,
    typer.Option(
        "--replica",
        metavar="TARGET",
        help="Clones of the replicas on this target, where they are, instead of a remote, pool and SR.",
        show_default=False,
    ),
]
PointOption = Annotated[str, typer.Option("--point", help="A restore point of the one VM named.")]
EveryOption = Annotated[
    str | None, typer.Option("--every", metavar="TIME", help="Only VMs not checked for so long (7d, 12h).")
]
CountOption = Annotated[int | None, typer.Option("--vms", min=1, help="At most so many VMs, oldest check first.")]
TimeoutOption = Annotated[str, typer.Option("--timeout", metavar="TIME", help="From its start to the last answer.")]
NetworkOption = Annotated[
    str | None,
    typer.Option("--network", help="An isolated network for all NICs (new MACs).", show_default="no NICs"),
]
ToolsOption = Annotated[bool, typer.Option("--tools/--no-tools", help="Wait for the guest tools.")]
ScriptOption = Annotated[
    bool | None,
    typer.Option("--script/--no-script", help="Wait for the script in the guest.", show_default="by the VM's tag"),
]
MemoryOption = Annotated[
    bool, typer.Option("--memory/--no-memory", help="Resume a VM taken with its memory; or boot.")
]
TcpOption = Annotated[list[int] | None, typer.Option("--tcp", metavar="PORT", help="A TCP port that must answer.")]
CommandOption = Annotated[
    list[str] | None, typer.Option("--command", help="A command on this machine that must succeed.")
]
ReportOption = Annotated[Path | None, typer.Option("--report", help="Write a report: FILE.html or FILE.json.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be checked.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("health-check")(health_check)


def health_check(
    vms: VmsArgument = None,
    remote: RemoteOption = None,
    pool: PoolOption = None,
    sr: SrOption = None,
    replica: ReplicaOption = None,
    point: PointOption = "latest",
    every: EveryOption = None,
    count: CountOption = None,
    timeout: TimeoutOption = "10m",
    network: NetworkOption = None,
    tools: ToolsOption = True,
    script: ScriptOption = None,
    memory: MemoryOption = True,
    tcp: TcpOption = None,
    command: CommandOption = None,
    report: ReportOption = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Boot VMs from their restore points, see whether they come up, and remove them."""
    from xobackup.cli.examined import tell_now
    from xobackup.cli.health_replicas import check_replicas
    from xobackup.engine.health.request import CheckRequest, Probe

    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    if report is not None and report.suffix not in (".html", ".json"):
        raise NotThere(f"--report: expected a name that ends with .html or .json, found {str(report)!r}")
    where = {"--remote": remote, "--pool": pool, "--sr": sr}
    _one_or_the_other(where, replica)
    probes = [Probe(tcp=port) for port in tcp or ()]
    probes += [Probe(command=_words(text)) for text in command or ()]
    request = CheckRequest(
        sr=sr or "",
        network=network,
        timeout_s=_seconds("--timeout", timeout),
        tools=tools,
        script=script,
        memory=memory,
        probes=tuple(probes),
    )
    every_s = None if every is None else _seconds("--every", every)
    if point != "latest" and len(vms or ()) != 1:
        raise NotThere("--point: name the one VM that it is of")
    wanted = Wanted(vms=list(dict.fromkeys(vms or ())), point=point, every_s=every_s, count=count, dry_run=dry_run)
    if replica is not None:
        done = check_replicas(output, configuration, replica, wanted, request, report=report)
    else:
        assert remote is not None
        assert pool is not None
        done = _check_remote(output, configuration, config, wanted, request, report=report, remote=remote, pool=pool)
    if dry_run:
        output.say("nothing was created: this was a dry run")
        return
    if done.results:
        tell_now(config)
    if bad := sum(not one.ok for one in done.results) + done.refused:
        code = Exit.SOME_FAILED if bad < done.vms else Exit.FAILED
        raise Outcome(code, f"{bad} of {count_text(done.vms, 'health check')} failed")


def _one_or_the_other(where: dict[str, str | None], replica: str | None) -> None:
    """A remote with the place to restore to, or a target with its replicas."""
    given = [name for name, text in where.items() if text is not None]
    missing = [name for name, text in where.items() if text is None]
    if replica is not None and given:
        raise NotThere(f"--replica: its clones are made where the replicas are; leave out {', '.join(given)}")
    if replica is None and missing:
        raise NotThere(
            f"health-check: {', '.join(missing)} not given",
            hint="a restore point of a remote needs --remote, --pool and --sr; a replica --replica TARGET alone",
        )


def _check_remote(
    output: Output,
    configuration: Configuration,
    config: Path | None,
    wanted: Wanted,
    request: CheckRequest,
    *,
    report: Path | None,
    remote: str,
    pool: str,
) -> Done:
    from xobackup.cli import repositories
    from xobackup.cli.jobs import pool_address
    from xobackup.cli.shared_limits import limited_world

    (target,) = repositories.remote_targets(config, remote)
    with (
        limited_world(output, configuration, target.name, f"pool:{pool}") as world,
        repositories.opened(target) as repository,
        contextlib.closing(world.connect(pool_address(configuration, pool))) as session,
    ):
        named = [repositories.find_vm(repository, vm) for vm in wanted.vms]
        uuids = sampled(output, world, named or _all(repository), wanted)
        checks = _Checks(world, session, repository, output, request, remote=target.name, pool=pool)
        results = checks.run(uuids, wanted.point, dry_run=wanted.dry_run)
        if report is not None and not wanted.dry_run:
            write_report(report, results, world)
    return Done(results=results, refused=checks.refused, vms=len(uuids))


class _Checks:
    """One VM after the other."""

    def __init__(
        self,
        world: World,
        session: Session,
        repository: Repository,
        output: Output,
        request: CheckRequest,
        *,
        remote: str,
        pool: str,
    ) -> None:
        self._world, self._session, self._repository = world, session, repository
        self._output, self._request, self._remote, self._pool = output, request, remote, pool
        self.refused = 0
        """VMs that could not even be planned."""

    def run(self, uuids: list[str], point: str, *, dry_run: bool) -> list[CheckResult]:
        """What was found, in that order."""
        from xobackup.engine.errors import UsageError

        results: list[CheckResult] = []
        for uuid in uuids:
            try:
                plan = self._plan(uuid, point)
            except UsageError as error:
                if len(uuids) == 1:
                    raise
                self.refused += 1
                self._output.error(f"{uuid}: {error}", hint=error.hint or None)
                continue
            if not dry_run:
                results.append(self._check(plan))
        return results

    def _plan(self, uuid: str, point: str) -> RestorePlan:
        from xobackup.cli import repositories
        from xobackup.engine.full.described import with_disks
        from xobackup.engine.health.check import plan_check

        found = with_disks(self._repository, repositories.find_point(self._repository, uuid, point))
        plan = plan_check(self._world, self._session, found, self._request, remote=self._remote)
        self._output.record(
            "health-check-plan",
            {"vm": uuid, "point": found.id, "pool": self._pool, "size_bytes": plan.size_bytes},
        )
        where = f"SR {self._request.sr} of {self._pool}, {self._request.network or 'no network'}"
        self._output.say(f"{found.vm_name} ({found.id}): {size_text(plan.size_bytes)} to {where}")
        return plan

    def _check(self, plan: RestorePlan) -> CheckResult:
        from xobackup.engine.health.check import check_point

        result = check_point(
            self._world,
            self._session,
            self._repository,
            plan,
            self._request,
            remote=self._remote,
            pool=self._pool,
            tell=lambda text: self._output.note(f"  {text}"),
        )
        found_out(self._output, self._world, result)
        return result


def _all(repository: Repository) -> list[str]:
    """VMs that have restore points and do not opt out."""
    from xobackup.engine.health.guest import opted_out

    found: list[str] = []
    for uuid in repository.vms():
        points = repository.points(uuid).points
        vm = points[-1].metadata.get("vm", {}) if points else {}
        if points and not opted_out(vm.get("tags")):
            found.append(uuid)
    return found


def _words(text: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise NotThere(f"--command: {error}: {text!r}") from error
    if not words:
        raise NotThere("--command: expected a command, found nothing")
    return words


def _seconds(option: str, text: str) -> float:
    number, unit = text[:-1], text[-1:]
    try:
        return float(number) * UNITS_S[unit]
    except (ValueError, KeyError):
        raise NotThere(f"{option}: expected a number with s, m, h or d (like 10m), found {text!r}") from None
