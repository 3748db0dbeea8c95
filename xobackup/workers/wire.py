"""What travels between the conductor and a worker, as JSON: an order, and the report that answers it."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from xobackup.engine.attempt import Turn
from xobackup.engine.mirror.one import VmCopied
from xobackup.engine.report import Tried, VmReport
from xobackup.workers.errors import WorkersError
from xobackup.workers.kinds import MIRROR, MIRROR_LIST

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One attempt for one VM. Names only: what they mean, and every secret, is in the worker's own configuration."""

    run: str
    job: str
    pool: str
    vm: str
    """Its uuid."""
    vm_name: str
    full_interval: int
    """As the run was asked for: ``--full`` makes it 1."""
    fingerprint: str
    """Of the job as the conductor's configuration has it."""
    number: int = 1
    last: bool = True
    before: tuple[Tried, ...] = field(default=())
    through: dict[str, str] = field(default_factory=dict)
    """Pools of targets (``pool:NAME``) that the worker does not reach, as in :class:`MirrorOrder`."""

    @property
    def turn(self) -> Turn:
        return Turn(number=self.number, last=self.last, patient=True, before=self.before)


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorOrder:
    """One VM's restore points to one target of a mirror. Names only, as in :class:`Order`."""

    run: str
    job: str
    vm: str
    vm_name: str
    source: str
    target: str
    fingerprint: str
    through: dict[str, str] = field(default_factory=dict)
    """Remotes that the worker does not reach, and the sites through whose relays it is led there: to these, and only
    while the task is under way."""
    kind: str = MIRROR


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOrder:
    """Which VMs the source of a mirror has that are meant."""

    run: str
    job: str
    source: str
    vms: tuple[str, ...]
    """As the run was asked for: uuids, or patterns of names; none means all."""
    vm: str = ""
    vm_name: str = ""
    kind: str = MIRROR_LIST


def order_data(order: Order | MirrorOrder | ListOrder) -> dict[str, Any]:
    return asdict(order)


def read_order(data: Mapping[str, Any]) -> Order:
    """Raises :class:`WorkersError` for one that this version does not understand."""
    return _read(Order, data)


def read_mirror_order(data: Mapping[str, Any]) -> MirrorOrder:
    """As :func:`read_order`."""
    return _read(MirrorOrder, data)


def read_list_order(data: Mapping[str, Any]) -> ListOrder:
    """As :func:`read_order`."""
    return _read(ListOrder, data)


def copied_data(copied: VmCopied) -> dict[str, Any]:
    return asdict(copied)


def read_copied(data: Mapping[str, Any]) -> VmCopied:
    """Raises :class:`WorkersError` for one that this version does not understand."""
    return _read(VmCopied, data)


def report_data(report: VmReport) -> dict[str, Any]:
    return asdict(report)


def read_report(data: Mapping[str, Any]) -> VmReport:
    """Raises :class:`WorkersError` for one that this version does not understand."""
    return _read(VmReport, data)


def read_as(kind: type[T], data: Mapping[str, Any]) -> T:
    """Data as a dataclass. Raises :class:`WorkersError` for what this version does not understand."""
    return _read(kind, data)


def _read(kind: type[T], data: Mapping[str, Any]) -> T:
    try:
        return _made(kind, data)  # type: ignore[no-any-return]
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        told = f"{kind.__name__.lower()}: expected the fields of this version, found others ({error})"
        raise WorkersError(told, hint="do control node and worker have versions that go together?") from error


def _made(kind: Any, value: Any) -> Any:
    """``value`` as ``kind`` wants it. Unknown fields are left out: they are of a newer version."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _made(next(one for one in inside if one is not type(None)), value)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        known = [one.name for one in fields(kind) if one.init and one.name in value]
        return kind(**{name: _made(hints[name], value[name]) for name in known})
    if origin in (tuple, list) and not isinstance(value, (tuple, list)):
        raise TypeError(f"expected a list, found {type(value).__name__}")
    if origin is tuple:
        return tuple(_made(inside[0], one) for one in value)
    if origin is list:
        return [_made(inside[0], one) for one in value]
    if origin is dict:
        return {str(key): _made(inside[1], one) for key, one in value.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if kind is float and isinstance(value, (int, float)):
        return float(value)
    if isinstance(kind, type) and not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, found {type(value).__name__}")
    return value
