"""The records of a host: itself, its metrics, its control domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.simpool import vm_rules
from xobackup.simpool.releases import API_MINOR

if TYPE_CHECKING:
    from xobackup.simpool.spec import HostSpec, PoolSpec
    from xobackup.simpool.toolstack import Toolstack


def build_host(toolstack: Toolstack, spec: PoolSpec, host: HostSpec, address: str) -> str:
    """A host as XCP-ng or XenServer of the specification's version describes itself; returns its reference."""
    database = toolstack.database
    metrics = database.create("host_metrics", {"memory_total": host.memory_bytes, "live": True})
    release = toolstack.options.release
    version = spec.product_version if release == "8.3" else f"{release}.0"
    now = f"{toolstack.clock.now_s():.1f}"
    ref = database.create(
        "host",
        {
            "name_label": host.name,
            "hostname": host.name,
            "address": host.address or address,
            "enabled": True,
            "API_version_major": 2,
            "API_version_minor": API_MINOR[release],
            "API_version_vendor": "XenSource",
            "metrics": metrics,
            "edition": "xcp-ng" if spec.product_brand == "XCP-ng" else "premium-per-socket",
            "software_version": {
                "product_brand": spec.product_brand,
                "product_version": version,
                "product_version_text": version,
                "product_version_text_short": version.rpartition(".")[0],
                "platform_name": "XCP",
                "platform_version": "3.4.0",
                "build_number": "simulated",
                "xapi": "24.16",
                "xapi_build": "24.16.0",
                "xen": "4.17.5",
                "linux": "4.19.0+1",
                "hostname": "localhost",
                "date": "2026-01-01",
                "network_backend": "openvswitch",
            },
            "license_params": {"restrict_cbt": "false", "expiry": "never"},
            "other_config": {"agent_start_time": now, "boot_time": now},
            "cpu_info": {"cpu_count": "8", "socket_count": "1", "vendor": "GenuineIntel"},
            "sched_policy": "credit",
            "capabilities": ["xen-3.0-x86_64", "hvm-3.0-x86_64"],
            "allowed_operations": ["provision", "evacuate", "vm_start", "vm_resume", "vm_migrate"],
        },
    )
    database.update("host", ref, control_domain=_control_domain(toolstack, host, ref))
    return ref


def _control_domain(toolstack: Toolstack, host: HostSpec, ref: str) -> str:
    database = toolstack.database
    metrics = database.create("VM_metrics", {"memory_actual": 4 << 30, "VCPUs_number": 4, "state": ["running"]})
    dom0 = database.create(
        "VM",
        {
            "name_label": f"Control domain on host: {host.name}",
            "is_control_domain": True,
            "power_state": "Running",
            "domid": 0,
            "resident_on": ref,
            "affinity": ref,
            "memory_static_max": 4 << 30,
            "memory_dynamic_max": 4 << 30,
            "memory_dynamic_min": 4 << 30,
            "VCPUs_max": 4,
            "VCPUs_at_startup": 4,
            "domain_type": "pv",
            "metrics": metrics,
        },
    )
    vm_rules.refresh(database, dom0)
    return dom0
