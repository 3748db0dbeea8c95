"""The messages that XAPI generates for every class from its fields.

``get_record``, ``get_all``, ``get_all_records``, ``get_by_uuid``, ``get_by_name_label``, ``get_<field>``,
``set_<field>``, ``add_to_<map>``, ``remove_from_<map>``, ``add_<set>``, ``remove_<set>``, ``create`` and ``destroy``
of plain classes. Which of them a class has is said by the data model; nothing else exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xobackup.simpool.failures import Failure
from xobackup.simpool.values import Type, check_value, parse_type
from xobackup.simpool.where import parse_where

if TYPE_CHECKING:
    from xobackup.simpool.model import ClassModel
    from xobackup.simpool.registry import Call

_STRING = parse_type("string")
_KINDS = {"add_to": "map", "remove_from": "map", "add": "set", "remove": "set"}
"""Verbs that only fields of one kind have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """A generated message: the types of its parameters, what it returns, and how to run it."""

    cls: ClassModel
    verb: str
    field: str
    params: tuple[tuple[str, Type], ...]
    returns: str

    def run(self, call: Call, args: list[Any]) -> Any:
        return _RUNNERS[self.verb](self, call, args)


def generated(cls: ClassModel, name: str) -> Generated | None:
    """The generated message ``name`` of ``cls``, or ``None`` when the name has no such form."""
    myself = ("self", parse_type(f"{cls.name} ref"))
    whole = {
        "get_all": ((), f"{cls.name} ref set"),
        "get_all_records": ((), f"({cls.name} ref -> {cls.name} record) map"),
        "get_all_records_where": ((("expr", _STRING),), f"({cls.name} ref -> {cls.name} record) map"),
        "get_record": ((myself,), f"{cls.name} record"),
        "get_by_uuid": ((("uuid", _STRING),), f"{cls.name} ref"),
        "get_by_name_label": ((("label", _STRING),), f"{cls.name} ref set"),
        "create": ((("record", parse_type(f"{cls.name} record")),), f"{cls.name} ref"),
        "destroy": ((myself,), "void"),
    }
    if name in whole:
        params, returns = whole[name]
        return Generated(cls=cls, verb=name, field="", params=params, returns=returns)
    for verb in ("add_to", "remove_from", "get", "set", "add", "remove"):
        field = cls.fields.get(name.removeprefix(verb + "_")) if name.startswith(verb + "_") else None
        if field is not None and field.type.kind == _KINDS.get(verb, field.type.kind):
            params = (myself, *_value_params(verb, field.name, field.type))
            returns = _notation(field.type) if verb == "get" else "void"
            return Generated(cls=cls, verb=verb, field=field.name, params=params, returns=returns)
    return None


def _value_params(verb: str, field: str, kind: Type) -> tuple[tuple[str, Type], ...]:
    match verb:
        case "set":
            return ((field, kind),)
        case "add_to":
            return (("key", kind.of[0]), ("value", kind.of[1]))
        case "remove_from":
            return (("key", kind.of[0]),)
        case "add" | "remove":
            return (("value", kind.of[0]),)
    return ()


def _notation(kind: Type) -> str:
    """The data model's notation of a type (the inverse of ``parse_type``)."""
    match kind.kind:
        case "ref" | "record":
            return f"{kind.name} {kind.kind}"
        case "enum":
            return f"enum {kind.name}"
        case "set" | "option":
            return f"{_notation(kind.of[0])} {kind.kind}"
        case "map":
            return f"({_notation(kind.of[0])} -> {_notation(kind.of[1])}) map"
    return kind.kind


def create_members(cls: ClassModel, record: dict[str, Any]) -> dict[str, Any]:
    """The members of ``record`` that ``create`` takes, checked. Unknown ones are ignored, missing ones fail."""
    for name in cls.create_required:
        if name not in record:
            raise Failure("Dispatcher_FieldNotFound", name)
    wanted = [name for name in (*cls.create_required, *cls.create_optional) if name in record]
    return {name: check_value(record[name], cls.fields[name].type, name, cls.enums) for name in wanted}


def _get_all(message: Generated, call: Call, _args: list[Any]) -> list[str]:
    return call.database.refs(message.cls.name)


def _get_all_records(message: Generated, call: Call, _args: list[Any]) -> dict[str, Any]:
    return call.database.records(message.cls.name)


def _get_all_records_where(message: Generated, call: Call, args: list[Any]) -> dict[str, Any]:
    test = parse_where(args[0])
    return {ref: record for ref, record in call.database.records(message.cls.name).items() if test(record)}


def _get_record(message: Generated, call: Call, args: list[Any]) -> dict[str, Any]:
    return call.database.copy(message.cls.name, args[0])


def _get_by_uuid(message: Generated, call: Call, args: list[Any]) -> str:
    return call.database.by_uuid(message.cls.name, args[0])


def _get_by_name_label(message: Generated, call: Call, args: list[Any]) -> list[str]:
    with call.database.lock:
        return [ref for ref, _ in call.database.where(message.cls.name, name_label=args[0])]


def _create(message: Generated, call: Call, args: list[Any]) -> str:
    return call.database.create(message.cls.name, create_members(message.cls, args[0]))


def _destroy(message: Generated, call: Call, args: list[Any]) -> None:
    call.database.destroy(message.cls.name, args[0])


def _get(message: Generated, call: Call, args: list[Any]) -> Any:
    return call.database.copy(message.cls.name, args[0])[message.field]


def _set(message: Generated, call: Call, args: list[Any]) -> None:
    call.database.update(message.cls.name, args[0], **{message.field: args[1]})


def _add_to(message: Generated, call: Call, args: list[Any]) -> None:
    ref, key, value = args
    if key in call.database.get(message.cls.name, ref)[message.field]:
        raise Failure("MAP_DUPLICATE_KEY", message.cls.name, message.field, ref, key)
    call.database.set_key(message.cls.name, ref, message.field, key, value)


def _remove_from(message: Generated, call: Call, args: list[Any]) -> None:
    call.database.set_key(message.cls.name, args[0], message.field, args[1], None)


def _add(message: Generated, call: Call, args: list[Any]) -> None:
    values = call.database.get(message.cls.name, args[0])[message.field]
    if args[1] not in values:
        call.database.update(message.cls.name, args[0], **{message.field: [*values, args[1]]})


def _remove(message: Generated, call: Call, args: list[Any]) -> None:
    values = call.database.get(message.cls.name, args[0])[message.field]
    kept = [value for value in values if value != args[1]]
    call.database.update(message.cls.name, args[0], **{message.field: kept})


_RUNNERS = {
    "get_all": _get_all,
    "get_all_records": _get_all_records,
    "get_all_records_where": _get_all_records_where,
    "get_record": _get_record,
    "get_by_uuid": _get_by_uuid,
    "get_by_name_label": _get_by_name_label,
    "create": _create,
    "destroy": _destroy,
    "get": _get,
    "set": _set,
    "add_to": _add_to,
    "remove_from": _remove_from,
    "add": _add,
    "remove": _remove,
}
