"""What `with` does with everything that is closed."""

from __future__ import annotations

from typing import Self


class ClosesAtExit:
    """A context manager that calls `close`, however its body ended."""

    def close(self) -> None:
        """Ends; safe to call twice."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
