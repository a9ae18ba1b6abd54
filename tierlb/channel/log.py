"""The logger the control plane writes events to: anything with these three methods."""

from typing import Any, Protocol


class Log(Protocol):
    """One call is one event: a snake_case name in the past tense, and its fields."""

    def info(self, event: str, **fields: Any) -> Any:
        """Something happened as it should."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Something failed that the cluster repairs by itself."""

    def error(self, event: str, **fields: Any) -> Any:
        """Something failed that an operator must repair."""
