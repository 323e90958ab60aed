"""How everything that is closed behaves in `with`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class ClosesAtExit(ABC):
    """A context manager that calls `close`, however its body ends."""

    @abstractmethod
    def close(self) -> None:
        """Ends; safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
