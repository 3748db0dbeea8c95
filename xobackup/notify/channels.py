"""One message to one place. Every way has its own bound of time, and says in one line why it did not work."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

from xobackup.notify.troubles import Kind
from xobackup.texts import one_line

TIMEOUT_S = 15.0
"""Of every single wait of a request."""
WHOLE_TIMEOUT_S = 30.0
"""Of a message: a server that answers a byte a second, or a mail server that hangs, must hold up no run."""
SIGNATURE = "X-Xobackup-Signature"


class Sendable(Protocol):
    """A message, or a digest."""

    @property
    def title(self) -> str:
        """One line."""
        ...

    @property
    def good(self) -> bool: ...

    @property
    def body(self) -> str:
        """As text."""
        ...

    @property
    def html(self) -> str:
        """As a document, where there is one."""
        ...

    def as_data(self) -> dict[str, Any]: ...


class NotSent(Exception):
    """Why not, without secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One place: one of ``webhook``, ``healthchecks`` and ``apprise`` is set. They may hold secrets; never shown."""

    name: str
    webhook: str = ""
    secret: str = ""
    """Signs what the webhook gets."""
    healthchecks: str = ""
    apprise: str = ""
    kinds: frozenset[Kind] = frozenset()
    jobs: frozenset[str] = frozenset()
    repeat_s: float = 86_400.0
    digest_only: bool = False
    """It is not told of troubles as they come."""


def send(channel: Channel, message: Sendable, *, now: float, trial: bool = False) -> None:
    """Raises :class:`NotSent`. ``trial``: somebody tries the channel; a check of healthchecks keeps its state."""
    raised: list[Exception] = []

    def work() -> None:
        try:
            _send(channel, message, now=now, trial=trial)
        except Exception as error:  # noqa: BLE001 - raised by the caller's thread
            raised.append(error)

    thread = threading.Thread(target=work, name=f"notify-{channel.name}", daemon=True)
    thread.start()
    thread.join(WHOLE_TIMEOUT_S)
    if thread.is_alive():
        raise NotSent(f"no answer within {WHOLE_TIMEOUT_S:.0f} s")
    if raised:
        raise raised[0] if isinstance(raised[0], NotSent) else NotSent(type(raised[0]).__name__) from raised[0]


def _send(channel: Channel, message: Sendable, *, now: float, trial: bool) -> None:
    if channel.webhook:
        body = json.dumps(message.as_data(), ensure_ascii=False).encode("utf-8", "replace")
        headers = {"Content-Type": "application/json"}
        if channel.secret:
            headers[SIGNATURE] = signature(channel.secret, body, now)
        _post(channel.webhook, body, headers)
    elif channel.healthchecks:
        state = "/log" if trial else "" if message.good else "/fail"
        body = message.body.encode("utf-8", "replace")[:10_000]
        _post(channel.healthchecks.rstrip("/") + state, body, {"Content-Type": "text/plain; charset=utf-8"})
    else:
        _apprise(channel.apprise, message)


def signature(secret: str, body: bytes, now: float) -> str:
    """``t=UNIX TIME,v1=HEX``: HMAC-SHA256 of the time, a dot, and the body."""
    moment = str(int(now))
    digest = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def _post(address: str, body: bytes, headers: dict[str, str]) -> None:
    import httpx

    try:
        answer = httpx.post(address, content=body, headers=headers, timeout=TIMEOUT_S, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise NotSent(
            f"{type(error).__name__}: {one_line(str(error).replace(address, 'its address'), 200)}"
        ) from error
    if not answer.is_success:
        raise NotSent(f"it answered {answer.status_code}")


def _apprise(address: str, message: Sendable) -> None:
    try:
        import apprise
    except ModuleNotFoundError as error:
        raise NotSent("Apprise is not installed: pip install 'xobackup[notify]'") from error
    sender = apprise.Apprise()
    if not sender.add(address):
        raise NotSent("Apprise does not know this kind of address")
    kind = apprise.NotifyType.SUCCESS if message.good else apprise.NotifyType.FAILURE
    body, form = message.body, apprise.NotifyFormat.TEXT  # else names of VMs would be HTML in a mail
    if message.html and all(_takes_html(server) for server in sender):
        body, form = message.html, apprise.NotifyFormat.HTML
    if not sender.notify(title=message.title, body=body, notify_type=kind, body_format=form):
        raise NotSent("Apprise could not deliver it")


def _takes_html(server: Any) -> bool:
    """Whether it shows HTML as such: mails do; Apprise sends the text along."""
    formats = server.notify_format
    first = next(iter(formats)) if isinstance(formats, tuple | list) else formats
    return str(getattr(first, "value", first)) == "html"


def all_kinds(names: Collection[str]) -> frozenset[Kind]:
    return frozenset(Kind(name) for name in names)
