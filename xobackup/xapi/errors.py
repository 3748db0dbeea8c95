"""What can go wrong with a pool.

    XapiError                    .transient: trying again later can help; .hint: what the operator can do
    ├── AddressError             the pool's URL cannot be used
    ├── TlsError                 the host's certificate is not the one expected (.found_sha256)
    ├── TransportError           .outcome_unknown: the request may have been carried out
    │   ├── Unreachable          no connection, so nothing was sent
    │   ├── ConnectionLost       it broke before the answer was complete
    │   └── AnswerTimeout        no answer in time
    ├── ProtocolError            the answer is not what a XAPI host sends
    │   └── HttpError            an HTTP status other than 200 (.status)
    ├── RequestTooLarge          XAPI takes at most 300 KiB
    ├── BadRecord                a record lacks what it must have, or points to one that is gone
    ├── XapiFailure              XAPI said no (.code, .params, .method)
    │   ├── LoginError           wrong user or password
    │   ├── SessionInvalid       handled by the session: log in again, once
    │   ├── HostIsSlave          handled by the session: go to .master
    │   ├── Busy                 retry soon
    │   ├── NotFound             the object does not exist (any more)
    │   ├── FullNeeded           the base of a delta cannot be used; a full can
    │   ├── OutOfSpace           the SR is full
    │   ├── OperatorProblem      somebody has to change something first
    │   ├── NotSupported         this host does not know the call, or not in this form
    │   ├── DuplicateKey         another writer set the map key first
    │   ├── Cancelled            the task was cancelled
    │   └── HostTrouble          internal errors and I/O errors: never retried blindly
    ├── OutcomeUnknown           the task vanished: it may have succeeded (.task)
    ├── TaskTimeout              it took longer than allowed (.task)
    ├── WaitTimeout              what was waited for did not happen
    ├── NbdError                 reading by NBD: its own tree, in nbd/errors.py
    └── TransferError            an export or import
        ├── TransferRefused      the host answered with an HTTP error (.status)
        ├── TransferBroken       it began and did not end well
        └── TransferCancelled    we stopped it

Messages never hold a password or a session reference.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

TEXT_MAX = 600
"""Characters of a peer's text quoted in a message; a stack trace in it helps nobody."""


class XapiError(Exception):
    """Root of everything this package raises for what a pool or the network does."""

    transient = False
    """Trying the same again later can help."""
    outcome_unknown = False
    """It may have been carried out nevertheless."""
    hint: str | None = None
    """What the operator can do."""


class AddressError(XapiError):
    """The address of a pool cannot be used."""

    def __init__(self, url: str, problem: str) -> None:
        self.url = url
        self.problem = problem
        super().__init__(f"pool address {url}: {problem}")
        self.hint = "give it as https://HOST or https://HOST:PORT"


class TlsError(XapiError):
    """The certificate of ``host`` is not the one expected."""

    def __init__(self, host: str, problem: str, *, found_sha256: str | None = None) -> None:
        self.host = host
        self.problem = problem
        self.found_sha256 = found_sha256
        found = f" (the certificate found has sha256 {found_sha256})" if found_sha256 else ""
        super().__init__(f"{host}: {problem}{found}")
        if found_sha256:
            self.hint = (
                "compare it on the host (openssl x509 -noout -fingerprint -sha256 -in /etc/xensource/xapi-ssl.pem); "
                "if it is the same, pin this fingerprint in the pool's configuration"
            )


class TransportError(XapiError):
    """The connection to ``host`` is in the way."""

    transient = True

    def __init__(self, host: str, problem: str, *, outcome_unknown: bool = False) -> None:
        self.host = host
        self.problem = problem
        self.outcome_unknown = outcome_unknown
        super().__init__(f"{host}: {problem}")


class Unreachable(TransportError):
    """No connection could be made; nothing was sent."""

    hint = "check the address, that the host is up, and firewalls on the way (port 443)"


class ConnectionLost(TransportError):
    """The connection broke before the answer was complete."""


class AnswerTimeout(TransportError):
    """No answer in time."""


class ProtocolError(XapiError):
    """``host`` answered with something a XAPI host does not send."""

    hint = "is there a XAPI host at this address, and no other web server or proxy before it?"

    def __init__(self, host: str, problem: str) -> None:
        self.host = host
        self.problem = problem
        super().__init__(f"{host}: {problem}")


class HttpError(ProtocolError):
    """An HTTP status other than 200 to a call."""

    def __init__(self, host: str, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(host, f"HTTP status {status}, expected 200: {text or 'no text'}")


class RequestTooLarge(XapiError):
    """A call is bigger than XAPI accepts."""

    def __init__(self, method: str, size_bytes: int, limit_bytes: int) -> None:
        self.method = method
        self.size_bytes = size_bytes
        super().__init__(f"{method}: the request has {size_bytes} bytes, XAPI takes at most {limit_bytes}")


class BadRecord(XapiError):
    """A record of the pool's database is not usable."""

    def __init__(self, cls: str, ref: str, problem: str) -> None:
        self.cls = cls
        self.ref = ref
        self.problem = problem
        super().__init__(f"{cls} {ref}: {problem}")


class XapiFailure(XapiError):
    """XAPI's own failure: ``code`` and its parameters. Made by :func:`xobackup.xapi.failures.failure`."""

    def __init__(self, code: str, params: Sequence[str] = (), *, method: str = "", sentence: str = "") -> None:
        self.code = code
        self.params = tuple(params)
        self.method = method
        self.sentence = sentence or code
        super().__init__(f"{method}: {self.sentence}" if method else self.sentence)


class LoginError(XapiFailure):
    """Wrong user or password."""


class SessionInvalid(XapiFailure):
    """The session is not known any more."""


class HostIsSlave(XapiFailure):
    """The pool's master is elsewhere."""

    @property
    def master(self) -> str:
        """The master's address; empty if the host did not say."""
        return self.params[0].strip() if self.params else ""


class Busy(XapiFailure):
    """In use or overloaded: retry soon."""


class NotFound(XapiFailure):
    """No such object."""


class FullNeeded(XapiFailure):
    """The base of a delta cannot be used."""


class OutOfSpace(XapiFailure):
    """The SR is full."""


class OperatorProblem(XapiFailure):
    """Somebody has to change something first."""


class NotSupported(XapiFailure):
    """This host does not know the call, or not with these parameters."""


class DuplicateKey(XapiFailure):
    """The map already has this key."""


class Cancelled(XapiFailure):
    """The task was cancelled."""


class HostTrouble(XapiFailure):
    """An internal or I/O error of the host."""


class OutcomeUnknown(XapiError):
    """The task is gone before its end was seen: it may have succeeded."""

    outcome_unknown = True
    hint = "look on the pool whether it happened before doing it again"

    def __init__(self, what: str, task: str, problem: str = "its task vanished before its end was seen") -> None:
        self.what = what
        self.task = task
        super().__init__(f"{what}: {problem} (task {task}), the outcome is unknown")


class TaskTimeout(XapiError):
    """Not done in time; ``outcome_unknown`` if it was still running after we asked to cancel it."""

    def __init__(self, what: str, task: str, timeout_s: float, *, outcome_unknown: bool) -> None:
        self.what = what
        self.task = task
        self.timeout_s = timeout_s
        self.outcome_unknown = outcome_unknown
        end = "and is still running after a request to cancel it" if outcome_unknown else "and was cancelled"
        super().__init__(f"{what}: not done after {timeout_s:g} s {end} (task {task})")


class WaitTimeout(XapiError):
    """What was waited for did not happen."""

    transient = True

    def __init__(self, what: str, timeout_s: float) -> None:
        self.what = what
        self.timeout_s = timeout_s
        super().__init__(f"{what}: did not happen within {timeout_s:g} s")


class TransferError(XapiError):
    """An export or import failed. ``what`` names it."""

    def __init__(self, what: str, problem: str) -> None:
        self.what = what
        self.problem = problem
        super().__init__(f"{what}: {problem}")


class TransferRefused(TransferError):
    """The host answered with an HTTP error."""

    def __init__(self, what: str, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(what, f"the host answered HTTP status {status}: {text or 'no text'}")


class TransferBroken(TransferError):
    """It began and did not end well."""

    def __init__(self, what: str, problem: str, *, transient: bool = False) -> None:
        super().__init__(what, problem)
        self.transient = transient


class TransferCancelled(TransferError):
    """We stopped it."""

    def __init__(self, what: str) -> None:
        super().__init__(what, "cancelled")


_SESSION_ID = re.compile(r"(session_id=)[^&\s\"'<>;]+")
_TAG = re.compile(r"<[^>]{0,200}>")
_SPACE = re.compile(r"\s+")


def clean_text(text: str, *, secrets: Sequence[str] = ()) -> str:
    """A peer's text made fit for a message: no session, no control characters, one line, bounded."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    text = _SESSION_ID.sub(r"\1***", text)
    text = "".join(char if char.isprintable() or char.isspace() else "�" for char in text)
    text = _SPACE.sub(" ", text).strip()
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


def text_of_html(body: bytes, *, secrets: Sequence[str] = ()) -> str:
    """The words of an error page."""
    return clean_text(_TAG.sub(" ", body.decode("utf-8", "replace")), secrets=secrets)
