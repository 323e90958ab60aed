"""Traces of frames: which, how they end, and that they arrive at a collector."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dualface_client.observe.traces import FrameTraces, Traces
from dualface_client.settings.program import TraceSettings
from dualface_client.types import ColorMatrix, ColorSpec, Frame, Nv12Image
from tests.live_servers import free_port


def frames(count: int) -> Iterator[Frame]:
    planes = np.zeros((4, 4), np.uint8), np.zeros((2, 2, 2), np.uint8)
    image = Nv12Image(*planes, ColorSpec(ColorMatrix.BT709))
    return (Frame(index, index, Fraction(1, 25), image) for index in range(count))


class Kept:
    """Traces that stay here."""

    def __init__(self, every_s: float) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.now_s = 100.0
        self.traces = FrameTraces(
            provider.get_tracer("test"), "door", every_s, clock_s=lambda: self.now_s
        )

    def ways(self) -> dict[int, str]:
        """What became of each traced frame."""
        found = [span.attributes or {} for span in self.exporter.get_finished_spans()]
        return {
            int(str(each["frame"])): str(each.get("dropped", ""))
            for each in found
            if "frame" in each
        }


def test_one_frame_in_a_while_is_traced() -> None:
    kept = Kept(every_s=1.0)
    for frame in kept.traces.decoding(frames(100)):
        kept.now_s += 0.04
        kept.traces.reach(frame.index, "detect")
        kept.traces.end(frame.index)
    assert list(kept.ways()) == [0, 25, 50, 75]


def test_a_frame_that_is_dropped_says_why_and_none_stays_open() -> None:
    kept = Kept(every_s=0.0)
    for frame in kept.traces.decoding(frames(3)):
        if frame.index == 1:
            kept.traces.end(frame.index, "behind")
    kept.traces.end(0)
    kept.traces.end(0)
    kept.traces.close()
    assert kept.ways() == {0: "", 1: "behind", 2: "stopped"}


def test_nothing_is_traced_by_default() -> None:
    with Traces(TraceSettings()) as traces:
        found = traces.of("door")
        for frame in found.decoding(frames(2)):
            found.reach(frame.index, "detect")
            with found.carried_by([frame.index]):
                found.end(frame.index)


def test_a_collector_gets_the_spans_by_the_end() -> None:
    got: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        with Traces(TraceSettings(endpoint, every_s=0.0)) as traces:
            found = traces.of("door")
            for frame in found.decoding(frames(2)):
                found.end(frame.index)
        server.shutdown()
        thread.join()
    ((path, body),) = got
    assert path == "/v1/traces"
    (sent,) = ExportTraceServiceRequest.FromString(body).resource_spans
    service = {each.key: each.value.string_value for each in sent.resource.attributes}
    assert service["service.name"] == "dualface"
    names = [span.name for span in sent.scope_spans[0].spans]
    assert sorted(names) == ["decode", "decode", "frame", "frame", "queue", "queue"]


def test_a_collector_that_is_not_there_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    with caplog.at_level(logging.WARNING), Traces(TraceSettings(endpoint, every_s=0.0)) as traces:
        found = traces.of("door")
        for frame in found.decoding(frames(2)):
            found.end(frame.index)
    told = [each.getMessage() for each in caplog.records if each.name.startswith("dualface")]
    assert len(told) == 1
    assert told[0].startswith(f"{endpoint}: traces cannot be sent there")
