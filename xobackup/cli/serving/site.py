"""The page: there as the configuration says, made anew when that changes, tried again when it could not be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from xobackup.cli.logs import Lines
    from xobackup.cli.serving.eyes import Eyes
    from xobackup.cli.serving.house import ServiceHouse
    from xobackup.cli.serving.works import Works
    from xobackup.config.web import WebSection
    from xobackup.service.operations import Operations
    from xobackup.service.service import Service
    from xobackup.web.server import WebServer

AGAIN_S = 60.0


class Site:
    """A context in which the page may live. Its troubles are told, and are nobody else's."""

    def __init__(self, works: Works, service: Service, eyes: Eyes, operations: Operations, log: Lines) -> None:
        from xobackup.clock import SystemClock

        self._works, self._service, self._eyes, self._log = works, service, eyes, log
        self._operations = operations
        self._clock = SystemClock()
        self._server: WebServer | None = None
        self._section: WebSection | None = None
        self._told = ""
        self._tried_s = float("-inf")
        self._house: ServiceHouse | None = None

    def __enter__(self) -> Site:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def follow(self) -> None:
        """Make it what the configuration says."""
        section = self._works.configuration.web
        if section != self._section:
            self._close()
            self._section, self._told, self._tried_s = section, "", float("-inf")
        if self._server is not None and self._server.alive:
            return
        if not section.listen or self._clock.monotonic_s() - self._tried_s < AGAIN_S:
            return
        self._tried_s = self._clock.monotonic_s()
        try:
            self._server = self._made(section)
        except Exception as error:  # noqa: BLE001 - without a page, backups go on
            told = f"there is no status page: {error}"
            if told != self._told:
                self._log("error", told, hint=f'[web] listen is {section.listen!r}; "" switches it off')
            self._told = told
        else:
            self._told = ""
            self._log("info", f"status page at {self._server.url}", url=self._server.url)

    def _made(self, section: WebSection) -> WebServer:
        from xobackup.cli.serving.house import ServiceHouse
        from xobackup.engine.limits.bandwidth import zone_of
        from xobackup.web.access import Passwords, Role, Throttle, User
        from xobackup.web.app import Door, Settings, make_app
        from xobackup.web.audit import Audit
        from xobackup.web.server import Place, WebServer
        from xobackup.web.sessions import Sessions
        from xobackup.web.tokens import read_tokens

        directory = self._works.configuration.state_directory
        host, port = section.address
        users = {
            name: User(name=name, password_hash=one.password_hash, role=Role.named(one.role))
            for name, one in section.users.items()
        }
        door = Door(
            settings=Settings(
                open_to_look=section.open_to_look,
                secure=section.certificate is not None or bool(section.trusted_proxies and not section.only_here),
                hosts=frozenset(name.lower() for name in section.hosts),
                zone=zone_of(section.timezone) if section.timezone else None,
            ),
            passwords=Passwords(users),
            sessions=Sessions(self._clock.monotonic_s),
            throttle=Throttle(self._clock.monotonic_s),
            audit=Audit(directory, self._clock.now_s),
            tokens=lambda: read_tokens(directory),
            now_s=self._clock.now_s,
        )
        house = ServiceHouse(self._works, self._service, self._eyes, self._operations)
        place = Place(
            host=host,
            port=port,
            certificate=section.certificate,
            key=section.key,
            trusted_proxies=section.trusted_proxies,
        )
        server = WebServer(make_app(house, door), place)
        self._house = house
        return server

    def _close(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._house is not None:
            self._house.close()
            self._house = None
