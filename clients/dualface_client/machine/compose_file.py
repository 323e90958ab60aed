"""A compose file with a server and a client for each GPU, made of the file for one."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dualface_client.errors import UsageError

#: Services of one deployment on a GPU: the namespaces, the server, its client.
_POD, _SERVER, _CLIENT = "pod", "triton", "client"
_NAMESPACES = ("pid", "ipc", "network_mode")


def read_base(path: Path) -> dict[str, Any]:
    """Reads the file for one GPU.

    Args:
        path: `compose.yaml` of a checkout.

    Raises:
        UsageError: It cannot be read, or lacks a service.
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"--base {path}: cannot be read ({reason}); name the compose.yaml of a checkout"
        ) from error
    services = found.get("services", {}) if isinstance(found, dict) else {}
    if missing := [name for name in (_POD, _SERVER, _CLIENT) if name not in services]:
        raise UsageError(
            f"--base {path}: has no service {missing[0]!r}; name the compose.yaml of a checkout"
        )
    return dict(found)


def for_gpus(base: Mapping[str, Any], gpus: Sequence[str]) -> dict[str, Any]:
    """The file for several GPUs.

    Args:
        base: From `read_base`.
        gpus: As NVIDIA's container toolkit names them: indices, `GPU:INSTANCE`, or UUIDs.

    Returns:
        For each GPU a pod, a server and a client; the clients read one directory, and each has the
        shard of its place in the list.
    """
    services: dict[str, Any] = {}
    for number, gpu in enumerate(gpus, 1):
        tag = f"gpu{gpu.replace(':', '-').lower()}"
        for name in (_POD, _SERVER, _CLIENT):
            service = copy.deepcopy(base["services"][name])
            services[f"{name}-{tag}"] = _on_gpu(service, gpu, tag)
        services[f"{_CLIENT}-{tag}"]["command"].append(f"--shard={number}/{len(gpus)}")
    return {"services": services, "secrets": base["secrets"]}


def _on_gpu(service: dict[str, Any], gpu: str, tag: str) -> dict[str, Any]:
    service.pop("profiles", None)
    service.pop("ports", None)  # each pod would publish the same
    for namespace in _NAMESPACES:
        if service.get(namespace) == f"service:{_POD}":
            service[namespace] = f"service:{_POD}-{tag}"
    needed = service.get("depends_on")
    if isinstance(needed, list):
        service["depends_on"] = [f"{name}-{tag}" for name in needed]
    elif needed:
        service["depends_on"] = {f"{name}-{tag}": what for name, what in needed.items()}
    for device in _devices(service):
        device["device_ids"] = [gpu]
    return service


def _devices(service: Mapping[str, Any]) -> list[dict[str, Any]]:
    resources = service.get("deploy", {}).get("resources", {})
    return list(resources.get("reservations", {}).get("devices", []))


def compose_text(composed: Mapping[str, Any], command: str) -> str:
    """The file's text.

    Args:
        composed: From `for_gpus`.
        command: That wrote it.
    """
    import yaml

    body = yaml.safe_dump(dict(composed), sort_keys=False, width=120, allow_unicode=True)
    return f"# Written by `{command}` from compose.yaml. Do not edit: run it again.\n{body}"
