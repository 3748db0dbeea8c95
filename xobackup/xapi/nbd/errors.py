"""What can go wrong with reading by NBD.

    XapiError
    └── NbdError                 .server: who (address and port)
        ├── NbdNotOffered        the pool offers no NBD for this disk
        ├── NbdUnreachable       no connection (transient)
        ├── NbdLost              the connection broke (transient)
        ├── NbdTimeout           no answer in time (transient)
        ├── NbdTlsError          no TLS, or its certificate is not the one the pool named
        ├── NbdRefused           the server does not give this export (.transient: it closed without saying why)
        ├── NbdProtocolError     the answer is not NBD, or not to what was asked
        ├── NbdReadFailed        the server could not read (.errno_name, .offset, .length)
        ├── NbdSizeMismatch      the export is smaller than the disk
        └── NbdCancelled         we stopped it

Messages never hold an export's name: it contains the session.
"""

from __future__ import annotations

from xobackup.xapi.errors import XapiError, clean_text


class NbdError(XapiError):
    """Reading from ``server`` failed."""

    def __init__(self, server: str, problem: str) -> None:
        self.server = server
        self.problem = problem
        super().__init__(f"NBD {server}: {problem}")


class NbdNotOffered(NbdError):
    """The pool names no server for this disk."""

    hint = "give a network of the hosts the purpose nbd (xe network-param-add param-name=purpose param-key=nbd)"


class NbdUnreachable(NbdError):
    """No connection could be made."""

    transient = True
    hint = "check the network with the purpose nbd, and firewalls on the way (port 10809)"


class NbdLost(NbdError):
    """The connection broke, or the server closed it."""

    transient = True


class NbdTimeout(NbdError):
    """No answer in time."""

    transient = True


class NbdTlsError(NbdError):
    """TLS does not come about, or not with whom the pool named."""


class NbdRefused(NbdError):
    """The server does not give this export. Asking again with a fresh name can help when it said no reason."""

    def __init__(self, server: str, problem: str, *, transient: bool = False) -> None:
        super().__init__(server, problem)
        self.transient = transient


class NbdProtocolError(NbdError):
    """Not what an NBD server sends."""

    hint = "is there an NBD server at this address?"


class NbdReadFailed(NbdError):
    """The server answered a read with an error."""

    def __init__(
        self, server: str, *, errno_name: str, offset: int, length: int, transient: bool, said: str = ""
    ) -> None:
        self.errno_name = errno_name
        self.offset = offset
        self.length = length
        words = f": {clean_text(said)}" if said else ""
        super().__init__(server, f"{errno_name} reading {length} bytes at {offset}{words}")
        self.transient = transient


class NbdSizeMismatch(NbdError):
    """The export ends before the disk does."""

    def __init__(self, server: str, *, expected_bytes: int, found_bytes: int) -> None:
        self.expected_bytes = expected_bytes
        self.found_bytes = found_bytes
        super().__init__(server, f"the export has {found_bytes} bytes, expected at least {expected_bytes}")


class NbdCancelled(NbdError):
    """We stopped it."""

    def __init__(self, server: str) -> None:
        super().__init__(server, "cancelled")
