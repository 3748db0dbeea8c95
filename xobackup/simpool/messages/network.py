"""network messages."""

from __future__ import annotations

from xobackup.simpool.failures import Failure
from xobackup.simpool.registry import Call, message


@message("network.add_purpose")
def add_purpose(call: Call, network: str, value: str) -> None:
    """``nbd`` and ``insecure_nbd`` exclude each other in the whole pool."""
    conflict = {"nbd": "insecure_nbd", "insecure_nbd": "nbd"}.get(value, "")
    for _, record in call.database.where("network"):
        if conflict in record["purpose"]:
            raise Failure("NETWORK_INCOMPATIBLE_PURPOSES", value, conflict)
    purposes = call.database.get("network", network)["purpose"]
    if value not in purposes:
        call.database.update("network", network, purpose=[*purposes, value])


@message("network.remove_purpose")
def remove_purpose(call: Call, network: str, value: str) -> None:
    purposes = call.database.get("network", network)["purpose"]
    call.database.update("network", network, purpose=[one for one in purposes if one != value])
