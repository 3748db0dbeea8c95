"""XAPI's data model: classes with their fields, members of ``create``, enums and messages.

Read from package data (``data/xapi-model.json.gz``, generated from xapi's own documentation, API 24.16), so that
records have exactly the fields and defaults of a real pool.
"""

from __future__ import annotations

import copy
import gzip
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from xobackup.simpool.values import Type, parse_default, parse_type, zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a class. ``writable``: it has a generated setter; ``constructor``: ``create`` may give it."""

    name: str
    type: Type
    writable: bool
    constructor: bool
    default: Any
    since: str
    """The release that brought it: a code name, or a version of xapi."""

    def initial(self) -> Any:
        """A fresh copy of the default."""
        return copy.deepcopy(self.default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that is not generated from the fields: parameters after the session, and what it returns."""

    name: str
    params: tuple[tuple[str, Type], ...]
    returns: str
    removed: bool
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassModel:
    """One class of the data model."""

    name: str
    fields: dict[str, Field]
    create_required: tuple[str, ...]
    create_optional: tuple[str, ...]
    implicit: frozenset[str]
    messages: dict[str, Message]
    enums: dict[str, list[str]]

    @property
    def removed(self) -> bool:
        """Whether the whole class is gone (its messages answer ``MESSAGE_REMOVED``)."""
        return self.name in REMOVED_CLASSES

    def defaults(self) -> dict[str, Any]:
        """A record with every field at its default."""
        return {name: field.initial() for name, field in self.fields.items()}


REMOVED_CLASSES = frozenset({"VMPP"})
WITHOUT_RECORDS = frozenset(
    {"auth", "event", "sr_stat", "probe_result", "LVHD", "data_source", "vdi_nbd_server_info"}
)
"""Classes of the model that have no objects in the database."""

NEWER: dict[str, dict[str, dict[str, Any]]] = {
    "SM": {"supported_image_formats": {"q": "RO", "type": "string set", "since": "25"}},
}
"""Fields that hosts have and the documentation at hand does not: disks above 2040 GiB came in 2025."""


@cache
def load_model() -> dict[str, ClassModel]:
    """All classes by name."""
    raw = resources.files("xobackup.simpool").joinpath("data", "xapi-model.json.gz").read_bytes()
    classes: dict[str, Any] = json.loads(gzip.decompress(raw))["classes"]
    return {name: _class(name, spec) for name, spec in classes.items()}


@cache
def class_names() -> dict[str, str]:
    """The classes' names by their lower-case spelling, as events use it."""
    return {name.lower(): name for name in load_model()}


def _class(name: str, spec: dict[str, Any]) -> ClassModel:
    enums: dict[str, list[str]] = spec["enums"] or {}
    newer = NEWER.get(name, {})
    return ClassModel(
        name=name,
        fields={key: _field(key, field, enums) for key, field in {**spec["fields"], **newer}.items()},
        create_required=tuple(spec["create_required"] or ()),
        create_optional=tuple(spec["create_optional"] or ()),
        implicit=frozenset(spec["implicit_messages"]) | {f"get_{field}" for field in newer},
        messages={key: _message(key, message) for key, message in spec["messages"].items()},
        enums=enums,
    )


def _field(name: str, spec: dict[str, Any], enums: dict[str, list[str]]) -> Field:
    kind = parse_type(spec["type"])
    text = spec.get("default")
    return Field(
        name=name,
        type=kind,
        writable=spec["q"] == "RW",
        constructor=spec["q"] in ("RW", "RO/constructor"),
        default=zero(kind, enums) if text is None else parse_default(text, kind),
        since=spec.get("since") or "",
    )


def _message(name: str, spec: dict[str, Any]) -> Message:
    return Message(
        name=name,
        params=tuple((param, parse_type(text)) for text, param in spec["params"]),
        returns=spec["returns"],
        removed=spec.get("state") == "Removed",
        since=spec.get("since") or "",
    )
