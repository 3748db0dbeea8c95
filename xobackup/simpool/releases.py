"""What hosts of older releases do not have yet: classes, fields and messages by the release that brought them.

Records are kept whole inside the pool; what a release does not know is left out of every answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from xobackup.simpool.model import load_model
from xobackup.simpool.values import Type, parse_type

Release = Literal["7.1", "8.2", "8.3"]
API_MINOR: dict[str, int] = {"7.1": 6, "8.2": 15, "8.3": 21}
LATER: dict[str, frozenset[str]] = {
    "7.1": frozenset(
        {"falcon", "inverness", "jura", "kolkata", "lima", "naples", "quebec", "stockholm", "stockholm_psr"}
    ),
    "8.2": frozenset(),
    "8.3": frozenset(),
}
"""Code names of the releases after each; the data model names newer ones by version, and 8.3 has them all."""
VERBS = ("get_", "set_", "add_to_", "remove_from_", "add_", "remove_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """What one release does not know. ``messages`` are whole names, those of unknown fields among them."""

    classes: frozenset[str]
    fields: dict[str, frozenset[str]]
    messages: frozenset[str]

    def trim(self, value: Any, returns: str) -> Any:
        """An answer without fields that the release does not have."""
        if not self.fields or value is None:
            return value
        return _trim(self, value, parse_type(returns)) if returns != "an event batch" else self._batch(value)

    def _batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        names = {cls.lower(): hidden for cls, hidden in self.fields.items()}
        for event in batch["events"]:
            if "snapshot" in event:
                for name in names.get(event["class"], ()):
                    event["snapshot"].pop(name, None)
        gone = {cls.lower() for cls in self.classes}
        batch["valid_ref_counts"] = {name: n for name, n in batch["valid_ref_counts"].items() if name not in gone}
        return batch


def _trim(unknown: Unknown, value: Any, kind: Type) -> Any:
    match kind.kind:
        case "record":
            hidden = unknown.fields.get(kind.name, frozenset())
            return {name: item for name, item in value.items() if name not in hidden}
        case "map" if kind.of[1].kind == "record":
            return {ref: _trim(unknown, record, kind.of[1]) for ref, record in value.items()}
    return value


@cache
def unknown_to(release: Release) -> Unknown:
    """What a host of ``release`` lacks of the data model."""
    classes: set[str] = set()
    fields: dict[str, frozenset[str]] = {}
    messages: set[str] = set()
    for name, cls in load_model().items():
        hidden = frozenset(field.name for field in cls.fields.values() if _later(field.since, release))
        if "uuid" in hidden:
            classes.add(name)
            messages |= {f"{name}.{verb}" for verb in (*cls.implicit, *cls.messages, "get_all_records_where")}
        if hidden:
            fields[name] = hidden
            messages |= {f"{name}.{verb}{field}" for verb in VERBS for field in hidden}
        messages |= {f"{name}.{one.name}" for one in cls.messages.values() if _later(one.since, release)}
    return Unknown(classes=frozenset(classes), fields=fields, messages=frozenset(messages))


def _later(since: str, release: Release) -> bool:
    if release == "8.3" or not since:
        return False
    return since[0].isdigit() or since in LATER[release]
