"""What systemd wants to hear of a service (``sd_notify(3)``): datagrams to the socket it names; elsewhere nothing."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


def notify(text: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Send ``READY=1``, ``STOPPING=1``, ``WATCHDOG=1``, ``STATUS=...``; whether anybody listens."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            return False  # a manager that went away is no reason to fail
    return True


def reloading() -> str:
    """That the configuration is read again: with the time, as ``Type=notify-reload`` wants it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def watchdog_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """How often the manager wants to hear ``WATCHDOG=1``: half of its patience; ``None`` when it does not care."""
    try:
        micros = int(environment.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return micros / 2e6 if micros > 0 else None
