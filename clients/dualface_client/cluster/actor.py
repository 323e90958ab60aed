"""The node as Ray runs it: an actor on a machine of the cluster, with figures for its dashboard."""

from __future__ import annotations

import os

from dualface_client.cluster.messages import News, NodePlan, Order
from dualface_client.cluster.node import Node
from dualface_client.observe.report import FINAL_STATES, StreamReport


class NodeActor:
    """A `Node` and its figures.

    Args:
        name: Of the node, for the figures.
        plan: From the driver.
        cpus: Cores that are this node's.
    """

    def __init__(self, name: str, plan: NodePlan, cpus: int) -> None:
        # Ray sets it for its own workers; it would slow down server and workers, which inherit it.
        os.environ.pop("OMP_NUM_THREADS", None)
        self._figures = _Figures(name)
        self._node = Node(plan, cpus)

    def talk(self, order: Order) -> News:
        """As of `Node`."""
        news = self._node.talk(order)
        self._figures.count(news.reports)
        return news

    def close(self) -> None:
        """As of `Node`."""
        self._node.close()


class _Figures:
    """Ray's metrics of one node."""

    def __init__(self, name: str) -> None:
        from ray.util.metrics import Counter, Gauge

        tags = {"node": name}
        self._frames = Counter(
            "dualface_frames_out", "Frames written by videos of a node.", tag_keys=("node",)
        )
        self._videos = Counter(
            "dualface_videos_ended", "Videos that have ended, by state.", tag_keys=("node", "state")
        )
        self._running = Gauge(
            "dualface_videos_running", "Videos that a node works on.", tag_keys=("node",)
        )
        for figure in (self._frames, self._videos, self._running):
            figure.set_default_tags(tags)
        self._frames_by_name: dict[str, int] = {}

    def count(self, reports: tuple[StreamReport, ...]) -> None:
        """Adds what has changed."""
        for report in reports:
            more = report.frames_out - self._frames_by_name.get(report.name, 0)
            self._frames_by_name[report.name] = report.frames_out
            if more > 0:
                self._frames.inc(more)
            if report.state in FINAL_STATES:
                del self._frames_by_name[report.name]
                self._videos.inc(1, tags={"state": report.state})
        self._running.set(len(self._frames_by_name))
