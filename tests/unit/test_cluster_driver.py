"""The driver with nodes that say what a test wants."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dualface_client.cluster.driver import (
    SERVER_FAILURES,
    STRIKES,
    Answer,
    Driver,
    Joined,
    Left,
    NodeEvent,
)
from dualface_client.cluster.messages import News, Note, Order, Task
from dualface_client.errors import ServerError
from dualface_client.observe.report import StreamReport, StreamStatus
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.job import Job, new_statuses
from dualface_client.stream.stop import Stop

Work = Callable[[Task], StreamReport | None]


def done(task: Task) -> StreamReport:
    (status,) = new_statuses([task.job])
    return replace(status.snapshot(), state="done", frames_out=75, attempts=task.attempt)


def running(task: Task) -> StreamReport:
    return replace(done(task), state="running", frames_out=5)


@dataclass
class FakeNode:
    """Answers at once; its work says how each video ends, None for not yet."""

    capacity: int = 1
    work: Work = done
    refused: str = ""
    orders: list[Order] = field(default_factory=list)
    given: list[Task] = field(default_factory=list)

    def answer(self, order: Order) -> News:
        self.orders.append(order)
        self.given += order.tasks
        found = [self.work(task) for task in order.tasks]
        reports = tuple(report for report in found if report is not None)
        return News(self.capacity, reports, (), self.refused, 3 if self.refused else 0)


class FakeNodes:
    """Nodes by name; events of a test come before their answers."""

    def __init__(self, **nodes: FakeNode) -> None:
        self.nodes = nodes
        self.coming: deque[NodeEvent] = deque(Joined(name) for name in nodes)
        self.dismissed: list[str] = []
        self.asked = 0
        self.on_answer: Callable[[str, News], None] = lambda node, news: None

    def events(self, wait_s: float) -> Sequence[NodeEvent]:
        assert wait_s > 0
        self.asked += 1
        assert self.asked < 500, "it goes on without an end"
        assert self.coming, "nothing happens any more, and videos are open"
        return [self.coming.popleft()]

    def send(self, node: str, order: Order) -> None:
        news = self.nodes[node].answer(order)
        self.coming.append(Answer(node, news))
        self.on_answer(node, news)

    def dismiss(self, node: str) -> None:
        self.dismissed.append(node)
        self.forget(node)

    def lose(self, node: str) -> None:
        self.forget(node)
        self.coming.append(Left(node, "its machine left the cluster"))

    def forget(self, node: str) -> None:
        self.coming = deque(
            event for event in self.coming if not (isinstance(event, Answer) and event.node == node)
        )


class Batch:
    def __init__(self, count: int, folder: Path = Path("/x"), **options: Any) -> None:
        self.jobs = [Job(f"v{n}", folder / f"v{n}.mp4", folder / f"o{n}.mp4") for n in range(count)]
        self.statuses = new_statuses(self.jobs)
        self.said: list[str] = []
        self.options = options

    def run(self, nodes: FakeNodes, stop: Stop | None = None) -> list[StreamReport]:
        Driver(
            nodes,
            self.jobs,
            self.statuses,
            StreamSettings(),
            lambda event, text, level: self.said.append(f"{event}: {text}"),
            **self.options,
        ).run(stop or Stop())
        return self.reports

    @property
    def reports(self) -> list[StreamReport]:
        return [status.snapshot() for status in self.statuses]


def states(reports: Sequence[StreamReport]) -> set[str]:
    return {report.state for report in reports}


def test_every_video_is_given_to_one_node_once() -> None:
    nodes = FakeNodes(a=FakeNode(2), b=FakeNode(1))
    reports = Batch(20).run(nodes)
    assert states(reports) == {"done"}
    given = [task.job.name for node in nodes.nodes.values() for task in node.given]
    assert sorted(given) == sorted(report.name for report in reports)
    assert all(node.given for node in nodes.nodes.values())


def test_a_node_gets_what_it_has_room_for_and_one_more() -> None:
    nodes = FakeNodes(a=FakeNode(2, work=lambda task: None))
    batch = Batch(10)

    def ends_after_the_third(node: str, news: News) -> None:
        if len(nodes.nodes["a"].orders) == 3:
            nodes.nodes["a"].work = done
            nodes.lose("a")
            nodes.coming.append(Joined("a"))

    nodes.on_answer = ends_after_the_third
    assert states(batch.run(nodes)) == {"done"}
    orders = [[task.job.name for task in order.tasks] for order in nodes.nodes["a"].orders]
    assert orders[:3] == [[], ["v0", "v1", "v2"], []]
    assert orders[4] == ["v0", "v1", "v2"]  # again, before the others


def test_the_last_videos_are_not_kept_waiting_at_one_node() -> None:
    nodes = FakeNodes(a=FakeNode(1), b=FakeNode(1))
    Batch(4).run(nodes)
    assert [len(order.tasks) for order in nodes.nodes["a"].orders][:3] == [0, 2, 1]
    assert [len(order.tasks) for order in nodes.nodes["b"].orders][:2] == [0, 1]


def test_videos_of_a_lost_node_are_done_by_another_one() -> None:
    nodes = FakeNodes(a=FakeNode(2, work=running), b=FakeNode(1, work=running))

    def lose_it_once(node: str, news: News) -> None:
        if nodes.nodes["a"].given:
            nodes.on_answer = lambda node, news: None
            nodes.lose("a")
            nodes.nodes["b"].work = done

    nodes.on_answer = lose_it_once
    batch = Batch(6)
    reports = batch.run(nodes)
    assert states(reports) == {"done"}
    given = [task.job.name for task in nodes.nodes["a"].given]
    assert given == ["v0", "v1", "v2"]
    noted = {report.name: report.warnings for report in reports if report.warnings}
    assert set(noted) == {"v0", "v1"}  # the third had not begun
    assert all("its node a was lost" in notes[0] for notes in noted.values())
    assert [t.job.name for t in nodes.nodes["b"].given if t.may_be_finished] == given
    assert batch.said[0].startswith("node_lost: a: lost (its machine left the cluster); videos")
    assert batch.said[0].endswith("in hand: 3")


def test_a_video_under_which_nodes_keep_dying_is_put_aside() -> None:
    nodes = FakeNodes(a=FakeNode(1))

    def work(task: Task) -> StreamReport | None:
        return running(task) if task.job.name == "v0" else done(task)

    def die(node: str, news: News) -> None:
        if any(task.job.name == "v0" for task in nodes.nodes["a"].orders[-1].tasks):
            nodes.lose("a")
            nodes.coming.append(Joined("a"))

    nodes.nodes["a"].work, nodes.on_answer = work, die
    first, *others = Batch(3).run(nodes)
    assert states(others) == {"done"}
    assert (first.state, first.attempts) == ("failed", STRIKES)
    assert f"put aside: {STRIKES} nodes were lost" in first.error


def server_failed(task: Task) -> StreamReport:
    return replace(done(task), state="failed", exit_code=3, error="no answer")


def test_a_node_whose_server_fails_is_left_out() -> None:
    nodes = FakeNodes(a=FakeNode(1, work=server_failed), b=FakeNode(1))
    batch = Batch(8)
    assert states(batch.run(nodes)) == {"done"}
    assert nodes.dismissed == ["a"]
    assert len(nodes.nodes["a"].given) <= SERVER_FAILURES + 1


def failed(task: Task) -> StreamReport:
    return replace(done(task), state="failed", exit_code=1)


def test_a_failed_video_is_not_tried_again() -> None:
    nodes = FakeNodes(a=FakeNode(1, work=failed))
    reports = Batch(3).run(nodes)
    assert states(reports) == {"failed"}
    assert len(nodes.nodes["a"].given) == 3


def test_a_node_that_refuses_is_left_out_and_the_last_one_ends_the_run() -> None:
    nodes = FakeNodes(a=FakeNode(0, refused="no models"), b=FakeNode(1))
    assert states(Batch(2).run(nodes)) == {"done"}
    nodes = FakeNodes(a=FakeNode(0, refused="no models"))
    with pytest.raises(ServerError, match=r"no node of the cluster works; the last one, a: no mod"):
        Batch(2).run(nodes)


def test_a_stop_ends_what_runs_and_what_waits() -> None:
    stop = Stop()
    begun: list[Task] = []
    nodes = FakeNodes(a=FakeNode(1, work=begun.append))

    class Stopping(FakeNode):
        def answer(self, order: Order) -> News:
            news = super().answer(order)
            if begun:
                stop.ask()
            stopped = [replace(done(task), state="stopped") for task in begun if order.stop]
            return replace(news, reports=tuple(stopped))

    nodes.nodes["a"] = Stopping(1, work=nodes.nodes["a"].work)
    reports = Batch(4).run(nodes, stop)
    assert states(reports) == {"stopped"}
    assert len(begun) == 2
    assert nodes.nodes["a"].orders[-1].stop


def test_only_existing_outputs_are_verified_on_resume(tmp_path: Path) -> None:
    (tmp_path / "o1.mp4").write_bytes(b"x")
    recorded = {"streams": [{"output": str(tmp_path / "o1.mp4"), "state": "done"}]}
    nodes = FakeNodes(a=FakeNode(1))
    Batch(3, tmp_path, resume=True, recorded=recorded).run(nodes)
    tasks = {task.job.name: task for task in nodes.nodes["a"].given}
    assert [tasks[name].may_be_finished for name in ("v0", "v1", "v2")] == [False, True, False]
    assert tasks["v1"].recorded["state"] == "done"


def test_what_nodes_say_reaches_the_user_with_their_name() -> None:
    nodes = FakeNodes(a=FakeNode(1))
    batch = Batch(1)
    nodes.coming.append(Answer("a", News(1, notes=(Note("worker_died", "worker 1 died", 30),))))
    batch.run(nodes)
    assert "worker_died: a: worker 1 died" in batch.said


def test_a_run_that_no_machine_works_on_says_so_once() -> None:
    class Late(FakeNodes):
        def events(self, wait_s: float) -> Sequence[NodeEvent]:
            if self.asked < 3:
                self.asked += 1
                return []
            return super().events(wait_s)

    batch = Batch(1)
    assert states(batch.run(Late(a=FakeNode(1)))) == {"done"}
    assert [text.partition(":")[0] for text in batch.said] == ["no_nodes"]


def test_statuses_that_have_ended_are_not_worked_on() -> None:
    nodes = FakeNodes(a=FakeNode(1))
    batch = Batch(3)
    batch.statuses[1].update(state="failed", exit_code=1)
    batch.run(nodes)
    assert [task.job.name for task in nodes.nodes["a"].given] == ["v0", "v2"]
    assert isinstance(batch.statuses[0], StreamStatus)
