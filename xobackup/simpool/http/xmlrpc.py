"""``POST /`` (and whatever else no longer prefix serves): XML-RPC, the wire of xapi's own SDKs.

A failure of the API is no fault but a struct: ``{Status: Failure, ErrorDescription: [code, parameters ...]}``.
``system.listMethods`` alone answers a bare array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.simpool.failures import Failure
from xobackup.simpool.http.rpc import Malformed, answer_call
from xobackup.simpool.values import parse_type
from xobackup.simpool.xml_values import MalformedXml, plain, read_call, typed, xml_value

if TYPE_CHECKING:
    from xobackup.simpool.host_server import HostDispatcher
    from xobackup.simpool.http.wire import Connection, Request

_STRINGS = parse_type("string set")
BARE = frozenset({"system.listMethods", "system_listMethods"})


class XmlRpc:
    """The handler."""

    def __init__(self, dispatcher: HostDispatcher) -> None:
        self._dispatcher = dispatcher

    def __call__(self, request: Request, connection: Connection) -> bool:
        return answer_call(request, connection, self.reply, "text/xml")

    def reply(self, body: bytes) -> bytes:
        """The answer to one call. Raises :class:`Malformed`."""
        try:
            method, params = read_call(body)
        except MalformedXml as error:
            raise Malformed(str(error)) from error
        try:
            inside = self._call(method, params)
        except RecursionError as error:
            raise Malformed("values too deep in each other") from error
        except Failure as failure:
            details = failure.details
            if failure.code == "MESSAGE_METHOD_UNKNOWN" and self._dispatcher.lacks_async(method):
                details = ["Fault", method]
            described = xml_value(details, _STRINGS)
            inside = _envelope("Failure", "ErrorDescription", described)
        head = '<?xml version="1.0"?><methodResponse><params><param>'
        return f"{head}{inside}</param></params></methodResponse>".encode()

    def _call(self, method: str, params: list[object]) -> str:
        wanted = self._dispatcher.signature(method)
        if wanted is None:
            sent = [plain(value) for value in params]
        else:
            kinds = [kind for _, kind in wanted.params]
            skipped = [parse_type("string")] if wanted.session else []
            known = [*skipped, *kinds]
            sent = [typed(value, kind) for value, kind in zip(params, known, strict=False)]
            sent += [plain(value) for value in params[len(known) :]]
        value = self._dispatcher.call(method, sent)
        if method in BARE:
            return xml_value(value, _STRINGS)
        returns = "string" if wanted is None or method.startswith("Async.") else wanted.returns
        return _envelope("Success", "Value", xml_value("" if returns == "void" else value, parse_type(returns)))


def _envelope(status: str, name: str, value: str) -> str:
    return (
        f"<value><struct><member><name>Status</name><value>{status}</value></member>"
        f"<member><name>{name}</name>{value}</member></struct></value>"
    )
