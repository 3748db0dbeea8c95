"""Where orders are taken: what they name has to be there, and what becomes of them is an operation."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from xobackup.service.operations import Operation, Operations, OrderedAlready, State, TooMany
from xobackup.web import requests
from xobackup.web.house import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import BinaryIO

    from xobackup.config.model import Configuration
    from xobackup.engine.progress import Snapshot
    from xobackup.history.store import Store


class ServiceDesk:
    """A :class:`xobackup.web.house.Desk`."""

    def __init__(
        self, operations: Operations, configuration: Callable[[], Configuration], store: Callable[[], Store]
    ) -> None:
        self._operations, self._configuration, self._store = operations, configuration, store

    def order(self, wish: requests.Wish, who: str) -> Operation:
        self._refuse_unknown(wish)
        try:
            return self._operations.order(wish.kind, wish.lane, requests.as_asked(wish), about=wish.about, who=who)
        except OrderedAlready as error:
            raise Refused(409, str(error), hint=f"see operation {error.other.id}") from error
        except TooMany as error:
            raise Refused(429, str(error), hint="cancel some, or wait") from error

    def retry(self, run_id: str, who: str) -> Operation:
        from xobackup.engine.journal import schedule_of
        from xobackup.history import ask

        run = ask.run(self._store(), run_id)
        if run is None:
            raise Refused(404, "no run has this id")
        failed = [
            one["uuid"]
            for one in run["subjects"]
            if one["kind"] == "vm" and one["outcome"] in ("failed", "interrupted")
        ]
        if not failed:
            raise Refused(409, "no VM failed in this run")
        schedule = schedule_of(self._configuration().state_directory / "journal", run_id)
        vms = tuple(dict.fromkeys(failed))
        return self.order(requests.Retry(run=run_id, job=run["job"], vms=vms, schedule=schedule), who)

    def restore(self, plan_id: str, who: str) -> Operation:
        plan = self.get(plan_id)
        if plan.kind != requests.RestorePlan.kind:
            raise Refused(409, f"operation {plan_id} is no plan of a restore")
        if plan.state is not State.DONE or plan.result is None:
            raise Refused(409, f"the plan is {plan.state}: there is nothing to agree to", hint="plan it again")
        try:
            wanted = requests.RestorePlan(**plan.asked)
        except TypeError:
            raise Refused(409, "the plan was made by another version", hint="plan it again") from None
        for one in self._operations.newest():
            mine = one.kind == requests.Restore.kind and one.asked.get("plan") == plan_id
            if mine and one.state not in (State.FAILED, State.CANCELLED, State.INTERRUPTED):
                raise Refused(409, f"this plan is carried out already, by operation {one.id}", hint="plan it again")
        return self.order(requests.Restore(plan=plan_id, wanted=wanted, agreed=plan.result), who)

    def newest(self, limit: int) -> Sequence[Operation]:
        return self._operations.newest(limit)

    def get(self, operation_id: str) -> Operation:
        found = self._operations.get(operation_id)
        if found is None:
            raise Refused(404, "no operation has this id", hint="the oldest are forgotten")
        return found

    def meters(self, operation_id: str) -> Sequence[Snapshot]:
        progress = self._operations.progress(operation_id)
        return [] if progress is None else progress.snapshots()

    def wait(self, operation_id: str, timeout_s: float) -> Operation:
        self._operations.wait(operation_id, timeout_s)
        return self.get(operation_id)

    def cancel(self, operation_id: str, reason: str) -> bool:
        self.get(operation_id)
        return self._operations.cancel(operation_id, reason)

    def written(self, operation_id: str, name: str) -> BinaryIO:
        from xobackup.cli.serving.catalogue import catalogue
        from xobackup.cli.serving.exchange import NotExchanged, open_file

        one = self.get(operation_id)
        command = catalogue().commands.get(str(one.asked.get("name")))
        if (
            one.kind != requests.CommandLine.kind
            or command is None
            or name not in command.written(one.asked["values"])
        ):
            raise Refused(404, "this operation writes no file of this name")
        if one.state is not State.DONE:
            raise Refused(409, f"the operation is {one.state}: its file is not whole")
        try:
            return open_file(self._configuration(), name)
        except (NotExchanged, OSError) as error:
            raise Refused(404, f"{error}", hint="it is there until somebody takes it away") from error

    def _refuse_unknown(self, wish: requests.Wish) -> None:
        """What can be told without asking anybody else."""
        configuration = self._configuration()
        if isinstance(wish, requests.Restore):
            wish = wish.wanted
        if isinstance(wish, requests.Pin | requests.Unpin | requests.Verify | requests.RestorePlan):
            _known("remote", wish.remote, configuration.remotes)
        if isinstance(wish, requests.RestorePlan):
            _known("pool", wish.pool, configuration.pools)
        if isinstance(wish, requests.Retry | requests.JobPlan):
            _known("job", wish.job, configuration.all_job_names)
        if isinstance(wish, requests.DrPlan | requests.DrTest):
            _known("plan", wish.plan, configuration.dr)
        if isinstance(wish, requests.CommandLine):
            refuse_places(wish, configuration)
        refuse_bad(wish)


def refuse_places(wish: requests.CommandLine, configuration: Configuration) -> None:
    """A remote is one of the configuration, a file one in the directory of exchange."""
    from xobackup.cli.serving.catalogue import catalogue
    from xobackup.cli.serving.exchange import NotExchanged, place
    from xobackup.web.commands import FILES, Kind

    for one in catalogue().commands[wish.name].parameters:
        for value in one.values(wish.values):
            if one.kind is Kind.REMOTE:
                _known("remote", str(value), configuration.remotes)
            if one.kind in FILES:
                try:
                    place(configuration, str(value), to_read=one.kind is Kind.FILE_READ)
                except NotExchanged as error:
                    raise Refused(422, f"{one.name}: {error}", hint=error.hint or "") from error


def refuse_bad(wish: requests.Wish) -> None:
    """Texts that mean nothing, told at once instead of in the operation."""
    from xobackup.cli.errors import Outcome
    from xobackup.cli.repositories import moment_s
    from xobackup.repository.slices import parse_slice

    told = ""
    with suppress(ValueError):
        if isinstance(wish, requests.Pin) and wish.until:
            told = "until: expected a time like 2027-01-31 or 2027-01-31T03:00+01:00"
            with suppress(Outcome, OverflowError):
                moment_s(wish.until, "until")
                told = ""
        if isinstance(wish, requests.Verify) and wish.slice:
            told = "slice: expected 2% or 3/30"
            parse_slice(wish.slice)
            told = ""
        if isinstance(wish, requests.Verify) and wish.point and not wish.vm:
            told = "point: restore points are named by their time, every VM has its own: name the VM too"
    if told:
        raise Refused(422, told)


def _known(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise Refused(404, f"there is no {what} of this name", hint=f"known: {', '.join(sorted(known)) or 'none'}")
