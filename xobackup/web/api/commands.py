"""Every command of the command line as a route of its own, made of its description; what becomes of it is an
operation.

So a description (OpenAPI) has every parameter with its help. Texts have no control characters, files are names
without a path, and whatever is not known is refused.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, create_model

from xobackup.web import requests
from xobackup.web.access import Role
from xobackup.web.api.answers import LOOKING, change, house_of
from xobackup.web.api.operations import Body, answer
from xobackup.web.commands import FILES, Catalogue, Command, Kind, Parameter

TEXT_MAX = 500
LIST_MAX = 256
NUMBER_MAX = 1e15
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._+=@ -]{0,199}$"


def router_for(catalogue: Catalogue) -> APIRouter:
    """The list of commands, and a route for each that can be ordered."""
    router = APIRouter()

    @router.get("/commands", dependencies=LOOKING)
    def commands() -> dict[str, Any]:
        """Every command, with its parameters, the role it needs, and why something of it is left out."""
        return catalogue.as_data()

    for one in catalogue.commands.values():
        router.add_api_route(
            f"/commands/{one.path}",
            _endpoint(one),
            methods=["POST"],
            status_code=202,
            name=one.name,
            summary=one.name,
            description=described(one),
        )
    return router


def described(command: Command) -> str:
    """What it does and who may, for the description of the API."""
    told = [command.help, f"Role {command.role.name.lower()}."]
    if command.role is not Role.ADMIN and (deeds := [f"`{one.name}`" for one in command.parameters if one.admin]):
        told.append(f"Role admin with {', '.join(deeds)}.")
    told += [f"Without `{one.name}`: {one.why}." for one in command.left_out]
    return " ".join(told)


@functools.cache
def body_of(command: Command) -> type[BaseModel]:
    """What a request for it may say."""
    name = "".join(word.capitalize() for word in command.name.replace("-", " ").split())
    # a parameter may be called like a word of Python or a method of the model: only its alias counts
    fields: dict[str, Any] = {f"p_{one.name}": _field(one) for one in command.parameters}
    return create_model(f"{name}Command", __base__=Body, __doc__=command.help, **fields)


def explained(one: Parameter) -> str:
    """Its help, with what holds for requests alone."""
    if one.kind is Kind.REMOTE:
        return "A remote of the configuration, by its name."
    more = " Needs role admin." if one.admin else ""
    return f"{one.help} The name of a file in [web] exchange.{more}" if one.kind in FILES else one.help + more


def _field(one: Parameter) -> tuple[Any, Any]:
    told: dict[str, Any] = {"alias": one.name, "description": explained(one)}
    single = _single(one)
    if one.many:
        several = Annotated[list[single], Field(min_length=1 if one.required else 0, max_length=LIST_MAX)]  # type: ignore[valid-type]
        return several, Field(... if one.required else (), **told)
    if one.required:
        return single, Field(..., **told)
    if one.default is None:
        return single | None, Field(None, **told)
    return single, Field(one.default, **told)


def _single(one: Parameter) -> Any:
    if one.choices:
        return Literal[one.choices]
    if one.kind is Kind.SWITCH:
        return Annotated[bool, Field(strict=True)]
    if one.kind in (Kind.INTEGER, Kind.NUMBER):
        least = -NUMBER_MAX if one.least is None else one.least
        most = NUMBER_MAX if one.most is None else one.most
        if one.kind is Kind.INTEGER:
            return Annotated[int, Field(strict=True, ge=int(least), le=int(most))]
        return Annotated[float, Field(strict=True, ge=least, le=most, allow_inf_nan=False)]
    if one.kind in FILES:
        return Annotated[str, Field(pattern=FILE_NAME)]
    shortest = 1 if one.required or one.kind is Kind.REMOTE else 0
    return Annotated[str, Field(min_length=shortest, max_length=TEXT_MAX, pattern=PRINTABLE)]


def _endpoint(command: Command) -> Callable[..., dict[str, Any]]:
    def ordered(request: Request, response: Response, body: Any = None) -> dict[str, Any]:
        values = {} if body is None else body.model_dump(mode="json", by_alias=True, exclude_unset=True)
        wish = requests.CommandLine(
            name=command.name, values=values, line=command.line(values), lane=command.lane_for(values)
        )
        who = change(request, command.role_for(values), wish.kind, wish.about)
        return answer(response, house_of(request).desk.order(wish, who))

    model = body_of(command)
    needed = any(one.required for one in command.parameters)
    ordered.__annotations__["body"] = model if needed else model | None
    if needed:
        ordered.__defaults__ = ()
    return ordered
