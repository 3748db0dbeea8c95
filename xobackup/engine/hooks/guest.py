"""The hook inside a guest, as Xen Orchestra defines it, so that guests prepared for it need nothing else.

A running VM with the tag ``xo:notify-on-snapshot`` is asked ``GET https://<its address>:1727/sync`` before its
snapshot and ``/post-sync`` after it; ``xo:notify-on-snapshot=URL`` names another server (its path is replaced). The
last tag that matches counts. ``Authorization: Bearer <secret in base64>``. A failure is only warned of.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from xobackup.engine.hooks.hook import GuestHooks
from xobackup.engine.hooks.request import Request, is_address, send, unverified
from xobackup.xapi.errors import XapiError
from xobackup.xapi.values import is_null

if TYPE_CHECKING:
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.view import VmView
    from xobackup.xapi.session import Session

TAG = "xo:notify-on-snapshot"
PORT = 1727
BEFORE, AFTER = "/sync", "/post-sync"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCall:
    """Where a guest wants to be told; ``problem`` says why it cannot be."""

    origin: str = ""
    problem: str = ""


def wanted(tags: Iterable[str]) -> str | None:
    """The tag that counts, ``None`` when there is none."""
    matching = [tag for tag in tags if tag == TAG or tag.startswith(f"{TAG}=")]
    return matching[-1] if matching else None


def guest_tag(hooks: GuestHooks, vm: VmView) -> str | None:
    """The tag by which a running guest wants to be told; ``None``: it is not told."""
    return wanted(vm.tags) if hooks.allowed and vm.power_state == "Running" else None


def guest_call(tag: str, networks: Mapping[str, str]) -> GuestCall:
    """Where to call for this tag. ``networks``: of the guest's metrics, e.g. ``{"0/ip": "192.0.2.7"}``. Pure."""
    given = tag.partition("=")[2]
    if given:
        return GuestCall(origin=given) if _is_url(given) else GuestCall(problem=f"the tag {tag} names no web address")
    address = networks.get("0/ip") or networks.get("0/ipv4/0") or networks.get("0/ipv6/0") or ""
    if not is_address(address):
        told = f"found {address!r}" if address else "its guest tools report none"
        return GuestCall(problem=f"the address of its first network interface is not known: {told}")
    host = f"[{address}]" if ":" in address else address
    return GuestCall(origin=f"https://{host}:{PORT}")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def call_guest(
    session: Session,
    vm_ref: str,
    tag: str,
    path: str,
    hooks: GuestHooks,
    *,
    cancel: CancelToken | None,
) -> str:
    """Tell the guest; returns what was wrong, as a sentence, or ``""``."""
    try:
        metrics = session.call("VM.get_guest_metrics", vm_ref)
        networks = {} if is_null(metrics) else session.call("VM_guest_metrics.get_networks", metrics)
    except XapiError as error:
        return f"cannot be asked: {error}"
    call = guest_call(tag, networks if isinstance(networks, dict) else {})
    if call.problem:
        return f"cannot be asked: {call.problem}"
    parts = urlsplit(call.origin)
    headers = {"User-Agent": "xobackup"}
    if hooks.secret and parts.scheme == "https":
        headers["Authorization"] = f"Bearer {base64.b64encode(hooks.secret.encode()).decode()}"
    try:
        tls = _tls(hooks)
    except OSError as error:
        return f"cannot be asked: {hooks.ca}: {error}"
    url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, parts.query, ""))
    return send(Request(method="GET", url=url, headers=headers, tls=tls), timeout_s=hooks.timeout_s, cancel=cancel)


def _tls(hooks: GuestHooks) -> ssl.SSLContext:
    if hooks.ca is not None:
        return ssl.create_default_context(cafile=str(hooks.ca))
    return ssl.create_default_context() if hooks.verify else unverified()
