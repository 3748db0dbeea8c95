"""Plans of the configuration as the engine takes them, and the pools that have to be asked about them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xobackup.cli.output import Output
    from xobackup.config.dr import GroupSection
    from xobackup.config.model import Configuration
    from xobackup.engine.dr import spec
    from xobackup.engine.dr.failback import Homeward
    from xobackup.engine.dr.look import Look
    from xobackup.engine.dr.plan import Planning
    from xobackup.engine.job import PoolTarget
    from xobackup.engine.world import World
    from xobackup.xapi.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A plan, and the other site as it is now."""

    world: World
    session: Session
    plan: spec.Plan
    seen: Look
    job_names: dict[str, str]

    def planning(self, *, until_s: float | None = None, running: tuple[str, ...] = ()) -> Planning:
        """What would be done now."""
        from xobackup.engine.dr.plan import make_plan

        return make_plan(
            self.plan,
            self.seen,
            now_s=self.world.clock.now_s(),
            job_names=self.job_names,
            until_s=until_s,
            running=running,
        )


def dr_plan(configuration: Configuration, name: str) -> spec.Plan:
    """The plan called ``name``. Raises :class:`ConfigError`."""
    from xobackup.cli.jobs import sr_targets
    from xobackup.config.errors import ConfigError
    from xobackup.engine.dr import spec

    if name not in configuration.dr:
        known = ", ".join(sorted(configuration.dr)) or "none"
        hint = None if configuration.dr else "add [dr.NAME]; see docs/dr.md"
        raise ConfigError([f"there is no plan {name!r} (known: {known})"], hint=hint)
    section = configuration.dr[name]
    target = sr_targets(configuration, section.target, True)[0]
    return spec.Plan(
        name=name,
        target=replace(target, name=section.target, srs=configuration.targets[section.target].all_srs),
        groups=tuple(_group(one) for one in section.groups),
        rpo_s=section.rpo_s,
        test_network=section.test_network,
    )


@contextlib.contextmanager
def opened(output: Output, configuration: Configuration, name: str) -> Iterator[Opened]:
    """:func:`site_of`, with this terminal as its face."""
    from xobackup.cli.shared_limits import limited_world

    dr_plan(configuration, name)  # a name that is wrong is told before anything else
    with (
        limited_world(output, configuration) as world,
        site_of(world, configuration, name) as site,
    ):
        yield site


@contextlib.contextmanager
def site_of(world: World, configuration: Configuration, name: str) -> Iterator[Opened]:
    """Connect to the other site, and ask the VMs' own pools, which may be gone."""
    from xobackup.engine.dr.look import look
    from xobackup.engine.job import job_id_of

    plan = dr_plan(configuration, name)
    names = {str(job.id or job_id_of(one)): one for one, job in configuration.jobs.items()}
    with contextlib.closing(world.connect(plan.target.pool.address)) as session:
        sources, unknown = _sources(configuration, plan.target.name)
        seen = look(world, session, plan, sources)
        seen = replace(seen, silent={**seen.silent, **unknown})
        yield Opened(world=world, session=session, plan=plan, seen=seen, job_names=names)


@contextlib.contextmanager
def failing_back(
    output: Output, configuration: Configuration, name: str
) -> Iterator[tuple[World, list[Homeward], dict[str, tuple[PoolTarget, Session]]]]:
    """What may go home, and the pools that are home."""
    from xobackup.engine.dr.failback import homeward
    from xobackup.xapi.errors import XapiError

    with opened(output, configuration, name) as site, contextlib.ExitStack() as held:
        sources, _ = _sources(configuration, site.plan.target.name)
        homes: dict[str, tuple[PoolTarget, Session]] = {}
        for pool in sources:
            if pool.name == site.plan.target.pool.name:
                continue
            try:
                homes[pool.name] = (pool, held.enter_context(contextlib.closing(site.world.connect(pool.address))))
            except XapiError as error:
                output.note(f"warning: pool {pool.name}: {error}", style="yellow")
        networks = site.plan.target.networks
        yield site.world, homeward(site.plan, site.planning(), site.seen.records, homes, networks), homes


def _sources(configuration: Configuration, target: str) -> tuple[list[PoolTarget], dict[str, str]]:
    """Pools whose jobs replicate to the target, all pools when there is none; and those whose password cannot be had,
    which must stop nobody."""
    from xobackup.cli.jobs import pool_address
    from xobackup.config.errors import ConfigError
    from xobackup.engine.job import PoolTarget

    pools = {job.pool for job in configuration.jobs.values() if target in job.replicate_to}
    found: list[PoolTarget] = []
    unknown: dict[str, str] = {}
    for pool in sorted(pools or configuration.pools):
        try:
            found.append(PoolTarget(name=pool, address=pool_address(configuration, pool)))
        except ConfigError as error:
            unknown[pool] = str(error)
    return found, unknown


def _group(section: GroupSection) -> spec.Group:
    from xobackup.engine.dr import spec
    from xobackup.engine.job import VmRule

    ready = section.ready
    return spec.Group(
        name=section.name,
        vms=tuple(VmRule(uuid=str(one.uuid or ""), name=one.name or "", tag=one.tag or "") for one in section.vms),
        delay_s=section.delay_s,
        ready=spec.Readiness(tools=ready.tools, tcp=ready.tcp, command=ready.words, timeout_s=ready.timeout_s),
        ha=section.ha,
        auto_start=section.auto_start,
    )
