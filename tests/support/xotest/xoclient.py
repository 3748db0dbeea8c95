"""A client with Xen Orchestra's manners, for tests of the simulated pool: no code shared with the real one.

It keeps a copy of all objects by an event loop of its own and believes only that copy: a task has ended when an event
says so, a write is through when a mark on the pool has come back (the barrier). Transfers follow redirects; because a
body cannot be sent twice, a PUT is preceded by an empty one, without a task, that learns where to go. A disk that the
control domain still holds is waited for, ten times. Facts of the sequences: XO's packages of 2026-08, as read.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from xobackup.simpool import SimPool

WAIT_MAX_S = 20.0
TRIES = 10
PAUSE_S = 0.02
"""Xen Orchestra waits five seconds between two tries."""
BLOCKED = ("pool_migrate", "migrate_send")
NULL = "OpaqueRef:NULL"
Record = dict[str, Any]


class XoFailure(Exception):
    """A failed call or task: code and parameters."""

    def __init__(self, code: str, *params: str) -> None:
        self.code, self.params = code, list(params)
        super().__init__(code, *params)


class XoClient:
    """Connected to a pool, whichever host's address it was given; a context manager."""

    def __init__(self, pool: SimPool, *, url: str = "") -> None:
        self._pool = pool
        self._context = ssl.create_default_context(cafile=pool.ca_pem_path)
        self._local = threading.local()
        self._links: list[http.client.HTTPSConnection] = []
        self._marks = itertools.count(1)
        self.master = urlsplit(url or pool.url).netloc
        self.session = ""
        self.objects: dict[str, tuple[str, Record]] = {}
        self.changed = threading.Condition()
        self.followed: list[str] = []
        """Where transfers were sent to."""
        self.waited = 0
        """How often a busy disk was tried again."""
        self._closed = False
        self._broken: BaseException | None = None
        self._login()
        self._fill()
        self._thread = threading.Thread(target=self._watch, name="xo-events", daemon=True)
        self._thread.start()

    # -- calls

    def _link(self) -> http.client.HTTPSConnection:
        """This thread's connection to the master."""
        link: http.client.HTTPSConnection | None = getattr(self._local, "link", None)
        if link is None or getattr(self._local, "master", "") != self.master:
            where = urlsplit(f"//{self.master}")
            link = http.client.HTTPSConnection(
                where.hostname or "", where.port, context=self._context, timeout=WAIT_MAX_S
            )
            self._local.link, self._local.master = link, self.master
            self._links.append(link)
        return link

    def raw(self, method: str, *params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": list(params), "id": next(self._marks)})
        link = self._link()
        link.request("POST", "/jsonrpc", body, {"Content-Type": "application/json"})
        response = link.getresponse()
        content = response.read()
        assert response.headers["content-type"] == "application/json"  # anything else makes it fall back to XML-RPC
        answer = json.loads(content)
        error = answer.get("error")
        if error is None:
            return answer["result"]
        if isinstance(error, list):
            raise XoFailure(*error)
        raise XoFailure(error["message"], *error["data"])

    def _login(self) -> None:
        try:
            self.session = self.raw("session.login_with_password", self._pool.username, self._pool.password)
        except XoFailure as failure:
            if failure.code != "HOST_IS_SLAVE":
                raise
            self.master = failure.params[0]
            self._login()

    def call(self, method: str, *params: Any) -> Any:
        """A session that has gone is replaced, once."""
        session = self.session
        try:
            return self.raw(method, session, *params)
        except XoFailure as failure:
            if failure.code != "SESSION_INVALID" or self._closed:
                raise
            if self.session == session:
                self._login()
            return self.raw(method, self.session, *params)

    def call_async(self, method: str, *params: Any) -> str:
        """By a task, whose end the events tell; its result without the tags."""
        task = self.call(f"Async.{method}", *params)
        record = self.ended(task)
        self.call("task.destroy", task)
        if record["status"] != "success":
            raise XoFailure(*record["error_info"])
        return re.sub(r"</?value>", "", str(record["result"]))

    def ended(self, task: str) -> Record:
        """The record of a task once an event has said that it ended."""
        found = self.wait_for(task, lambda record: record["status"] not in ("pending", "cancelling"))
        assert found is not None
        return found

    # -- the copy of all objects

    def _fill(self) -> None:
        pool, record = next(iter(self.call("pool.get_all_records").items()))
        self.product = self.call("host.get_record", record["master"])["software_version"]["product_version"]
        listed = self.raw("system.listMethods")
        self.classes = [name.partition(".")[0] for name in listed if name.endswith(".get_all_records")]
        self.pool = pool
        self._token = self.call("event.inject", "pool", pool)
        for cls in list(self.classes):
            try:
                self.objects |= {ref: (cls, one) for ref, one in self.call(f"{cls}.get_all_records").items()}
            except XoFailure as failure:
                assert failure.code == "MESSAGE_REMOVED"
                self.classes.remove(cls)

    def _watch(self) -> None:
        names = {cls.lower(): cls for cls in self.classes}
        try:
            while not self._closed:
                batch = self.call("event.from", self.classes, self._token, 60.1)
                with self.changed:
                    self._token = batch["token"]
                    for event in batch["events"]:
                        if event["operation"] == "del":
                            self.objects.pop(event["ref"], None)
                        else:
                            self.objects[event["ref"]] = (names[event["class"]], event["snapshot"])
                    self.changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            with self.changed:
                self._broken = error
                self.changed.notify_all()

    def wait_for(self, ref: str, test: Callable[[Record], bool] | None) -> Record | None:
        """The object's record once it passes ``test``, by the events alone; ``None``: once it is gone."""
        deadline = time.monotonic() + WAIT_MAX_S
        with self.changed:
            while True:
                found = self.objects.get(ref)
                if found is None and test is None:
                    return None
                if found is not None and test is not None and test(found[1]):
                    return found[1]
                if self._broken is not None:
                    raise self._broken
                assert self.changed.wait(deadline - time.monotonic()), f"no event about {ref} ({found})"

    def find(self, cls: str, test: Callable[[Record], bool]) -> list[str]:
        with self.changed:
            return [ref for ref, (kind, record) in self.objects.items() if kind == cls and test(record)]

    def record(self, ref: str) -> Record:
        with self.changed:
            return self.objects[ref][1]

    def barrier(self) -> None:
        """Return when everything written before has come back by the events."""
        key, value = f"xo:barrier:{next(self._marks)}", str(next(self._marks))
        self.call("pool.add_to_other_config", self.pool, key, value)
        self.wait_for(self.pool, lambda record: record["other_config"].get(key) == value)
        self.call("pool.remove_from_other_config", self.pool, key)

    # -- writes

    def set_entries(self, cls: str, ref: str, field: str, entries: dict[str, str | None]) -> None:
        """Each entry removed, then added; once more when somebody else added it meanwhile."""
        for key, value in entries.items():
            self.call(f"{cls}.remove_from_{field}", ref, key)
            if value is None:
                continue
            try:
                self.call(f"{cls}.add_to_{field}", ref, key, value)
            except XoFailure as failure:
                if failure.code != "MAP_DUPLICATE_KEY":
                    raise
                self.set_entries(cls, ref, field, {key: value})

    def mark(self, vm: str, entries: dict[str, str | None]) -> None:
        """Entries of ``other_config`` on a VM and its disks."""
        self.set_entries("VM", vm, "other_config", entries)
        for vdi in self.disks(vm):
            self.set_entries("VDI", vdi, "other_config", entries)

    def block(self, vm: str, operations: dict[str, str | None]) -> None:
        self.set_entries("VM", vm, "blocked_operations", operations)
        self.call("VM.update_allowed_operations", vm)

    def disks(self, vm: str) -> list[str]:
        vbds = [self.call("VBD.get_record", vbd) for vbd in self.call("VM.get_VBDs", vm)]
        found = [vbd for vbd in vbds if vbd["type"] == "Disk" and vbd["VDI"] != NULL]
        return [vbd["VDI"] for vbd in sorted(found, key=lambda vbd: int(vbd["userdevice"]))]

    # -- what is patient with busy disks

    def patiently(self, vdi: str, action: Callable[[], object]) -> None:
        """Ten tries; before the next one the control domain's hold on the disk is broken."""
        for attempt in range(TRIES):
            try:
                action()
                return
            except XoFailure as failure:
                if failure.code == "HANDLE_INVALID":
                    return
                if failure.code != "VDI_IN_USE" or attempt == TRIES - 1:
                    raise
            self.waited += 1
            self._release(vdi)
            with self.changed:
                self.changed.wait(PAUSE_S)

    def _release(self, vdi: str) -> None:
        for vbd in self.call("VDI.get_VBDs", vdi):
            try:
                if self.call("VM.get_is_control_domain", self.call("VBD.get_VM", vbd)):
                    self.call("VBD.unplug_force", vbd)
                    self.call("VBD.destroy", vbd)
            except XoFailure as failure:
                if failure.code != "HANDLE_INVALID":
                    raise

    def destroy_vdi(self, vdi: str) -> None:
        self.patiently(vdi, lambda: self.call_async("VDI.destroy", vdi))

    def destroy_vm(self, vm: str, *, disks: bool = True, bypass: bool = False) -> None:
        record = self.call("VM.get_record", vm)
        if bypass:
            self.set_entries("VM", vm, "blocked_operations", {"destroy": None})
        self.call("VM.set_is_a_template", vm, False)
        found = self.disks(vm)
        if record["power_state"] != "Halted":
            self.call("VM.hard_shutdown", vm)
        self.call_async("VM.destroy", vm)
        for snapshot in record["snapshots"]:
            self.destroy_vm(snapshot)
        for vdi in found if disks else ():
            if all(self._of_control_domain(vbd) for vbd in self.call("VDI.get_VBDs", vdi)):
                self.destroy_vdi(vdi)

    def _of_control_domain(self, vbd: str) -> bool:
        try:
            return bool(self.call("VM.get_is_control_domain", self.call("VBD.get_VM", vbd)))
        except XoFailure as error:
            if error.code != "HANDLE_INVALID":
                raise
            return True  # a control domain has just let go of it

    # -- transfers

    def get(self, path: str, label: str = "", **query: str) -> bytes:
        """A GET to its end, with a task if a label for it is given; the task must say that it went well."""
        task = self.call("task_create", label, "") if label else ""
        wanted = query | ({"task_id": task} if task else {})
        response = self._exchange("GET", self.master, path, wanted)
        with response:
            body = response.read()
        assert response.status == 200, response.status
        if body.startswith(b"HTTP/"):
            raise XoFailure("HTTP_ERROR_IN_BODY")
        self._through(task)
        return body

    def head(self, path: str, count: int, **query: str) -> bytes:
        """The first bytes of a transfer that is then given up."""
        response = self._exchange("GET", self.master, path, query)
        with response:
            return response.read(count)

    def put(self, path: str, body: bytes, label: str, **query: str) -> str:
        """A PUT with a length, where an empty one before it was sent to; the result of its task."""
        probe = self._exchange("PUT", self.master, path, query, b"")
        with probe:
            where = self._location(probe) if probe.status == 302 else self.master
        task = self.call("task_create", label, "")
        with self._exchange("PUT", where, path, {**query, "task_id": task}, body) as response:
            assert response.status == 200, response.status
            self.call("task.set_progress", task, 0.5)
        return self._through(task)

    def _through(self, task: str) -> str:
        if not task:
            return ""
        record = self.ended(task)
        self.call("task.destroy", task)
        if record["status"] != "success":
            raise XoFailure(*record["error_info"])
        return re.sub(r"</?(value|array|data)>", "", str(record["result"]))

    def _exchange(
        self, method: str, host: str, path: str, query: dict[str, str], body: bytes | None = None
    ) -> http.client.HTTPResponse:
        where = urlsplit(f"//{host}")
        link = http.client.HTTPSConnection(
            where.hostname or "", where.port, context=self._context, timeout=WAIT_MAX_S
        )
        target = f"{path}?{urlencode({'session_id': self.session, **query})}"
        link.request(method, target, body)
        response = link.getresponse()
        link.close()  # the answer keeps the socket until it is read
        if response.status == 302 and method == "GET":
            response.close()
            return self._exchange(method, self._location(response), path, query)
        return response

    def _location(self, response: http.client.HTTPResponse) -> str:
        """The host that a redirect names."""
        self.followed.append(urlsplit(response.headers["Location"]).netloc)
        return self.followed[-1]

    # -- the end

    def close(self) -> None:
        self._closed = True
        self.raw("session.logout", self.session)  # wakes the event loop
        self._thread.join(WAIT_MAX_S)
        for link in self._links:
            link.close()

    def __enter__(self) -> XoClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
