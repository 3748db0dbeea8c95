"""From a fresh connection to an export: greeting, TLS, options.

XAPI's servers know EXPORT_NAME and STARTTLS and answer *unsupported* to the rest, so that is all that is required.
Where structured replies are offered (qemu-nbd, nbdkit) they are used, with the map of holes (``base:allocation``),
and the export is asked for with GO, which gives a reason when it is refused. EXPORT_NAME has no error answer: the
server just closes.
"""

from __future__ import annotations

from xobackup.xapi.errors import clean_text
from xobackup.xapi.nbd import protocol
from xobackup.xapi.nbd.errors import NbdLost, NbdProtocolError, NbdRefused, NbdTlsError
from xobackup.xapi.nbd.options import NbdOptions
from xobackup.xapi.nbd.protocol import BadBytes, Export, Option, Rep
from xobackup.xapi.nbd.target import NbdTarget
from xobackup.xapi.nbd.wire import Wire

REPLIES_MAX = 64
"""Replies to one option; real servers send a handful."""

Answer = tuple[int, bytes]
"""Kind and data of a reply to an option."""


def negotiate(wire: Wire, target: NbdTarget, options: NbdOptions) -> Export:
    """Agree on TLS and the export of ``target``; raises from the :class:`NbdError` tree."""
    try:
        return _Handshake(wire, target, options).run()
    except BadBytes as error:
        raise NbdProtocolError(wire.server, str(error)) from error


class _Handshake:
    def __init__(self, wire: Wire, target: NbdTarget, options: NbdOptions) -> None:
        self._wire = wire
        self._target = target
        self._options = options
        self._no_zeroes = False

    def run(self) -> Export:
        wire, options = self._wire, self._options
        wire.set_idle(options.idle_s)
        flags = protocol.unpack_greeting(wire.receive(protocol.GREETING_BYTES))
        self._no_zeroes = bool(flags & protocol.NO_ZEROES)
        ours = protocol.FIXED_NEWSTYLE | (flags & protocol.NO_ZEROES)
        wire.send(ours.to_bytes(4, "big"))
        if self._target.certificate_pem:
            self._start_tls()
        structured = options.allocation and self._accepted(Option.STRUCTURED_REPLY)
        wire.set_idle(options.attach_s)
        export = self._go() if structured else None
        export = export or self._by_name(structured=structured)
        wire.set_idle(options.idle_s)
        return export

    def _start_tls(self) -> None:
        kind, data = self._ask(Option.STARTTLS)[-1]
        if kind == Rep.ACK:
            self._wire.start_tls(self._target, timeout_s=self._options.connect_s)
            return
        code = kind - protocol.REP_ERROR
        none_here = code in (protocol.ERR_UNSUP, protocol.ERR_POLICY)
        if not (none_here and self._options.plain_allowed):
            problem = f"the pool gave a certificate for it, but it does not speak TLS: {_reason(kind, data)}"
            raise NbdTlsError(self._wire.server, problem)

    def _accepted(self, option: Option) -> bool:
        """Whether the server agrees to an option that only asks for something more."""
        kind, data = self._ask(option)[-1]
        self._check_tls(kind, data)
        return kind == Rep.ACK

    def _go(self) -> Export | None:
        """The export by GO; ``None`` when the server knows EXPORT_NAME only."""
        name = self._target.name_bytes
        context = self._allocation_context(name)
        answers = self._ask(Option.GO, protocol.pack_export_query(name, protocol.INFO_BLOCK_SIZE))
        kind, data = answers[-1]
        code = kind - protocol.REP_ERROR
        if code == protocol.ERR_UNSUP:
            return None
        self._check_tls(kind, data)
        if kind != Rep.ACK:
            passing = code == protocol.ERR_SHUTDOWN
            raise NbdRefused(self._wire.server, f"the export is refused: {_reason(kind, data)}", transient=passing)
        size, flags, largest = self._info(answers)
        return Export(
            size_bytes=size,
            flags=flags,
            read_only=bool(flags & protocol.READ_ONLY),
            structured=True,
            allocation=context,
            block_bytes_max=largest,
        )

    def _info(self, answers: list[Answer]) -> tuple[int, int, int]:
        """Size, flags and the longest request from the answers to GO."""
        size = flags = None
        largest = 0
        for kind, data in answers:
            info = int.from_bytes(data[:2], "big") if kind == Rep.INFO and len(data) >= 2 else -1
            if info == protocol.INFO_EXPORT and len(data) == 12:
                size, flags = int.from_bytes(data[2:10], "big"), int.from_bytes(data[10:], "big")
            elif info == protocol.INFO_BLOCK_SIZE and len(data) == 14:
                largest = int.from_bytes(data[10:], "big")
        if size is None or flags is None:
            raise BadBytes("expected the export's size among the answers to GO, found none")
        if 0 < largest < 512:
            raise BadBytes(f"expected a longest request of at least 512 bytes, found {largest}")
        return size, flags, largest

    def _allocation_context(self, name: bytes) -> int | None:
        query = protocol.pack_meta_query(name, protocol.ALLOCATION)
        found = None
        for kind, data in self._ask(Option.SET_META_CONTEXT, query):
            if kind == Rep.META_CONTEXT and data[4:] == protocol.ALLOCATION:
                found = int.from_bytes(data[:4], "big")
            elif kind >= protocol.REP_ERROR:
                found = None  # GO will say what is wrong with the name
        return found

    def _by_name(self, *, structured: bool) -> Export:
        wire = self._wire
        wire.send(protocol.pack_option(Option.EXPORT_NAME, self._target.name_bytes))
        try:
            raw = wire.receive(10)
        except NbdLost as error:
            problem = (
                "closed without an answer to the export's name: it does not know the session or the disk, cannot "
                "attach it, or requires TLS"
            )
            raise NbdRefused(wire.server, problem, transient=True) from error
        if not self._no_zeroes:
            padding = wire.receive(protocol.EXPORT_PADDING_BYTES)
            if any(padding):
                raise BadBytes(f"expected {len(padding)} zeros after the export's flags, found {padding[:16]!r}")
        flags = int.from_bytes(raw[8:], "big")
        return Export(
            size_bytes=int.from_bytes(raw[:8], "big"),
            flags=flags,
            read_only=bool(flags & protocol.READ_ONLY),
            structured=structured,
        )

    def _ask(self, option: Option, data: bytes = b"") -> list[Answer]:
        """All replies to an option; the last one ends it."""
        wire = self._wire
        wire.send(protocol.pack_option(option, data))
        answers: list[Answer] = []
        while len(answers) < REPLIES_MAX:
            head = protocol.unpack_option_reply(wire.receive(protocol.OPTION_REPLY_BYTES), option)
            answers.append((head.kind, wire.receive(head.length)))
            if head.kind == Rep.ACK or head.kind >= protocol.REP_ERROR:
                return answers
        raise BadBytes(f"expected at most {REPLIES_MAX} replies to option {option.name}")

    def _check_tls(self, kind: int, data: bytes) -> None:
        if kind - protocol.REP_ERROR == protocol.ERR_TLS_REQD:
            raise NbdTlsError(
                self._wire.server, f"it requires TLS, the pool gave no certificate: {_reason(kind, data)}"
            )


def _reason(kind: int, data: bytes) -> str:
    """What an error reply says. The server's own words may quote the export's name, with its session."""
    number = kind - protocol.REP_ERROR
    meaning = protocol.REP_ERRORS.get(number, f"error {number}")
    words = clean_text(data[:400].decode("utf-8", "replace"))
    return f"{meaning} ({words})" if words else meaning
