"""A session with a pool's master: log in, stay logged in, call.

Threads may share one. It follows HOST_IS_SLAVE, waits while a host boots, and logs in again once when the session
has become invalid (a toolstack restart kills all sessions; object references survive). A call of which nothing was
sent, or that does the same when done twice, is repeated after a broken connection; any other broken call is raised
with ``outcome_unknown``. A call that the pool refuses because something is busy is asked again, bounded: such a
failure means that nothing was done.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from xobackup.clock import Clock
from xobackup.xapi import task as tasks
from xobackup.xapi.address import Endpoint, PoolAddress
from xobackup.xapi.errors import (
    AnswerTimeout,
    Busy,
    ConnectionLost,
    HostIsSlave,
    ProtocolError,
    SessionInvalid,
    Unreachable,
    XapiError,
)
from xobackup.xapi.retry import retry_transient, wait_while_busy
from xobackup.xapi.rpc import RpcClient
from xobackup.xapi.timeouts import Timeouts
from xobackup.xapi.tls import CheckedContext, context_for

ORIGINATOR = "xobackup"
API_VERSION = "1.0"
HOPS_MAX = 4
"""Hosts that may send us on to another one in a row; a pool needs one."""

_WITHOUT_SESSION = frozenset({"system.listMethods"})
_REPEATABLE = frozenset({"event.from", "system.listMethods", "VM.update_allowed_operations"})
_REPEATABLE_VERBS = ("get_", "set_", "remove_from_")


def repeatable(method: str) -> bool:
    """Whether doing the call twice is the same as doing it once: it reads, sets one value, or removes one key."""
    return method in _REPEATABLE or method.partition(".")[2].startswith(_REPEATABLE_VERBS)


class Session:
    """See the module's head. Make one with :meth:`connect`; it is a context manager."""

    def __init__(self, address: PoolAddress, *, clock: Clock) -> None:
        self.address = address
        self.clock = clock
        self.tls: CheckedContext = context_for(address.tls)
        self._configured = address.endpoint()
        self._lock = threading.RLock()
        self._clients: dict[Endpoint, RpcClient] = {}
        self._client = self._client_of(self._configured)
        self._ref: str | None = None
        self._methods: frozenset[str] | None = None
        self._silent = False

    @classmethod
    def connect(cls, address: PoolAddress, *, clock: Clock) -> Session:
        """Log in at ``address``; raises from the :class:`XapiError` tree."""
        session = cls(address, clock=clock)
        try:
            wait_while_busy(lambda: session.renew(None), clock=clock, timeouts=session.timeouts)
        except BaseException:
            session.close()
            raise
        return session

    @property
    def timeouts(self) -> Timeouts:
        return self.address.timeouts

    @property
    def endpoint(self) -> Endpoint:
        """The host calls go to: the master."""
        return self._client.endpoint

    def __repr__(self) -> str:
        return f"Session({self._client.endpoint.url})"

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Log out, if the host can be reached, and close all connections."""
        with self._lock:
            ref, self._ref = self._ref, None
            if ref is not None:
                with contextlib.suppress(XapiError):  # the host forgets idle sessions by itself
                    self._client.call("session.logout", [ref], timeout_s=self.timeouts.connect_s)
            for client in self._clients.values():
                client.close()

    def reference(self) -> str:
        """The session's reference, for the query of a transfer. A secret: never in messages."""
        with self._lock:
            if self._ref is None:
                self.renew(None)
            assert self._ref is not None
            return self._ref

    def renew(self, stale: str | None) -> None:
        """Log in again, unless another thread already replaced ``stale``."""
        with self._lock:
            if self._ref is not None and self._ref != stale:
                return
            try:
                self._login(self._client.endpoint)
            except Unreachable:
                if self._client.endpoint == self._configured:
                    raise
                self._login(self._configured)  # the master moved on: the configured host knows where to

    def call(self, method: str, *args: Any, timeout_s: float | None = None, patient: bool = True) -> Any:
        """Call ``method`` with the session first; returns the decoded result.

        ``patient``: a refusal because something is busy is waited out; those who do something about it themselves
        take it at once.
        """
        again = repeatable(method)

        def connected() -> Any:
            return retry_transient(
                lambda: self._call_in_session(method, args, timeout_s),
                clock=self.clock,
                tries=self.timeouts.reconnect_tries,
                pause_s=self.timeouts.reconnect_pause_s,
                when=lambda error: isinstance(error, Unreachable) or (again and isinstance(error, ConnectionLost)),
                on_retry=self._go_home,
            )

        return wait_while_busy(connected, clock=self.clock, timeouts=self.timeouts) if patient else connected()

    def call_once(self, method: str, *args: Any, timeout_s: float | None = None) -> Any:
        """As :meth:`call`, but a broken connection is raised at once: for tidying up, which must not take long."""
        return self._call_in_session(method, args, timeout_s)

    def call_async(
        self,
        method: str,
        *args: Any,
        timeout_s: float | None = None,
        progress: Callable[[float], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        patient: bool = True,
    ) -> str | None:
        """Run ``method`` as a task and wait for it; returns its result as text, ``None`` for void.

        ``progress`` is told 0…1. When ``timeout_s`` is over or ``should_stop`` says so the task is cancelled.
        ``patient`` as for :meth:`call`.
        """

        def once() -> Any:
            return tasks.run(self, method, args, timeout_s=timeout_s, progress=progress, should_stop=should_stop)

        if patient:
            result = wait_while_busy(once, clock=self.clock, timeouts=self.timeouts, should_stop=should_stop)
        else:
            result = once()
        if result is not None and not isinstance(result, str):
            raise ProtocolError(method, f"expected one value as the task's result, found {type(result).__name__}")
        return result

    def record(self, cls: str, ref: str) -> dict[str, Any]:
        """One object's record."""
        found = self.call(f"{cls}.get_record", ref)
        if not isinstance(found, dict):
            raise ProtocolError(f"{cls}.get_record", f"expected a record, found {type(found).__name__}")
        return found

    def records(self, cls: str) -> dict[str, dict[str, Any]]:
        """All records of a class by reference."""
        found = self.call(f"{cls}.get_all_records")
        if not isinstance(found, dict) or not all(isinstance(value, dict) for value in found.values()):
            raise ProtocolError(f"{cls}.get_all_records", "expected a map of records")
        return found

    def by_uuid(self, cls: str, uuid: str) -> str:
        """The reference of an object; :class:`NotFound` if there is none."""
        found = self.call(f"{cls}.get_by_uuid", uuid)
        if not isinstance(found, str):
            raise ProtocolError(f"{cls}.get_by_uuid", f"expected a reference, found {type(found).__name__}")
        return found

    def has_method(self, name: str) -> bool:
        """Whether the host knows the call (its list is asked once)."""
        if self._methods is None:
            found = self.call("system.listMethods")
            if not isinstance(found, list):
                raise ProtocolError("system.listMethods", f"expected a list, found {type(found).__name__}")
            self._methods = frozenset(str(method) for method in found)
        return name in self._methods

    def _call_in_session(self, method: str, args: tuple[Any, ...], timeout_s: float | None) -> Any:
        renewals = hops = 0
        booting_until: float | None = None
        while True:
            with self._lock:
                ref = self.reference()
                client = self._client
            params = list(args) if method in _WITHOUT_SESSION else [ref, *args]
            try:
                result = client.call(method, params, timeout_s=self._patience_s(timeout_s))
                self._silent = False
                return result
            except AnswerTimeout:
                self.fell_silent()
                raise
            except SessionInvalid:
                renewals += 1
                if renewals > 1:
                    raise
            except HostIsSlave as error:
                hops += 1
                if hops >= HOPS_MAX:
                    raise
                self._move(client, error.master)
            except Busy as error:
                booting_until = self._wait_for_boot(error, booting_until)
                continue
            self.renew(ref)

    def fell_silent(self) -> None:
        """The host has left something without an answer: until it answers again, less is waited for it."""
        self._silent = True

    def _patience_s(self, timeout_s: float | None) -> float | None:
        """How long to wait for an answer: what is asked for, less what a host gets that is known to answer."""
        if not self._silent:
            return timeout_s
        usual_s = self.timeouts.call_s
        wanted_s = usual_s if timeout_s is None else timeout_s
        return min(wanted_s, max(0.0, wanted_s - usual_s) + self.timeouts.silent_s)

    def _login(self, endpoint: Endpoint) -> None:
        credentials = [self.address.username, self.address.password, API_VERSION, ORIGINATOR]
        booting_until: float | None = None
        hops = 0
        while True:
            client = self._client_of(endpoint)
            try:
                ref = client.call("session.login_with_password", credentials)
                break
            except HostIsSlave as error:
                hops += 1
                if not error.master or hops >= HOPS_MAX:
                    problem = f"the hosts send us from one to the next, {hops} times, and none is the master"
                    raise ProtocolError(endpoint.authority, problem) from error
                endpoint = endpoint.at(error.master)
            except Busy as error:
                booting_until = self._wait_for_boot(error, booting_until)
        if not isinstance(ref, str) or not ref:
            raise ProtocolError(endpoint.authority, f"login: expected a session, found {type(ref).__name__}")
        self._client, self._ref, self._methods = client, ref, None

    def _wait_for_boot(self, error: Busy, until: float | None) -> float:
        """Pause if the host is booting and may go on doing so; raises ``error`` otherwise."""
        if error.code != "HOST_STILL_BOOTING":
            raise error
        now = self.clock.monotonic_s()
        until = now + self.timeouts.boot_s if until is None else until
        if now >= until:
            raise error
        self.clock.sleep(self.timeouts.boot_pause_s)
        return until

    def _move(self, client: RpcClient, master: str) -> None:
        with self._lock:
            if self._client is client and master:
                self._client = self._client_of(client.endpoint.at(master))

    def _go_home(self, _attempt: int, error: XapiError) -> None:
        """A master that is gone is asked for at the configured host."""
        with self._lock:
            if isinstance(error, Unreachable) and self._client.endpoint != self._configured:
                self._client = self._client_of(self._configured)

    def _client_of(self, endpoint: Endpoint) -> RpcClient:
        client = self._clients.get(endpoint)
        if client is None:
            client = RpcClient(endpoint, tls=self.tls, timeouts=self.timeouts)
            self._clients[endpoint] = client
        return client


__all__ = ["Endpoint", "PoolAddress", "Session", "Timeouts", "repeatable"]
