"""Gives videos out to nodes that come and go, until every one of them has ended.

Each node has one question under way, and each answer brings the next one: what is to be done, and
what has happened. A node that is lost costs the videos that it had in hand, which others then get.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from dualface_client.cluster.messages import News, Order, Task
from dualface_client.errors import DualfaceError, ServerError, relayed
from dualface_client.observe.report import FINAL_STATES, StreamReport, StreamStatus
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.finished import identity
from dualface_client.stream.job import Job, ending, new_statuses
from dualface_client.stream.stop import Stop

#: A video is put aside after so many nodes were lost under it. More than workers under a stream
#: (`workers.supervisor.STRIKES`), because most nodes are lost for reasons of their own.
STRIKES = 5
#: A node whose server failed so many videos in a row gets no more of them.
SERVER_FAILURES = 3
_LISTEN_S = 0.2
#: Nodes have this long to end their videos after a stop.
_STOP_S = 20.0

#: Says something to the user: an event's name, a sentence, a level of `logging`.
Say = Callable[[str, str, int], None]


@dataclass(frozen=True, slots=True)
class Joined:
    """A node is there; it answers the first order when it can."""

    node: str


@dataclass(frozen=True, slots=True)
class Left:
    """A node is gone, and what it had in hand is lost."""

    node: str
    why: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A node's answer to its order."""

    node: str
    news: News


NodeEvent = Joined | Left | Answer


class Nodes(Protocol):
    """The nodes of a cluster."""

    def events(self, wait_s: float) -> Sequence[NodeEvent]:
        """What has happened; waits for at most so long if nothing has."""

    def send(self, node: str, order: Order) -> None:
        """Asks a node; `Answer` or `Left` follows."""

    def dismiss(self, node: str) -> None:
        """Ends a node that is not wanted any more; nothing follows."""


@dataclass(slots=True)
class _Hand:
    """What the driver knows of a node."""

    capacity: int = 0
    tasks: dict[str, int] = field(default_factory=dict)
    server_failures: int = 0


class Driver:
    """Runs jobs on nodes.

    Args:
        nodes: Of the cluster.
        jobs: With absolute paths, or addresses of objects.
        statuses: From `new_statuses`, kept up to date.
        settings: Of jobs without settings of their own.
        say: Tells the user what happens to nodes.
        resume: Whether outputs that exist are verified, and not made again.
        recorded: State of the earlier run, empty without one.
    """

    def __init__(
        self,
        nodes: Nodes,
        jobs: Sequence[Job],
        statuses: Sequence[StreamStatus],
        settings: StreamSettings,
        say: Say,
        *,
        resume: bool = False,
        recorded: Mapping[str, Any] | None = None,
    ) -> None:
        self._nodes = nodes
        self._jobs, self._statuses = jobs, statuses
        self._settings = settings
        self._say = say
        self._resume = resume
        streams = (recorded or {}).get("streams", ())
        self._recorded = {entry.get("output", ""): entry for entry in streams}
        self._waiting = deque(
            index
            for index, status in enumerate(statuses)
            if status.snapshot().state not in FINAL_STATES
        )
        self._open = len(self._waiting)
        self._hands: dict[str, _Hand] = {}
        self._attempts: Counter[int] = Counter()
        self._strikes: Counter[int] = Counter()
        self._outputs_before: dict[int, dict[str, Any]] = {}
        self._stop_at_s = 0.0
        self._is_told_of_none = False

    def run(self, stop: Stop) -> None:
        """Runs every job that may be tried; a stream's failure ends up in its status.

        Args:
            stop: Asked from outside to end early.

        Raises:
            DualfaceError: Every node refused to work: an error of the kind that the last one told.
        """
        while self._open:
            if stop.is_asked:
                self._end_early(stop.error)
            for event in self._nodes.events(_LISTEN_S):
                match event:
                    case Joined(node):
                        self._hands[node] = _Hand()
                        self._ask(node)
                    case Left(node, why):
                        self._lose(node, why)
                    case Answer(node, news):
                        self._hear(node, news)
            self._tell_of_none()

    def _tell_of_none(self) -> None:
        """Says once that the run waits for a node."""
        waits = not self._hands and self._open and not self._stop_at_s
        if waits and not self._is_told_of_none:
            self._say(
                "no_nodes",
                "no machine of the cluster works on this run; it goes on when one joins (`ray "
                "status` shows their cores and GPUs; --device cuda uses only those with a GPU)",
                logging.WARNING,
            )
        self._is_told_of_none = not self._hands

    # -- what nodes say ---------------------------------------------------------------------------

    def _hear(self, node: str, news: News) -> None:
        hand = self._hands[node]
        for note in news.notes:
            self._say(note.event, f"{node}: {note.text}", note.level)
        for report in news.reports:
            self._take(node, hand, report)
        hand.capacity = news.capacity
        if news.refused or hand.server_failures >= SERVER_FAILURES:
            why = news.refused or "its server failed several videos in a row"
            self._dismiss(node, why, news.exit_code or ServerError.exit_code)
        else:
            self._ask(node)

    def _take(self, node: str, hand: _Hand, report: StreamReport) -> None:
        index = hand.tasks.get(report.name)
        if index is None:
            return  # it was given up for lost
        status = self._statuses[index]
        if report.state not in FINAL_STATES:
            status.take(_as_given(report, status))
            return
        del hand.tasks[report.name]
        if report.state == "failed" and report.exit_code == ServerError.exit_code:
            hand.server_failures += 1
            if self._again(index, f"its server failed on {node}: {report.error}"):
                return
        elif report.state != "failed":
            hand.server_failures = 0
        status.take(_as_given(report, status))
        self._open -= 1

    def _lose(self, node: str, why: str) -> None:
        hand = self._hands.pop(node)
        self._say(
            "node_lost",
            f"{node}: lost ({why}); videos that it had in hand: {len(hand.tasks)}",
            logging.WARNING,
        )
        in_hand = list(hand.tasks.values())
        if not self._stop_at_s:  # the spare ones had not begun, and are not to blame
            self._waiting.extendleft(reversed(in_hand[hand.capacity :]))
            in_hand = in_hand[: hand.capacity]
        for index in reversed(in_hand):
            if self._stop_at_s:
                self._statuses[index].update(**ending(None))
                self._open -= 1
            elif not self._again(index, f"its node {node} was lost ({why})"):
                self._statuses[index].update(
                    state="failed",
                    exit_code=1,
                    error=f"{self._jobs[index].shown_input}: put aside: {STRIKES} nodes were lost "
                    f"or failed while they worked on it (the last: {why})",
                )
                self._open -= 1

    def _again(self, index: int, why: str) -> bool:
        """Puts a video back in front of the others; False if it was tried often enough."""
        self._strikes[index] += 1
        if self._stop_at_s or self._strikes[index] >= STRIKES:
            return False
        status = self._statuses[index]
        (fresh,) = new_statuses([self._jobs[index]])
        notes = (*status.snapshot().warnings, f"{why}; started again from the beginning")
        attempts = self._attempts[index] + 1
        status.take(
            replace(fresh.snapshot(), warnings=tuple(dict.fromkeys(notes)), attempts=attempts)
        )
        self._waiting.appendleft(index)
        return True

    def _dismiss(self, node: str, why: str, exit_code: int) -> None:
        hand = self._hands.pop(node)
        self._say("node_left_out", f"{node}: does no work: {why}", logging.WARNING)
        self._nodes.dismiss(node)
        for index in reversed(hand.tasks.values()):
            if not self._again(index, f"its node {node} was left out"):
                self._statuses[index].update(**ending(relayed(why, exit_code)))
                self._open -= 1
        if not self._hands and not self._stop_at_s:
            raise relayed(f"no node of the cluster works; the last one, {node}: {why}", exit_code)

    # -- what nodes are told ----------------------------------------------------------------------

    def _ask(self, node: str) -> None:
        tasks: list[Task] = [] if self._stop_at_s else self._tasks_for(self._hands[node])
        self._nodes.send(node, Order(tuple(tasks), stop=bool(self._stop_at_s)))

    def _tasks_for(self, hand: _Hand) -> list[Task]:
        """What a node has room for, and one more so that no worker waits for the next answer.

        The last videos are not kept waiting at one node while another one has room.
        """
        all_at_a_time = sum(other.capacity for other in self._hands.values())
        spare = hand.capacity > 0 and len(self._waiting) > all_at_a_time
        room = hand.capacity + spare - len(hand.tasks)
        tasks: list[Task] = []
        while self._waiting and len(tasks) < room:
            index = self._waiting.popleft()
            self._attempts[index] += 1
            hand.tasks[self._jobs[index].name] = index
            tasks.append(self._task(index))
        return tasks

    def _task(self, index: int) -> Task:
        job, attempt = self._jobs[index], self._attempts[index]
        if attempt == 1 and job.output is not None:
            self._outputs_before[index] = identity(job.output)
        before = self._outputs_before.get(index, {})
        exists = bool(before) and self._resume
        return Task(
            job,
            attempt,
            attempt > 1 or exists,
            self._recorded.get(job.shown_output, {}) if exists or attempt > 1 else {},
            {} if self._resume else before,
        )

    def _end_early(self, error: DualfaceError | None) -> None:
        """Videos that wait are stopped; nodes end those that they have in hand."""
        if not self._stop_at_s:
            self._stop_at_s = time.monotonic() + _STOP_S
        while self._waiting:
            self._statuses[self._waiting.popleft()].update(**ending(error))
            self._open -= 1
        if time.monotonic() > self._stop_at_s:
            for hand in self._hands.values():
                for index in hand.tasks.values():
                    self._statuses[index].update(**ending(error))
                    self._statuses[index].warn("its node did not stop in time")
                    self._open -= 1
                hand.tasks.clear()


def _as_given(report: StreamReport, status: StreamStatus) -> StreamReport:
    """A node's report with the notes that this run already had."""
    before = status.snapshot()
    notes = tuple(dict.fromkeys((*before.warnings, *report.warnings)))
    return replace(report, warnings=notes)
