"""Digests: made from the history, sent when they are due or by hand. Nothing here fails a backup."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.config.notify import NotifySection
    from xobackup.history.store import Store
    from xobackup.notify.channels import Channel
    from xobackup.notify.digest import Digest
    from xobackup.notify.troubles import Seen

LENGTHS = {"daily": timedelta(days=1), "weekly": timedelta(days=7)}


def make_digest(
    configuration: Configuration,
    section: NotifySection,
    channel: Channel,
    seen: Seen,
    *,
    since_s: float,
    now_s: float,
) -> Digest:
    """For one channel, which may want to hear of some jobs only. Raises ``HistoryError``."""
    from xobackup.cli.history_store import opened_history

    with opened_history(configuration) as store:
        return _made(configuration, store, section, channel, seen, since_s=since_s, now_s=now_s)


def _made(
    configuration: Configuration,
    store: Store,
    section: NotifySection,
    channel: Channel,
    seen: Seen,
    *,
    since_s: float,
    now_s: float,
) -> Digest:
    from schedules.periods import zone_of
    from xobackup.cli.objectives import objectives
    from xobackup.clock import utc
    from xobackup.history import ask
    from xobackup.history.standing import overview
    from xobackup.notify.decide import wants
    from xobackup.notify.digest import digest_of

    def of_its_jobs(rows: list[ask.Row]) -> list[ask.Row]:
        return [row for row in rows if not channel.jobs or row["job"] in channel.jobs]

    wanted = objectives(configuration, utc(now_s))
    latest = ask.latest(store)
    objective = {name: one for name, one in wanted.items() if not channel.jobs or name in channel.jobs}
    return digest_of(
        overview(latest, objective, now_s),
        [one for one in seen.troubles if wants(one, channel.kinds, channel.jobs)],
        period=section.digest or "daily",
        since=since_s,
        until=now_s,
        zone=zone_of(section.timezone),
        sums=of_its_jobs(ask.sums_by_job(store, since=since_s)),
        samples={name: ask.samples(store, name, since=since_s) for name in configuration.remotes},
        depths=_depths(configuration),
        fulls=of_its_jobs(ask.fallbacks(store, since=since_s)),
        tests=of_its_jobs(ask.tests_since(store, since=since_s)),
    )


def _depths(configuration: Configuration) -> dict[str, tuple[float | None, int]]:
    """Of the service's daily look into the remotes, as it was remembered."""
    from xobackup.cli.serving.survey import remembered_depths

    found = remembered_depths(configuration.state_directory)
    return {name: (one.coverage, one.backlog) for name, one in found.items()}


def send_due(
    configuration: Configuration,
    channels: dict[str, Channel],
    seen: Seen,
    *,
    now_s: float,
    complain: Callable[[str], None],
) -> int:
    """Send what is due, each once; how many were. What could not be sent is tried again at the next look."""
    from xobackup.clock import utc
    from xobackup.history.errors import HistoryError
    from xobackup.notify.channels import NotSent, send
    from xobackup.notify.due import due, read_settled, write_settled
    from xobackup.notify.told import one_at_a_time

    sections = {name: one for name, one in configuration.notify.items() if one.digest and name in channels}
    if not sections:
        return 0
    now, sent, directory = utc(now_s), 0, configuration.state_directory
    with one_at_a_time(directory):
        settled = read_settled(directory)
        if settled is None:  # nobody knows: rather twice than never
            settled = {name: now - LENGTHS[one.digest or "daily"] for name, one in sections.items()}
        for name, section in sections.items():
            found = due(section.calendar(name), settled.get(name), now)
            if found is None:
                continue
            if found.send:
                since_s = found.since.timestamp()
                try:
                    digest = make_digest(configuration, section, channels[name], seen, since_s=since_s, now_s=now_s)
                    send(channels[name], digest, now=now_s)
                except (NotSent, HistoryError) as error:
                    complain(f"notify.{name}: its digest was not sent: {error}; it is tried again")
                    continue
                sent += 1
            settled = {one: moment for one, moment in settled.items() if one in sections} | {name: found.nominal}
            write_settled(directory, settled)
    return sent
