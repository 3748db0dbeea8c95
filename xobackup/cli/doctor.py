"""``xobackup doctor``: can everything the configuration names be reached and used?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from xobackup.cli import groups
from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.hooks import hook_problems
from xobackup.cli.options import ConfigOption, JsonOption, read_configuration
from xobackup.cli.output import Output
from xobackup.texts import count_text, duration_text, size_text

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.repository.repository import Repository
    from xobackup.xapi.session import Session

CLOCK_SKEW_MAX_S = 60
FREE_SHARE_MIN = 0.05
FREE_BYTES_MIN = 10 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One thing looked at."""

    subject: str
    state: Literal["ok", "warning", "failed"]
    message: str
    hint: str | None = None


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Look at every pool, remote and job of the configuration. Changes nothing but a probe file on each remote."""
    output = Output(as_json=as_json)
    configuration = read_configuration(config)
    verdicts: list[Verdict] = []
    for verdict in _verdicts(configuration):
        verdicts.append(verdict)
        output.record("verdict", asdict(verdict))
        style = {"ok": None, "warning": "yellow", "failed": "red"}[verdict.state]
        output.say(f"{verdict.state:8} {verdict.subject}: {verdict.message}", style=style)
        if verdict.hint:
            output.say(f"         hint: {verdict.hint}", style=style)
    failed = [verdict.subject for verdict in verdicts if verdict.state == "failed"]
    if failed:
        raise Outcome(Exit.UNREACHABLE, f"not usable as it is: {', '.join(failed)}")


def _verdicts(configuration: Configuration) -> Iterator[Verdict]:
    yield _state_directory(configuration.state_directory)
    for name in configuration.remotes:
        yield from _explained(f"remote {name}", lambda name=name: _remote(configuration, name))  # type: ignore[misc]
    for problem in hook_problems(configuration):
        yield Verdict(subject="hooks", state="failed", message=problem)
    failed: set[str] = set()
    for name in configuration.pools:
        for verdict in _explained(f"pool {name}", lambda name=name: _pool(configuration, name)):  # type: ignore[misc]
            if verdict.state == "failed":
                failed.add(name)
            yield verdict
    for name, job in configuration.jobs.items():
        if job.pool in failed:
            yield Verdict(subject=f"job {name}", state="failed", message=f"it needs pool {job.pool}, see above")
            continue
        yield from _explained(f"job {name}", lambda name=name: _job(configuration, name))  # type: ignore[misc]
    for name, metadata in configuration.metadata_jobs.items():
        if lost := [pool for pool in metadata.pools if pool in failed]:
            told = f"it needs pool {', '.join(lost)}, see above"
            yield Verdict(subject=f"job {name}", state="failed", message=told)
            continue
        yield from _explained(f"job {name}", lambda name=name: _job(configuration, name))  # type: ignore[misc]


def _explained(subject: str, look: Callable[[], Iterator[Verdict]]) -> Iterator[Verdict]:
    """What ``look`` finds; an error of any room becomes a verdict, so that everything is looked at."""
    from remotes.errors import RemoteError
    from xobackup.cli.failures import hint_of
    from xobackup.config.errors import ConfigError
    from xobackup.engine.errors import EngineError
    from xobackup.repository.errors import RepositoryError
    from xobackup.xapi.errors import XapiError

    try:
        yield from look()
    except (RemoteError, ConfigError, EngineError, RepositoryError, XapiError, OSError) as error:
        yield Verdict(subject=subject, state="failed", message=str(error), hint=hint_of(error))


def _state_directory(path: Path) -> Verdict:
    probe = path / ".xobackup-doctor"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"probe")
        probe.unlink()
    except OSError as error:
        hint = "run as a user who may write there, or set state_directory"
        return Verdict(subject="state directory", state="failed", message=f"{path}: {error.strerror}", hint=hint)
    return Verdict(subject="state directory", state="ok", message=f"{path} is writable")


def _flags(repository: Repository, subject: str) -> Iterator[Verdict]:
    """Whether somebody sets the immutable flags that the configuration counts on."""
    from xobackup.clock import SystemClock
    from xobackup.engine.held import not_frozen

    free = not_frozen(repository, now_s=SystemClock().now_s())
    if free:
        told = f"not immutable a day after they were made: {'; '.join(free)}"
        hint = "let `xobackup immutability apply` run on the machine that has the disks, see docs/immutability.md"
        yield Verdict(subject=subject, state="warning", message=told, hint=hint)


def _remote(configuration: Configuration, name: str) -> Iterator[Verdict]:
    from remotes import faces
    from xobackup.cli.jobs import remote_target
    from xobackup.cli.repositories import opened
    from xobackup.engine.known_remotes import look_at
    from xobackup.engine.storage import remarks_on

    subject = f"remote {name}"
    with opened(remote_target(configuration, name)) as repository:
        look = look_at(configuration.state_directory, name, repository)
        if look.problem:
            yield Verdict(subject=subject, state="failed", message=look.problem, hint=look.hint)
            return
        remote = repository.remote
        probe = ".xobackup/doctor.probe"
        remote.put(probe, b"probe")
        remote.delete(probe)
        vms = repository.vms()
        yield Verdict(
            subject=subject,
            state="ok",
            message=f"{remote.url} is writable, holds backups of {count_text(len(vms), 'VM')}",
        )
        for told in remarks_on(remote_target(configuration, name)):
            yield Verdict(subject=subject, state="ok", message=told)
        yield from _flags(repository, subject)
        faces.probe(remote)
        for remark in faces.remarks(remote):
            yield Verdict(subject=subject, state=remark.state, message=remark.message, hint=remark.hint)
        usage = remote.usage()
        if usage is None:
            return
        told = f"{size_text(usage.free_bytes)} free of {size_text(usage.total_bytes)}"
        if usage.free_bytes < min(usage.total_bytes * FREE_SHARE_MIN, FREE_BYTES_MIN):
            yield Verdict(
                subject=subject, state="warning", message=told, hint="free some space, or lower a retention"
            )
        else:
            yield Verdict(subject=subject, state="ok", message=told)


def _pool(configuration: Configuration, name: str) -> Iterator[Verdict]:
    from xobackup.cli.jobs import pool_address
    from xobackup.clock import SystemClock
    from xobackup.xapi.session import Session
    from xobackup.xapi.values import parse_time

    subject = f"pool {name}"
    clock = SystemClock()
    address = pool_address(configuration, name)
    with contextlib.closing(Session.connect(address, clock=clock)) as session:
        pool = next(iter(session.records("pool").values()))
        hosts = session.records("host")
        master = hosts[pool["master"]]
        version = master["software_version"]
        product = f"{version.get('product_brand')} {version.get('product_version')}"
        told = f"{product}, {count_text(len(hosts), 'host')}, master {master['name_label']}"
        yield Verdict(subject=subject, state="ok", message=told)
        if not configuration.pools[name].tls.verify:
            yield Verdict(
                subject=subject,
                state="warning",
                message="its certificate is not verified: the password goes to whoever answers",
                hint="pin it: tls = { fingerprint = ... }, or name its authority: tls = { ca = ... }",
            )
        moment = parse_time(session.call("host.get_servertime", pool["master"]))
        skew_s = abs(moment.timestamp() - clock.now_s()) if moment else 0.0
        if skew_s > CLOCK_SKEW_MAX_S:
            told = f"its clock differs from ours by {duration_text(skew_s)}"
            yield Verdict(subject=subject, state="warning", message=told, hint="synchronise both with NTP")
        yield from _reading(session, subject)
        yield from _space(session, subject)
        yield from _leftovers(configuration, session, subject)
        for host in hosts.values():
            if not host.get("enabled", True):
                told = f"host {host['name_label']} is disabled"
                yield Verdict(subject=subject, state="warning", message=told)


def _leftovers(configuration: Configuration, session: Session, subject: str) -> Iterator[Verdict]:
    """What runs left there, how old it is, and what will happen with it."""
    from xobackup.cli.pool_leftovers import WILL, leftovers_of
    from xobackup.clock import SystemClock
    from xobackup.engine.world import real_world

    world = real_world(configuration.state_directory, clock=SystemClock())
    for one in leftovers_of(configuration, world, session, ()):
        if one.fate.value == "lives":
            continue  # work in progress
        age = "" if one.age_s is None else f", {duration_text(one.age_s)} old"
        told = f"a dead run left {one.what}{age}; it {WILL[one.fate.value]}: {one.reason}"
        hint = f"see `xobackup clean --pool {subject.removeprefix('pool ')}`"
        yield Verdict(subject=subject, state="warning", message=told, hint=hint)


def _reading(session: Session, subject: str) -> Iterator[Verdict]:
    """Whether the pool's disks can be read by NBD, and on which SRs changed blocks are tracked."""
    from xobackup.xapi.cbt import SM_FEATURE
    from xobackup.xapi.nbd.target import NbdMode, nbd_mode
    from xobackup.xapi.records import SmRecord
    from xobackup.xapi.vm_records import NetworkRecord

    networks = [NetworkRecord.parse(ref, raw) for ref, raw in session.records("network").items()]
    mode = nbd_mode(networks)
    named = ", ".join(one.name_label for one in networks if {"nbd", "insecure_nbd"} & set(one.purpose))
    told = f"NBD: {mode.value}" + (f" ({named})" if named else "")
    hint = {
        NbdMode.OFF: "NBD reads disks faster: xe network-param-add param-name=purpose param-key=nbd uuid=NETWORK",
        NbdMode.PLAIN: "jobs need nbd_plain_allowed = true, and backups travel in clear; better give purpose nbd",
        NbdMode.CONFLICT: "remove one of the purposes",
    }.get(mode)
    state: Literal["ok", "warning"] = "warning" if mode in (NbdMode.PLAIN, NbdMode.CONFLICT) else "ok"
    yield Verdict(subject=subject, state=state, message=told, hint=hint)
    able = {
        sm.type
        for sm in (SmRecord.parse(ref, raw) for ref, raw in session.records("SM").items())
        if SM_FEATURE in sm.features
    }
    srs = [sr for sr in session.records("SR").values() if sr.get("content_type") != "iso"]
    unable = sorted(f"{sr['name_label']} ({sr['type']})" for sr in srs if sr.get("type") not in able)
    told = f"CBT: {len(srs) - len(unable)} of {count_text(len(srs), 'SR')} can track changed blocks"
    yield Verdict(subject=subject, state="ok", message=told + (f", not {', '.join(unable)}" if unable else ""))


def _space(session: Session, subject: str) -> Iterator[Verdict]:
    """Whether SRs have room for snapshots, and coalesce what these leave."""
    from xobackup.engine.survey import sr_view, switches_of

    for record in session.records("SR").values():
        sr = sr_view(record)
        if record.get("content_type") == "iso" or not sr.total_bytes:
            continue
        told = f"SR {sr.name}: {size_text(sr.free_bytes)} free of {size_text(sr.total_bytes)}"
        if sr.free_bytes < sr.total_bytes * FREE_SHARE_MIN:
            hint = "snapshots and coalescing need room: move or delete disks, or delete snapshots"
            yield Verdict(subject=subject, state="warning", message=told, hint=hint)
        else:
            yield Verdict(subject=subject, state="ok", message=told)
        if switches := switches_of(record):
            told = f"SR {sr.name} does not coalesce: {', '.join(switches)}"
            hint = "chains grow with every backup until no snapshot can be taken: take the switch out of other-config"
            yield Verdict(subject=subject, state="warning", message=told, hint=hint)


def _job(configuration: Configuration, name: str) -> Iterator[Verdict]:
    from xobackup.cli.jobs import job_of
    from xobackup.clock import SystemClock
    from xobackup.engine.run import plan_job
    from xobackup.engine.world import real_world

    subject = f"job {name}"
    plan = plan_job(job_of(configuration, name), real_world(configuration.state_directory, clock=SystemClock()))
    for problem in plan.problems:
        yield Verdict(subject=subject, state="failed", message=problem)
    refused = [vm for vm in plan.vms if vm.refusal]
    for vm in refused:
        yield Verdict(subject=subject, state="warning", message=f"{vm.vm.name}: {vm.refusal}", hint=vm.hint or None)
    warnings = [*plan.warnings, *(warning for vm in plan.vms if not vm.refusal for warning in vm.warnings)]
    for warning in dict.fromkeys(warnings):
        yield Verdict(subject=subject, state="warning", message=warning)
    if plan.group is not None and not plan.group["vms"]:
        yield Verdict(subject=subject, state="warning", message=groups.plan_line(plan.group))
    if plan.vms:
        told = (
            f"{count_text(len(plan.vms) - len(refused), 'VM')}, about {size_text(plan.estimated_bytes)} to read now"
        )
        yield Verdict(subject=subject, state="ok", message=told)
    if plan.pools:
        told = f"{count_text(len(plan.pools), 'database')} of pools to back up"
        yield Verdict(subject=subject, state="ok", message=told)
    if not plan.vms and not plan.pools and not plan.problems:
        yield Verdict(subject=subject, state="warning", message="it selects no VM", hint="see vms.include")
