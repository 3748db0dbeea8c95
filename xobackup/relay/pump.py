"""The bytes of one connection, carried between a socket here and its other end at the far side of a relay's line.

Both ends are this. What was read from the socket here is kept until the other end says that its socket took it; so a
line that is cut is made anew and the carrying goes on from where the other end has got to, and neither of the two who
talk to each other notices. At most :data:`WINDOW_BYTES` are kept in each direction: who sends more waits.

On the line: data frames, in order, and words: ``{"ack": N}`` after N bytes that the socket here took, also every
:data:`BEAT_S` as a sign of life; ``{"end": N}``: the socket here ended after N bytes, and when these were taken all
is over (neither XAPI nor its clients close half a connection). One thread does all of it: TLS is for one thread.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xobackup.relay.errors import BadFrame, LineLost
from xobackup.relay.frames import (
    DATA,
    DATA_MAX,
    HEADER,
    PLAIN,
    WORDS,
    ZSTD,
    Header,
    expand,
    parse_header,
    parse_words,
)
from xobackup.relay.squeezing import SMALL_BYTES, WORTH, Squeezer

WINDOW_BYTES = 2 << 20
ACK_BYTES = WINDOW_BYTES // 8
BEAT_S = 5.0
SILENCE_S = 20.0
TICK_MS = 500
PART_S = 1.0
RECEIVE_BYTES = 64 << 10
_WAITING = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


@dataclass(frozen=True, slots=True)
class Attached:
    """A line, and how many bytes the other end has already."""

    sock: socket.socket
    theirs: int


class Pump:
    """One end; see the module's head. :meth:`run` returns when it is over."""

    def __init__(
        self, local: socket.socket, attach: Callable[[int], Attached], *, silence_s: float = SILENCE_S
    ) -> None:
        """``attach``: a line, given how many bytes have come; raises :class:`LineLost` when there will be none."""
        self._local = local
        self._attach = attach
        self._silence_s = silence_s
        self._squeezer = Squeezer()
        self._kept = bytearray()
        self._kept_from = 0
        """Where the first kept byte is in what was read here."""
        self._sent_to = 0
        self._ended = False
        """The socket here said that there is no more."""
        self._end_told = False
        self.received = 0
        self._delivered = 0
        self._acked = 0
        """What the other end was told of ``_delivered``."""
        self._waiting = bytearray()
        """Received, and not yet taken by the socket here."""
        self._their_end: int | None = None
        self._over = False
        self.attached = 0
        """How many lines there were."""

    def run(self) -> None:
        """Carry until both ends are done, or there is no line any more. Closes the socket here."""
        try:
            self._local.setblocking(False)
            while not self._over:
                attached = self._attach(self.received)
                self.attached += 1
                try:
                    self._carry(attached)
                except (OSError, LineLost):
                    pass  # another line, or none
                finally:
                    attached.sock.close()
        except (LineLost, BadFrame):
            return
        finally:
            self._local.close()

    def _carry(self, attached: Attached) -> None:
        """Over one line, until it is lost (``OSError``, :class:`LineLost`) or all is over."""
        if not self._kept_from <= attached.theirs <= self._kept_from + len(self._kept):
            self._over = True  # whoever that is, he did not get what was kept here
            return
        self._sent_to, self._end_told, self._acked = attached.theirs, False, -1
        line = _Line(attached.sock)
        beat_s = heard_s = time.monotonic()
        while not self._over or line.unsent:
            now_s = time.monotonic()
            if now_s - heard_s > self._silence_s:
                raise LineLost("the other end", "no sign of life in time")
            if line.idle:
                self._fill(line, beat=now_s - beat_s > BEAT_S)
            if line.unsent:
                beat_s = now_s
            readable, writable = self._wait(line)
            if line.flush():
                self._squeezer.sent(*line.flushed())
            if readable & 1 or line.buffered:
                if line.receive():
                    heard_s = now_s
                while (frame := line.frame()) is not None:
                    self._take(*frame)
            if readable & 2:
                self._read_local()
            if self._waiting and writable & 2:
                self._write_local()
            self._settle(line)
        self._local.close()  # whoever waits for the end here has it
        line.part()

    def _wait(self, line: _Line) -> tuple[int, int]:
        """Bits of what is ready: 1 the line, 2 the socket here."""
        poll = select.poll()
        room = len(self._waiting) < 2 * WINDOW_BYTES
        poll.register(line.sock, (select.POLLIN if room else 0) | (select.POLLOUT if line.unsent else 0))
        reading = not self._ended and len(self._kept) < WINDOW_BYTES
        local = (select.POLLIN if reading else 0) | (select.POLLOUT if self._waiting else 0)
        if local:
            poll.register(self._local, local)
        buffered = isinstance(self._local, ssl.SSLSocket) and reading and self._local.pending() > 0
        events = dict(poll.poll(0 if buffered or line.buffered else TICK_MS))
        bad = select.POLLERR | select.POLLHUP
        on_line, here = events.get(line.sock.fileno(), 0), events.get(self._local.fileno(), 0) if local else 0
        readable = bool(on_line & (select.POLLIN | bad)) | (bool(here & (select.POLLIN | bad) or buffered) << 1)
        if not reading:
            readable &= 1
        return int(readable), int(bool(here & (select.POLLOUT | bad)) << 1)

    # -- to the line

    def _fill(self, line: _Line, *, beat: bool) -> None:
        """What is to be said next."""
        due = self._delivered - max(0, self._acked) >= ACK_BYTES or self._acked < 0
        if due or beat or (self._delivered != self._acked and not self._waiting):
            line.say({"ack": self._delivered})
            self._acked = self._delivered
        at = self._sent_to - self._kept_from
        if at < len(self._kept):
            piece = bytes(self._kept[at : at + DATA_MAX])
            line.put(*self._coded(piece))
            self._sent_to += len(piece)
        elif self._ended and not self._end_told:
            line.say({"end": self._sent_to})
            self._end_told = True

    def _coded(self, piece: bytes) -> tuple[Header, bytes]:
        level = self._squeezer.next_level() if len(piece) >= SMALL_BYTES else 0
        if level:
            began_s = time.perf_counter()
            found = self._squeezer.compress(memoryview(piece), level)
            self._squeezer.compressed(level, len(piece), len(found), time.perf_counter() - began_s)
            if len(found) < WORTH * len(piece):
                return Header(DATA, ZSTD, len(found), len(piece)), found
        return Header(DATA, PLAIN, len(piece), len(piece)), piece

    # -- from the line

    def _take(self, header: Header, body: bytes) -> None:
        if header.kind == DATA:
            self._waiting += body
            self.received += len(body)
            if len(self._waiting) > 3 * WINDOW_BYTES:
                raise BadFrame("more came than was asked for")
            return
        words = parse_words(body)
        acked, end = words.get("ack"), words.get("end")
        if isinstance(acked, int) and self._kept_from <= acked <= self._sent_to:
            del self._kept[: acked - self._kept_from]
            self._kept_from = acked
        if isinstance(end, int):
            self._their_end = end

    # -- the socket here

    def _read_local(self) -> None:
        while not self._ended and len(self._kept) < WINDOW_BYTES:
            try:
                piece = self._local.recv(RECEIVE_BYTES)
            except _WAITING:
                return
            except OSError:
                piece = b""
            if not piece:
                self._ended = True
                return
            self._kept += piece

    def _write_local(self) -> None:
        try:
            count = self._local.send(memoryview(self._waiting)[:RECEIVE_BYTES])
        except _WAITING:
            return
        except OSError:
            self._ended, count = True, len(self._waiting)  # it listens no more
        del self._waiting[:count]
        self._delivered += count

    def _settle(self, line: _Line) -> None:
        """It is over when the other end's bytes were taken and there will be no more; it is told so."""
        if self._over or self._their_end is None or self._delivered < self._their_end:
            return
        if not self._end_told:
            line.say({"end": self._sent_to})
        self._over = True


class _Line:
    """Frames over a socket that does not block."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._out = bytearray()
        self._in = bytearray()
        self._data_bytes = 0
        self._put_s = 0.0
        sock.setblocking(False)

    @property
    def unsent(self) -> bool:
        return bool(self._out)

    @property
    def idle(self) -> bool:
        return not self._out

    @property
    def buffered(self) -> bool:
        """There is more to receive than the system knows of."""
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def say(self, words: Mapping[str, Any]) -> None:
        raw = json.dumps(words).encode()
        self._out += HEADER.pack(WORDS, PLAIN, len(raw), len(raw)) + raw

    def put(self, header: Header, body: bytes) -> None:
        self._out += HEADER.pack(header.kind, header.coding, header.wire_bytes, header.plain_bytes)
        self._out += body
        self._data_bytes, self._put_s = len(body), time.perf_counter()

    def flush(self) -> bool:
        """Whether a piece of data went out whole, by this."""
        while self._out:
            try:
                count = self.sock.send(memoryview(self._out)[:RECEIVE_BYTES])
            except _WAITING:
                return False
            del self._out[:count]
        return self._data_bytes > 0

    def flushed(self) -> tuple[int, float]:
        """How many bytes that piece had, and how long it took."""
        count, self._data_bytes = self._data_bytes, 0
        return count, time.perf_counter() - self._put_s

    def part(self) -> None:
        """Close so that what was said last arrives: not with anything unread."""
        self.sock.settimeout(PART_S)
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
            while self.sock.recv(RECEIVE_BYTES):
                pass

    def receive(self) -> bool:
        """Whether something came. Raises :class:`LineLost` at the end."""
        try:
            piece = self.sock.recv(RECEIVE_BYTES)
        except _WAITING:
            return False
        if not piece:
            raise LineLost("the other end", "the connection was closed")
        self._in += piece
        return True

    def frame(self) -> tuple[Header, bytes] | None:
        """The next whole one; ``None``: not yet."""
        if len(self._in) < HEADER.size:
            return None
        header = parse_header(bytes(self._in[: HEADER.size]))
        if len(self._in) < HEADER.size + header.wire_bytes:
            return None
        body = bytes(self._in[HEADER.size : HEADER.size + header.wire_bytes])
        del self._in[: HEADER.size + header.wire_bytes]
        return header, body if header.coding == PLAIN else expand(body, header.plain_bytes)
