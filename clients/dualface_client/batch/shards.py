"""One run's share of the inputs, for schedulers that start one command many times."""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualface_client.errors import UsageError
from dualface_client.observe.state_file import read_state
from dualface_client.stream.job import Job

_MOST = 100_000
_SHARE = re.compile(r"(\d{1,6})/(\d{1,6})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several runs that share their inputs.

    Which videos it takes follows from each one's name alone, so that runs that start at different
    times, while files are still arriving, never take the same one. The price is that shares are
    of equal size only on average: with 100 videos in each of 8, the largest has about 115.

    Attributes:
        index: Which one, 1 to `count`.
        count: How many there are.
    """

    index: int
    count: int

    @classmethod
    def read(cls, text: str) -> Shard:
        """The shard that a user named.

        Args:
            text: `I/N`.

        Raises:
            UsageError: It is not one.
        """
        match = _SHARE.fullmatch(text)
        index, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if match and index == 0 < count:
            raise UsageError(
                f"--shard {text}: shards are counted from 1 to {count}; with a scheduler that "
                f"counts from 0, write --shard $((INDEX + 1))/{count}"
            )
        if not 1 <= index <= count <= _MOST:
            raise UsageError(
                f"--shard {text:.40}: expected I/N such as 2/8, the second of eight shards; I from "
                f"1 to N, N at most {_MOST}"
            )
        return cls(index, count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, job: Job) -> bool:
        """Whether a video is one of this shard's."""
        key = os.fsencode(job.listed_as or job.name)
        digest = hashlib.blake2b(key, digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index - 1

    def own(self, path: Path) -> Path:
        """This shard's name for a file that every run writes.

        >>> str(Shard(2, 8).own(Path("out/state.json")))
        'out/state.2-of-8.json'
        """
        return path.with_name(f"{path.stem}.{self.index}-of-{self.count}{path.suffix}")


def keys_in(argument: str) -> Callable[[Path], str]:
    """What decides the shards of the videos of one argument, wherever its directory is mounted.

    Args:
        argument: A directory or pattern, or a video's own path.

    Returns:
        Gives, for a video, its path below the directory, or below the part of the pattern that has
        no wildcard; for one that was named directly, the argument itself.
    """
    named, parts = Path(argument), Path(argument).parts
    if not os.path.isdir(named):
        parts = tuple(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    base = Path(*parts)
    return lambda path: argument if path == named else os.path.relpath(path, base)


def read_states(path: Path) -> dict[str, Any]:
    """What earlier runs recorded: the state file itself, and those of its shards, however many.

    Args:
        path: The name without a shard.

    Returns:
        As `read_state`; of several records of one output, that of the run that finished it, and of
        those the newest.

    Raises:
        UsageError: One is not a state file.
    """
    siblings = path.parent.glob(f"{glob.escape(path.stem)}.*-of-*{glob.escape(path.suffix)}")
    states = [state for file in (path, *sorted(siblings)) if (state := read_state(file))]
    if len(states) < 2:
        return states[0] if states else {}
    entries = [
        (entry.get("state") in ("done", "incomplete"), state.get("updated_unix_s", 0.0), entry)
        for state in states
        for entry in state["streams"]
    ]
    return {"streams": [entry for *_, entry in sorted(entries, key=lambda each: each[:2])]}
