"""What each channel was told, in ``notified.json`` of the state directory, replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from xobackup.notify.decide import Known
from xobackup.service.state import write_whole

NAME = "notified.json"


def read_told(directory: Path) -> dict[str, dict[str, Known]]:
    """By channel, then by the trouble's key. A file that cannot be read counts as none: then it is told again."""
    try:
        value = json.loads((directory / NAME).read_bytes())
        return {
            str(channel): {str(key): _known(one) for key, one in known.items()} for channel, known in value.items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        return {}


def _known(one: dict[str, object]) -> Known:
    """Raises ``TypeError`` or ``ValueError`` for anything but what :func:`write_told` wrote."""
    known = Known(**one)  # type: ignore[arg-type]
    if not all(isinstance(moment, int | float) for moment in (known.since, known.told)):
        raise TypeError("expected times")
    return known


def write_told(directory: Path, told: Mapping[str, Mapping[str, Known]]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    plain = {channel: {key: asdict(one) for key, one in known.items()} for channel, known in told.items()}
    write_whole(directory / NAME, plain)
