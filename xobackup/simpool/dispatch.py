"""From a method's name and parameters to its result, whatever the wire: names, sessions, counts, types, tasks.

Order of the checks as in xapi: an unknown method still needs a good session; a known one is first checked for the
number of its parameters, then for their types, then for its session; what it names is checked by itself.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from xobackup.simpool import messages
from xobackup.simpool.failures import Failure
from xobackup.simpool.faults import ConnectionLost
from xobackup.simpool.generic import Generated, generated
from xobackup.simpool.model import WITHOUT_RECORDS, ClassModel, load_model
from xobackup.simpool.registry import HANDLERS, Call, Handler
from xobackup.simpool.values import Type, check_value, parse_type
from xobackup.simpool.xml_values import result_text

if TYPE_CHECKING:
    from xobackup.simpool.toolstack import Toolstack

messages.load()
_STRING = parse_type("string")
ALWAYS = frozenset({"get_all_records_where"})
AT_WORK = {"VM.snapshot": "snapshot", "VM.checkpoint": "checkpoint"}
"""Messages that show in the VM's ``current_operations`` while their task runs."""
NOT_ASYNC = ("get_", "set_", "add_", "remove_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A message found by name, with all that is needed to check and run it."""

    name: str
    params: tuple[tuple[str, Type], ...]
    returns: str
    enums: dict[str, list[str]]
    fewest: int
    most: int
    session: bool = True
    locked: bool = True
    handler: Handler | None = None
    generated: Generated | None = None


class Dispatcher:
    """Runs the calls of every wire protocol on one pool."""

    def __init__(self, toolstack: Toolstack) -> None:
        self._toolstack = toolstack
        self._missing = toolstack.options.missing_messages | toolstack.unknown.messages
        self._threads: set[threading.Thread] = set()
        toolstack.list_methods = self.list_methods

    def call(self, name: str, params: list[Any]) -> Any:
        """Carry out one call and return its value. Raises :class:`Failure`, or :class:`ConnectionLost` by plan."""
        clock, faults = self._toolstack.clock, self._toolstack.faults
        started, at_s = clock.monotonic_s(), clock.now_s()
        outcome = "ok"
        plain = canonical(name)
        try:
            if self._toolstack.boots:
                raise Failure("HOST_STILL_BOOTING")
            if (delay := faults.take("delay", plain)) is not None:
                clock.sleep(delay.seconds)
            faults.act(plain)
            if faults.take("expire", plain) is not None:
                self._toolstack.sessions.end_all()
            value, returns = self._run(plain, params)
            value = self._toolstack.unknown.trim(value, returns)
            if faults.take("lose", plain) is not None:
                outcome = "answer lost"
                raise ConnectionLost(plain)
            return value
        except Failure as failure:
            outcome = failure.code
            raise
        finally:
            duration = clock.monotonic_s() - started
            self._toolstack.journal.note(plain, params, at_s=at_s, duration_s=duration, outcome=outcome)

    def signature(self, name: str) -> Method | None:
        """The message behind a spelling, for wires whose values need its types."""
        return self._find(canonical(name).removeprefix("Async."))

    def lacks_async(self, name: str) -> bool:
        """Whether this asks for the asynchronous form of a message that has none."""
        spelt = canonical(name)
        return spelt.startswith("Async.") and self._find(spelt.removeprefix("Async.")) is not None

    def _run(self, name: str, params: list[Any]) -> tuple[Any, str]:
        asynchronous = name.startswith("Async.")
        plain = name.removeprefix("Async.")
        method = self._find(plain)
        if method is None or (asynchronous and not _can_be_async(plain)):
            if params:
                self._toolstack.sessions.check(params[0])
            raise Failure("MESSAGE_METHOD_UNKNOWN", name)
        args = _check_params(method, params)
        call = Call(toolstack=self._toolstack, method=plain)
        if method.session:
            call.session = self._toolstack.sessions.check(params[0])
        if asynchronous:
            self._toolstack.faults.check_call(name)
            return self._start(method, call, args), "task ref"
        self._toolstack.faults.check_call(plain)
        return self._execute(method, call, args), method.returns

    def _find(self, name: str) -> Method | None:
        cls_name, dot, verb = name.partition(".")
        if not dot or name in self._missing:
            return None
        cls = self._toolstack.database.model.get(cls_name)
        handler = HANDLERS.get(name)
        if cls is None:
            return None if handler is None else _special(name, handler)
        if cls.removed and not verb.startswith("get_all_records_where"):
            return _removed(name)
        if handler is not None:
            return _registered(cls, name, verb, handler)
        if verb in cls.messages:
            return _unregistered(cls, name, verb)
        if verb in cls.implicit or (verb in ALWAYS and "get_all_records" in cls.implicit):
            found = generated(cls, verb)
            return None if found is None else _from_generated(cls, name, found)
        return None

    def _execute(self, method: Method, call: Call, args: list[Any]) -> Any:
        if not method.locked:
            return self._invoke(method, call, args)
        with self._toolstack.database.lock:
            return self._invoke(method, call, args)

    @staticmethod
    def _invoke(method: Method, call: Call, args: list[Any]) -> Any:
        if method.handler is not None:
            return method.handler.function(call, *args)
        assert method.generated is not None
        return method.generated.run(call, args)

    def _start(self, method: Method, call: Call, args: list[Any]) -> str:
        call.task = self._toolstack.tasks.create(f"Async.{method.name}")
        self._mark(method, call, args, AT_WORK.get(method.name))
        thread = threading.Thread(target=self._finish, args=(method, call, args), name=method.name, daemon=True)
        self._threads = {one for one in self._threads if one.is_alive()} | {thread}
        thread.start()
        return call.task

    def _finish(self, method: Method, call: Call, args: list[Any]) -> None:
        tasks = self._toolstack.tasks
        try:
            if (delay := self._toolstack.faults.take("delay", f"task:{method.name}")) is not None:
                self._toolstack.clock.sleep(delay.seconds)
            self._toolstack.faults.check_call(method.name)
            value = self._execute(method, call, args)
        except Failure as failure:
            self._mark(method, call, args, None)
            tasks.fail(call.task, failure)
        else:
            self._mark(method, call, args, None)
            tasks.succeed(call.task, result_text(value, method.returns))

    def _mark(self, method: Method, call: Call, args: list[Any], operation: str | None) -> None:
        """Say on the VM that the operation is going on, or is over."""
        database = self._toolstack.database
        with database.lock:
            if method.name in AT_WORK and database.exists("VM", args[0]):
                database.set_key("VM", args[0], "current_operations", call.task, operation)

    def join(self, timeout_s: float) -> None:
        """Wait for asynchronous calls that are still running."""
        for thread in list(self._threads):
            thread.join(timeout_s)

    def list_methods(self) -> list[str]:
        """What ``system.listMethods`` says: every synchronous message."""
        names: set[str] = set(HANDLERS)
        for cls in self._toolstack.database.model.values():
            names |= {f"{cls.name}.{verb}" for verb in (*cls.implicit, *cls.messages)}
            if cls.name not in WITHOUT_RECORDS and "get_all_records" in cls.implicit:
                names.add(f"{cls.name}.get_all_records_where")
        return sorted(names - self._missing)


def canonical(name: str) -> str:
    """``Class_method`` and ``Async.Class_method`` spelt with a dot."""
    prefix = "Async." if name.startswith("Async.") else ""
    rest = name.removeprefix("Async.")
    if "." in rest:
        return name
    for cls in _by_length():
        if rest.startswith(cls + "_"):
            return f"{prefix}{cls}.{rest[len(cls) + 1 :]}"
    return name


@cache
def _by_length() -> tuple[str, ...]:
    """Names before a dot, the longest first: ``VM_guest_metrics`` before ``VM``."""
    return tuple(sorted((*load_model(), "system"), key=len, reverse=True))


def _can_be_async(name: str) -> bool:
    verb = name.partition(".")[2]
    return not verb.startswith(NOT_ASYNC) or name in HANDLERS


def _check_params(method: Method, params: list[Any]) -> list[Any]:
    given = params[1:] if method.session else params
    received = len(params) - 1 if method.session else len(params)
    if not method.fewest <= received <= method.most:
        raise Failure("MESSAGE_PARAMETER_COUNT_MISMATCH", method.name, method.most, received)
    return [
        check_value(value, kind, field, method.enums)
        for value, (field, kind) in zip(given, method.params, strict=False)
    ]


def _special(name: str, handler: Handler) -> Method:
    params = tuple((f"argument {index}", _STRING) for index in range(handler.most))
    return Method(
        name=name,
        params=params,
        returns="string",
        enums={},
        fewest=handler.fewest,
        most=handler.most,
        session=handler.session,
        locked=handler.locked,
        handler=handler,
    )


def _registered(cls: ClassModel, name: str, verb: str, handler: Handler) -> Method:
    params: tuple[tuple[str, Type], ...]
    found = generated(cls, verb)
    if verb in cls.messages:
        params, returns = cls.messages[verb].params, cls.messages[verb].returns
    elif found is not None:
        params, returns = found.params, found.returns
    else:
        return _special(name, handler)  # newer than the data model, or left out of it
    assert len(params) >= handler.most, f"{name} takes {len(params)} parameters"
    return Method(
        name=name,
        params=params,
        returns=returns,
        enums=cls.enums,
        fewest=handler.fewest,
        most=handler.most,
        session=handler.session,
        locked=handler.locked,
        handler=handler,
    )


def _unregistered(cls: ClassModel, name: str, verb: str) -> Method:
    """A message of the model without a function: setters of a field work, the rest says so."""
    message = cls.messages[verb]
    if message.removed:
        return _removed(name)
    found = generated(cls, verb)
    reads_field = found is not None and bool(found.field) and verb.startswith("get_")
    if found is not None and not reads_field and len(found.params) == len(message.params):
        return _from_generated(cls, name, found)

    def refuse(_call: Call, *_args: Any) -> Any:
        raise Failure("NOT_IMPLEMENTED", name)

    count = len(message.params)
    handler = Handler(function=refuse, fewest=0, most=count, session=True, locked=False)
    return Method(
        name=name,
        params=message.params,
        returns=message.returns,
        enums=cls.enums,
        fewest=0,
        most=count,
        handler=handler,
    )


def _from_generated(cls: ClassModel, name: str, found: Generated) -> Method:
    count = len(found.params)
    return Method(
        name=name,
        params=found.params,
        returns=found.returns,
        enums=cls.enums,
        fewest=count,
        most=count,
        generated=found,
    )


def _removed(name: str) -> Method:
    def refuse(_call: Call, *_args: Any) -> Any:
        raise Failure("MESSAGE_REMOVED")

    handler = Handler(function=refuse, fewest=0, most=99, session=True, locked=False)
    return Method(name=name, params=(), returns="void", enums={}, fewest=0, most=99, handler=handler)
