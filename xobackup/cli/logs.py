"""What a program that nobody watches says: a line each, as text or JSON, with the ids of what it concerns.

A line that concerns a run has ``run``, one that concerns a VM ``vm`` (a uuid) and ``vm_name``; those of the service
have ``schedule``. As text the ids are at the end, ``run=... vm=...``, so that a name which changes can still be
followed. Nothing here knows a secret.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from xobackup.texts import duration_text, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xobackup.engine.events import Event

TEXT, JSON = "text", "json"
LINE_MAX = 4000
_IDS = ("run", "vm")


class Lines:
    """Where log lines go: standard error, or standard output for ``--json``. Thread-safe."""

    def __init__(self, form: str = TEXT, *, to_stdout: bool = False) -> None:
        self.form = form
        self._to_stdout = to_stdout
        self._mutex = threading.Lock()

    def __call__(self, level: str, text: str, **fields: object) -> None:
        moment = datetime.now(UTC)  # noqa: TID251 - a log's time is the machine's
        if self.form == JSON:
            record = {"kind": "log", "at": moment.isoformat(timespec="seconds"), "level": level, "text": text}
            line = json.dumps(record | fields, ensure_ascii=False, default=str)
        else:
            about = fields.get("schedule")
            mark = "" if level == "info" else f"{level}: "
            ids = "".join(f" {name}={fields[name]}" for name in _IDS if fields.get(name))
            told = one_line(text, LINE_MAX)
            line = f"{moment:%Y-%m-%dT%H:%M:%SZ} {f'{about}: ' if about else ''}{mark}{told}{ids}"
        stream: TextIO = sys.stdout if self._to_stdout else sys.stderr
        with self._mutex:
            print(line.encode("utf-8", "replace").decode(), file=stream, flush=True)


class EventLines:
    """A journal sink: what the events of one run say, as lines of a log."""

    def __init__(self, log: Lines, **fields: object) -> None:
        from xobackup.cli.telling import Teller

        self._teller = Teller()
        self._log = log
        self._fields = fields
        self._names: dict[str, str] = {}
        self._mutex = threading.Lock()

    def write(self, event: Event) -> None:
        with self._mutex:
            fields: Mapping[str, Any] = {name: getattr(event, name) for name in event.__dataclass_fields__}
            if event.kind == "run-started":
                self._fields = {**self._fields, "job": fields["job"], "run": fields["run_id"]}
            if fields.get("vm") and fields.get("vm_name"):
                self._names[fields["vm"]] = fields["vm_name"]
            told = _run_ended(fields) if event.kind == "run-ended" else self._teller.tell(event)
        if told is None:
            return
        level = {"red": "error", "yellow": "warning"}.get(told[1] or "", "info")
        text, _, hint = told[0].removeprefix("error: ").removeprefix("warning: ").partition("\n  hint: ")
        self._log(level, f"{text} (hint: {hint})" if hint else text, **self._fields, **self._of(fields))

    def _of(self, fields: Mapping[str, Any]) -> dict[str, object]:
        """What an event is about."""
        vm, found = fields.get("vm"), {}
        if vm:
            found = {"vm": vm, "vm_name": self._names.get(vm, "")}
        elif fields.get("vms"):
            found = {"vms": fields["vms"]}
        return found | {name: fields[name] for name in ("remote", "pool") if fields.get(name)}

    def close(self) -> None:
        """Nothing is held open."""


def _run_ended(event: Mapping[str, Any]) -> tuple[str, str | None]:
    counted = ", ".join(f"{event[name]} {name}" for name in ("ok", "failed", "skipped") if event[name])
    reason = f": {event['reason']}" if event["reason"] else ""
    vms = f" ({counted})" if counted else ""
    style = {"ok": None, "skipped": "yellow"}.get(event["outcome"], "red")
    return f"run ended: {event['outcome']} in {duration_text(event['duration_s'])}{vms}{reason}", style


class FromLibraries(logging.Handler):
    """Warnings of libraries as lines of ours, so that a log of JSON is nothing but JSON."""

    def __init__(self, log: Lines) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        failed = f" ({record.exc_info[0].__name__})" if record.exc_info and record.exc_info[0] else ""
        self._log(level, f"{record.name}: {record.getMessage()}{failed}", source=record.name)

    def __enter__(self) -> FromLibraries:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)
