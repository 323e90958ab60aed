"""What driver and nodes say to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualface_client.observe.report import StreamReport
from dualface_client.settings.program import ProgramSettings
from dualface_client.stream.job import Job


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What every node is told first.

    Attributes:
        version: Of the driver's program; a node of another one does no work.
        program: How videos are processed.
        tracks: Directory for tracks, None for nowhere.
        overlay: Directory for debug overlays, None for nowhere.
    """

    version: str
    program: ProgramSettings
    tracks: Path | None = None
    overlay: Path | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A video for a node.

    Attributes:
        job: What to do.
        attempt: 1-based; from 2 on, a node was lost that had worked on it.
        may_be_finished: Whether an output that exists may be this video's, and is verified first.
        recorded: What an earlier run's state file says of it, empty for nothing.
        output_before: Identity of the output that this run found and replaces, empty for none.
    """

    job: Job
    attempt: int = 1
    may_be_finished: bool = False
    recorded: Mapping[str, Any] = field(default_factory=dict)
    output_before: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    """What a node is to do.

    Attributes:
        tasks: More videos.
        stop: Whether it is to end its videos early.
        wait_s: How long it may wait for news before it answers.
    """

    tasks: tuple[Task, ...] = ()
    stop: bool = False
    wait_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a user should know, `level` as in `logging`."""

    event: str
    text: str
    level: int


@dataclass(frozen=True, slots=True)
class News:
    """What has happened on a node since it was asked last.

    Attributes:
        capacity: Videos that it works on at a time, 0 while it starts.
        reports: Streams that have changed; a final state is an end.
        notes: Warnings of its server and workers.
        refused: Why it does no work, empty if it does.
        exit_code: What the reason gives a run that has no other node.
    """

    capacity: int = 0
    reports: tuple[StreamReport, ...] = ()
    notes: tuple[Note, ...] = ()
    refused: str = ""
    exit_code: int = 0
