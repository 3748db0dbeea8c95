"""A socket to an NBD server, plain or TLS; whatever happens on it becomes a :class:`NbdError`.

Silence is bounded (``set_idle``), and so is a trickle: every receive has a moment by which it must be complete. The
receive buffer is left to the kernel, whose auto-tuning is what lets a long way have enough bytes in flight.
"""

from __future__ import annotations

import contextlib
import socket
import ssl

from xobackup.clock import Clock
from xobackup.xapi.errors import clean_text
from xobackup.xapi.nbd.errors import NbdError, NbdLost, NbdTimeout, NbdTlsError, NbdUnreachable
from xobackup.xapi.nbd.target import NbdTarget


class Wire:
    """One connection. :meth:`shut` may be called from any thread, everything else from one at a time."""

    def __init__(self, sock: socket.socket, server: str, *, clock: Clock) -> None:
        self._sock = sock
        self._clock = clock
        self.server = server

    @classmethod
    def connect(cls, target: NbdTarget, *, connect_s: float, clock: Clock) -> Wire:
        """Connect, without TLS."""
        try:
            sock = socket.create_connection((target.address, target.port), timeout=connect_s)
        except TimeoutError as error:
            raise NbdUnreachable(target.server, f"no connection within {connect_s:g} s") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or clean_text(str(error))
            raise NbdUnreachable(target.server, f"cannot connect: {reason}") from error
        wire = cls(sock, target.server, clock=clock)
        with contextlib.suppress(OSError):  # a peer that is gone already is noticed by what follows
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return wire

    def set_idle(self, seconds: float) -> None:
        """The silence allowed from now on."""
        self._sock.settimeout(seconds)

    def start_tls(self, target: NbdTarget, *, timeout_s: float) -> None:
        """Shake hands; raises :class:`NbdTlsError` if its certificate is not the one the pool gave."""
        context = tls_context(target)
        self._sock.settimeout(timeout_s)
        try:
            name = _name_to_check(target.subject) or target.address
            self._sock = context.wrap_socket(self._sock, server_hostname=name, suppress_ragged_eofs=False)
        except ssl.SSLCertVerificationError as error:
            why = clean_text(error.verify_message or str(error.reason))
            problem = f"its certificate is not the one the pool named for {target.subject or 'it'}: {why}"
            raise NbdTlsError(self.server, problem) from error
        except TimeoutError as error:
            raise NbdTimeout(self.server, f"no TLS handshake within {timeout_s:g} s") from error
        except ssl.SSLEOFError as error:
            raise NbdLost(self.server, "closed during the TLS handshake") from error
        except (ssl.SSLError, ValueError) as error:
            reason = clean_text(str(getattr(error, "reason", None) or error))
            raise NbdTlsError(self.server, f"TLS does not come about: {reason}") from error
        except OSError as error:
            raise self._failed("the TLS handshake", error) from error

    def send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except (OSError, ValueError) as error:
            raise self._failed("sending", error) from error

    def receive(self, count: int, *, until_s: float | None = None) -> bytes:
        """Exactly ``count`` bytes."""
        data = bytearray(count)
        self.receive_into(memoryview(data), until_s=until_s)
        return bytes(data)

    def receive_into(self, view: memoryview, *, until_s: float | None = None) -> None:
        """Fill ``view``, by ``until_s`` on the clock's monotonic counter."""
        done, size = 0, len(view)
        receive = self._sock.recv_into
        try:
            while done < size:
                count = receive(view[done:])
                if not count:
                    raise NbdLost(self.server, f"closed by the server with {size - done} bytes due")
                done += count
                if until_s is not None and done < size and self._clock.monotonic_s() > until_s:
                    raise NbdTimeout(self.server, f"too slow: {size - done} bytes of an answer are overdue")
        except ssl.SSLEOFError as error:
            raise NbdLost(self.server, f"closed by the server with {size - done} bytes due") from error
        except (OSError, ValueError) as error:
            raise self._failed("receiving", error) from error

    def shut(self) -> None:
        """Break the connection; a thread waiting in another method wakes up with an error."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # not SSLSocket's, which is for one thread only

    def close(self, *, goodbye_s: float = 0.0) -> None:
        """Close; with ``goodbye_s`` TLS is ended properly before, and the server gets that long to answer."""
        if goodbye_s and isinstance(self._sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                self._sock.settimeout(goodbye_s)
                self._sock.unwrap()
        with contextlib.suppress(OSError):
            self._sock.close()

    def _failed(self, doing: str, error: Exception) -> NbdError:
        if isinstance(error, TimeoutError):
            return NbdTimeout(self.server, f"{doing}: silence for {self._sock.gettimeout() or 0:g} s")
        why = getattr(error, "strerror", None) or clean_text(str(error)) or type(error).__name__
        return NbdLost(self.server, f"{doing}: the connection broke: {why}")


def tls_context(target: NbdTarget) -> ssl.SSLContext:
    """Trusts the certificate the pool gave and nobody else, under the name the pool gave."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a host's own certificate is the anchor, CA or not
    context.check_hostname = bool(target.subject)
    context.hostname_checks_common_name = True  # older hosts' certificates have no other names
    try:
        context.load_verify_locations(cadata=target.certificate_pem)
    except (ssl.SSLError, ValueError) as error:
        problem = f"the certificate the pool gave cannot be used (PEM): {clean_text(str(error))}"
        raise NbdTlsError(target.server, problem) from error
    return context


def _name_to_check(subject: str) -> str:
    """A name that a certificate for ``*.example.org`` is good for, when that is what the pool named."""
    return f"host{subject[1:]}" if subject.startswith("*.") else subject
