"""Everybody hears what they have not heard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from xobackup.notify.channels import Channel, NotSent, send
from xobackup.notify.decide import Message, decide, wanted
from xobackup.notify.told import read_told, write_told
from xobackup.notify.troubles import Trouble


def tell_all(
    channels: Sequence[Channel],
    troubles: Sequence[Trouble],
    directory: Path,
    *,
    now: float,
    complain: Callable[[str], None],
) -> int:
    """How many messages were sent. What could not be sent is complained of, and tried again at the next call."""
    told = {name: known for name, known in read_told(directory).items() if name in {one.name for one in channels}}
    sent = 0
    for channel in channels:
        chosen = wanted(troubles, channel.kinds, channel.jobs)
        known = told.get(channel.name, {})
        message, after = decide(chosen, known, now=now, repeat_s=channel.repeat_s)
        if message is None and channel.healthchecks:  # which wants to hear that there is nothing to say
            message = Message(title="", new=tuple(chosen), again=(), over=(), open=len(chosen))
        if message is not None:
            try:
                send(channel, message, now=now)
            except NotSent as error:
                complain(f"notify.{channel.name}: not told: {error}; it is tried again")
                continue
            sent += 1
        if after != known:
            told[channel.name] = after
            write_told(directory, told)
    return sent
