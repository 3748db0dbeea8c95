"""Messages by name. A module of :mod:`xobackup.simpool.messages` registers its functions with :func:`message`.

A function takes the :class:`Call` and then the message's parameters; parameters with a default may be left out by
the client. Unless ``locked`` is false it runs under the database's lock, so that a message is one step for
everybody else.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from xobackup.simpool.database import Database
    from xobackup.simpool.toolstack import Toolstack


@dataclass(slots=True, kw_only=True)
class Call:
    """Who asks, and on which pool. ``task`` is the task of an asynchronous call."""

    toolstack: Toolstack
    method: str
    session: str = ""
    task: str = ""

    @property
    def database(self) -> Database:
        return self.toolstack.database


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A registered function with the number of parameters it takes (without the session)."""

    function: Callable[..., Any]
    fewest: int
    most: int
    session: bool
    locked: bool


HANDLERS: dict[str, Handler] = {}


def message(name: str, *, session: bool = True, locked: bool = True) -> Callable[[Callable[..., Any]], Any]:
    """Register the decorated function as ``name``."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        params = list(inspect.signature(function).parameters.values())[1:]
        needed = sum(param.default is inspect.Parameter.empty for param in params)
        assert name not in HANDLERS, f"{name} is registered twice"
        HANDLERS[name] = Handler(function=function, fewest=needed, most=len(params), session=session, locked=locked)
        return function

    return register
