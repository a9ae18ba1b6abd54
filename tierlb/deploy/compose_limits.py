"""What a container may use, and how many there are of it, as a compose file says that."""

from typing import Any

from tierlb.model.topology import Resources

UNITS = (("g", 2**30), ("m", 2**20), ("k", 2**10), ("b", 1))


def service_limits(resources: Resources) -> dict[str, Any]:
    """The keys of a service that limit it."""
    limits: dict[str, Any] = {}
    if resources.cpus is not None:
        limits["cpus"] = resources.cpus
    if resources.memory_bytes is not None:
        limits["mem_limit"] = _memory_limit(resources.memory_bytes)
    return limits


def service_scale(replicas: int) -> dict[str, Any]:
    """The key of a service with more than one container."""
    return {"scale": replicas} if replicas != 1 else {}


def _memory_limit(size_bytes: int) -> str:
    unit, scale = next((unit, scale) for unit, scale in UNITS if size_bytes % scale == 0)
    return f"{size_bytes // scale}{unit}"
