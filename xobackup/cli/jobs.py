"""From the configuration to what the engine takes: jobs, pools and remotes by name."""

from __future__ import annotations

import glob
import re
import shlex
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from xobackup.config.jobs import JobSection
    from xobackup.config.model import Configuration
    from xobackup.config.places import RemoteSection, TlsSection
    from xobackup.config.rules import DiskRule, VmRule
    from xobackup.engine import job as engine
    from xobackup.engine.health.of_job import JobChecks
    from xobackup.engine.storage import Encryption
    from xobackup.repository.lock_rule import LockRule
    from xobackup.xapi.session import PoolAddress
    from xobackup.xapi.tls import TlsPolicy

MIB = 1024 * 1024
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def job_names(configuration: Configuration, given: list[str] | None) -> list[str]:
    """The jobs ``given``, all of them when none is; those that read pools. Unknown ones are refused."""
    from xobackup.config.errors import ConfigError

    names = configuration.job_names
    every = configuration.all_job_names
    unknown = [name for name in given or [] if name not in every]
    known = ", ".join(sorted(every)) or "none"
    if unknown:
        raise ConfigError([f"there is no job {name!r} (known: {known})" for name in unknown])
    if not every:
        raise ConfigError(["the configuration defines no job"], hint="add a [jobs.NAME] table; see README.md")
    return [name for name in dict.fromkeys(given or names) if name in names]


def jobs_for(
    configuration: Configuration, given: list[str] | None, *, vms: list[str] | None, full: bool
) -> list[engine.Job]:
    """The jobs ``given`` (all when none is), for this once narrowed to ``vms`` and to fulls."""
    jobs = [job_of(configuration, name) for name in job_names(configuration, given)]
    if full:
        jobs = [replace(job, settings=replace(job.settings, full_interval=1)) for job in jobs]
    return of_vms(jobs, vms) if vms else jobs


def of_vms(jobs: list[engine.Job], vms: list[str]) -> list[engine.Job]:
    """Those of ``jobs`` that can select one of ``vms``, for this once narrowed to them."""
    from xobackup.config.errors import ConfigError

    for vm in vms if jobs else ():
        if not any(narrowed(job.selector, [vm]).include for job in jobs):
            told = ", ".join(job.name for job in jobs)
            raise ConfigError([f"no rule of {told} can match a VM {vm!r}"], hint="see vms.include of the job")
    narrow = [
        replace(
            job,
            narrowed=True,
            selector=narrowed(job.selector, vms),
            settings=replace(job.settings, pool_metadata=False),
        )
        for job in jobs
    ]
    return [job for job in narrow if job.selector.include]


def selecting_jobs(configuration: Configuration) -> list[engine.Job]:
    """All that select VMs, to be asked which: without secrets."""
    return [job_of(configuration, name, with_secrets=False) for name in configuration.jobs]


def narrowed(selector: engine.Selector, vms: list[str]) -> engine.Selector:
    """``selector`` without the VMs that are not in ``vms`` (uuids or exact names); no rule is left for others."""
    rules: list[engine.VmRule] = []
    for vm in vms:
        is_uuid = bool(UUID.fullmatch(vm.lower()))
        for rule in selector.include:
            if is_uuid and rule.uuid in ("", vm.lower()):
                rules.append(replace(rule, uuid=vm.lower()))
            elif not is_uuid and (not rule.name or fnmatchcase(vm, rule.name)):
                rules.append(replace(rule, name=glob.escape(vm)))
    return replace(selector, include=tuple(rules))


def job_of(
    configuration: Configuration, name: str, *, with_secrets: bool = True, led: Collection[str] = ()
) -> engine.Job:
    """The engine's view of the job called ``name``. Without secrets it can be shown, not run. ``led``: pools of
    targets whose secrets are needed although they are not near."""
    from xobackup.cli.hooks import guest_hooks_of, hooks_of
    from xobackup.engine import job as engine

    if name in configuration.metadata_jobs:
        return _metadata_job(configuration, name, with_secrets=with_secrets)
    section = configuration.jobs[name]

    def near_or_led(target: str) -> bool:
        return is_near(configuration, target) or configuration.targets[target].pool in led

    return engine.Job(
        name=name,
        id=str(section.id or ""),
        schedule_id=str(section.schedule_id or ""),
        pools=(
            engine.PoolTarget(
                name=section.pool, address=pool_address(configuration, section.pool, with_secret=with_secrets)
            ),
        ),
        remotes=tuple(
            remote_target(configuration, remote, with_secrets=with_secrets and is_near(configuration, remote))
            for remote in section.remotes
        ),
        targets=tuple(
            one
            for target in section.replicate_to
            for one in sr_targets(configuration, target, with_secrets and near_or_led(target))
        ),
        selector=engine.Selector(
            include=tuple(_vm_rule(rule) for rule in section.vms.include),
            exclude=tuple(_vm_rule(rule) for rule in section.vms.exclude),
        ),
        exclude_disks=tuple(_disk_rule(rule) for rule in section.disks.exclude),
        settings=_settings(configuration, section),
        consistent=_consistent(section),
        hooks=hooks_of(section.hooks, name, with_secrets=with_secrets),
        guest_hooks=guest_hooks_of(section, name, with_secrets=with_secrets),
        siblings=_siblings(configuration, name),
        checks=_checks(configuration, section, with_secrets),
    )


def is_near(configuration: Configuration, name: str) -> bool:
    """Whether a remote or target is opened from here, and its secrets are needed: others are left to workers."""
    from xobackup.cli.engine_store import sites_of

    sites = sites_of(configuration)[name] if configuration.engine.database is not None else ()
    return not sites or configuration.engine.site in sites


def _far_target(configuration: Configuration, name: str, with_secrets: bool) -> engine.RemoteTarget:
    """Without its secrets where only workers reach it."""
    return remote_target(configuration, name, with_secrets=with_secrets and is_near(configuration, name))


def _checks(configuration: Configuration, job: JobSection, with_secrets: bool) -> JobChecks | None:
    from xobackup.engine.health.of_job import JobChecks
    from xobackup.engine.health.request import CheckRequest, Probe
    from xobackup.engine.job import PoolTarget

    section = job.health_check
    if section is None:
        return None
    pool = section.pool or job.pool
    targets = () if section.replica is None else tuple(sr_targets(configuration, section.replica, with_secrets))
    remote = None if targets else section.remote or job.remotes[0]
    if targets:
        pool = targets[0].pool.name
    probes = [Probe(tcp=port) for port in section.tcp]
    probes += [Probe(command=tuple(shlex.split(text))) for text in section.commands]
    return JobChecks(
        pool=PoolTarget(name=pool, address=pool_address(configuration, pool, with_secret=with_secrets)),
        remote=None if remote is None else _far_target(configuration, remote, with_secrets),
        targets=targets,
        elsewhere=pool != job.pool and not targets,
        request=CheckRequest(
            sr=section.sr or "",
            network=section.network,
            timeout_s=section.timeout_s,
            tools=section.tools,
            script=section.script,
            memory=section.memory,
            probes=tuple(probes),
        ),
        tags=section.tags,
        every_s=section.every_s,
        vms_max=section.vms_max,
    )


def _siblings(configuration: Configuration, name: str) -> engine.Siblings:
    """The other schedules of the job called ``name``, and itself on other pools: jobs with the same id."""
    from xobackup.engine import job as engine

    own = configuration.jobs[name]
    names = configuration.names_by_id[own.id] if own.id is not None else []
    others = {other: configuration.jobs[other] for other in names if other != name}
    kept = {
        str(section.schedule_id or engine.schedule_id_of(other)): section.snapshot_retention
        for other, section in others.items()
        if section.schedule_id is None or section.schedule_id != own.schedule_id
    }
    need_bases = any(section.remotes and section.mode == engine.DELTA for section in others.values())
    return engine.Siblings(snapshot_retention=kept, need_bases=need_bases)


def _metadata_job(configuration: Configuration, name: str, *, with_secrets: bool) -> engine.Job:
    from xobackup.cli.hooks import hooks_of
    from xobackup.engine import job as engine

    section = configuration.metadata_jobs[name]
    return engine.Job(
        name=name,
        id=str(section.id or ""),
        schedule_id=str(section.schedule_id or ""),
        pools=tuple(
            engine.PoolTarget(name=pool, address=pool_address(configuration, pool, with_secret=with_secrets))
            for pool in section.pools
        ),
        remotes=tuple(
            remote_target(configuration, remote, with_secrets=with_secrets and is_near(configuration, remote))
            for remote in section.remotes
        ),
        settings=engine.Settings(
            mode=engine.METADATA,
            retention=section.retention,
            pool_metadata=True,
            pool_metadata_retention=section.retention,
            rate_bytes_s=section.rate_limit_mib_s * MIB if section.rate_limit_mib_s else None,
            retries=section.retries,
            retry_pause_s=section.retry_pause_s,
        ),
        hooks=hooks_of(section.hooks, name, with_secrets=with_secrets),
    )


def pool_address(configuration: Configuration, name: str, *, with_secret: bool = True) -> PoolAddress:
    """How to reach and log in to the pool called ``name``."""
    from xobackup.config.errors import ConfigError
    from xobackup.config.secrets import resolve
    from xobackup.xapi.session import PoolAddress

    if name not in configuration.pools:
        known = ", ".join(sorted(configuration.pools)) or "none"
        raise ConfigError([f"there is no pool {name!r} (known: {known})"])
    pool = configuration.pools[name]
    password = resolve(pool.password, f"pools.{name}.password") if with_secret else ""
    return PoolAddress(url=pool.url, username=pool.username, password=password, tls=_tls(pool.tls))


def remote_target(configuration: Configuration, name: str, *, with_secrets: bool = True) -> engine.RemoteTarget:
    """The remote called ``name`` and how it is kept. Without secrets it can be shown, not opened."""
    from xobackup.config.buckets import bucket_url
    from xobackup.config.errors import ConfigError
    from xobackup.engine import job as engine
    from xobackup.engine.storage import Storage

    if name not in configuration.remotes:
        known = ", ".join(sorted(configuration.remotes)) or "none"
        raise ConfigError([f"there is no remote {name!r} (known: {known})"], hint="or give a URL: file:///path")
    remote = configuration.remotes[name]
    encryption = _encryption(remote, name) if with_secrets else None
    url = bucket_url(remote.url, remote, f"remotes.{name}", with_secrets=with_secrets)
    storage = Storage(
        layout=remote.layout or "",
        compression=remote.compression or "",
        compression_level=remote.compression_level,
        encryption=encryption,
        lock=_lock(remote),
    )
    return engine.RemoteTarget(name=name, url=url, storage=storage)


def _lock(remote: RemoteSection) -> LockRule | None:
    from xobackup.repository.lock_rule import LockRule

    section = remote.lock
    if section is None:
        return None
    return LockRule(mode=section.mode, days=section.days, chain_days=section.chain_days)


def sr_targets(configuration: Configuration, name: str, with_secrets: bool) -> list[engine.SrTarget]:
    """The target called ``name``: one for each of its SRs, unless it distributes replicas over them."""
    from xobackup.engine import job as engine

    section = configuration.targets[name]
    pool = engine.PoolTarget(
        name=section.pool, address=pool_address(configuration, section.pool, with_secret=with_secrets)
    )
    one = engine.SrTarget(
        name=name,
        pool=pool,
        srs=section.all_srs,
        vm_name=section.name,
        new_macs=section.new_macs,
        networks={key: network or None for key, network in section.networks.items()},
    )
    if len(one.srs) == 1 or section.placement == "distributed":
        return [one]
    return [replace(one, name=f"{name}:{sr}", srs=(sr,)) for sr in one.srs]


def _encryption(remote: RemoteSection, name: str) -> Encryption | None:
    from xobackup.config.secrets import resolve
    from xobackup.engine.storage import Encryption

    section = remote.encryption
    if section is None:
        return None
    key = resolve(section.key, f"remotes.{name}.encryption.key")
    return Encryption(key=key, mode=section.mode, algorithm=section.algorithm or "")


def _tls(section: TlsSection) -> TlsPolicy:
    from xobackup.xapi.tls import Ca, Fingerprint, SystemCa, Unverified

    if section.fingerprint is not None:
        return Fingerprint(section.fingerprint)
    if section.ca is not None:
        return Ca(section.ca)
    return SystemCa() if section.verify else Unverified()


def _consistent(section: JobSection) -> engine.Consistent | None:
    from xobackup.engine import job as engine

    if section.consistent is None:
        return None
    return engine.Consistent(
        tag=section.consistent.tag or "",
        if_one_fails=engine.IfOneFails(section.consistent.if_one_fails),
        snapshots_max=section.consistent.snapshots_max,
    )


def _vm_rule(rule: VmRule) -> engine.VmRule:
    from xobackup.engine import job as engine

    return engine.VmRule(
        uuid=str(rule.uuid or ""),
        name=rule.name or "",
        tag=rule.tag or "",
        power_state=rule.power_state or "",
        host=rule.host or "",
    )


def _disk_rule(rule: DiskRule) -> engine.DiskRule:
    from xobackup.engine import job as engine

    return engine.DiskRule(
        uuid=str(rule.uuid or ""),
        name=rule.name or "",
        tag=rule.tag or "",
        device=rule.device or "",
        sr=rule.sr or "",
        larger_than_bytes=rule.larger_than,
    )


def _settings(configuration: Configuration, section: JobSection) -> engine.Settings:
    from xobackup.cli.limits import counts_of, floor_of
    from xobackup.engine import job as engine
    from xobackup.engine.reading.ladder import CbtUse, NbdUse
    from xobackup.engine.space.judge import SpaceCheck

    return engine.Settings(
        mode=section.mode,
        compression=section.compression or "zstd",
        snapshot=section.snapshot,
        snapshot_retention=section.snapshot_retention,
        offline_backup=section.offline_backup,
        shutdown_wait_s=section.shutdown_wait_s,
        hard_shutdown_allowed=section.hard_shutdown_allowed,
        distribute=section.distribute,
        retention=section.retention,
        long_term=section.keep.long_term(),
        replica_retention=section.replica_retention,
        full_interval=section.full_interval,
        unexpected_fulls_max=section.unexpected_fulls_max,
        vms_max=section.vms_max,
        disks_max=section.disks_max,
        limits=counts_of(section.limits),
        rate_bytes_s=section.rate_limit_mib_s * MIB if section.rate_limit_mib_s else None,
        bandwidth=tuple(window.window() for window in section.bandwidth),
        timezone=section.timezone or configuration.limits.timezone,
        space_check=SpaceCheck(section.space_check),
        sr_free_min=floor_of(section.sr_free_min),
        remote_free_min=floor_of(section.remote_free_min),
        retries=section.retries,
        retry_pause_s=section.retry_pause_s,
        merge_in_run=section.merge == "now",
        check_chains=section.check_chains,
        chain_wait_s=section.chain_wait_s,
        nbd=NbdUse(section.nbd),
        nbd_connections=section.nbd_connections,
        nbd_plain_allowed=section.nbd_plain_allowed,
        cbt=CbtUse(section.cbt),
        purge_snapshot_data=section.purge_snapshot_data,
        lock_wait_s=section.lock_wait_s,
        snapshot_name=section.snapshot_name,
        pool_metadata=section.pool_metadata,
        pool_metadata_retention=section.pool_metadata_retention,
    )
