"""Everybody hears what they have not heard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from xobackup.notify.channels import Channel, NotSent, send
from xobackup.notify.decide import Message, decide, wants
from xobackup.notify.told import one_at_a_time, read_told, write_told
from xobackup.notify.troubles import Seen


def tell_all(
    channels: Sequence[Channel],
    seen: Seen,
    directory: Path,
    *,
    now: float,
    complain: Callable[[str], None],
) -> int:
    """How many messages were sent. What could not be sent is complained of, and tried again at the next call.

    Several processes (the service, a run of cron's) may call it at once: each waits for the other, so that nothing is
    told by both.
    """
    with one_at_a_time(directory):
        told = {name: known for name, known in read_told(directory).items() if name in {one.name for one in channels}}
        sent = 0
        for channel in channels:
            if channel.digest_only:
                continue
            wanted = [one for one in seen.troubles if wants(one, channel.kinds, channel.jobs)]
            chosen = Seen(wanted, seen.judged, seen.within)
            before = told.get(channel.name, {})
            known = {key: one for key, one in before.items() if wants(one, channel.kinds, channel.jobs)}
            message, after = decide(chosen, known, now=now, repeat_s=channel.repeat_s)
            if message is None and channel.healthchecks:  # which wants to hear that there is nothing to say
                message = Message(title="", new=tuple(chosen.troubles), again=(), over=(), open=len(chosen.troubles))
            if message is not None:
                try:
                    send(channel, message, now=now)
                except NotSent as error:
                    complain(f"notify.{channel.name}: not told: {error}; it is tried again")
                    continue
                sent += 1
            if after != before:
                told[channel.name] = after
                write_told(directory, told)
        return sent
