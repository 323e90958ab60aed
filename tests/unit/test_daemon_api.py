"""The API over real sockets: who may come in, what is refused by name, what is done."""

from __future__ import annotations

import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.message import Message
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from dualface_client.batch.listener import Listener
from dualface_client.config.stack import ConfigFiles, Effective, merged
from dualface_client.config.streams_file import read_streams, stream_entry
from dualface_client.daemon.api import ApiServer
from dualface_client.daemon.desired import DesiredStream, DesiredStreams
from dualface_client.daemon.gate import BODY_LIMIT_BYTES
from dualface_client.daemon.keeper import Keeper
from dualface_client.daemon.page import policy_of
from dualface_client.daemon.policy import Policy
from dualface_client.daemon.run import DaemonRequest, reload_streams
from dualface_client.daemon.steering import Steering
from dualface_client.daemon.token import Token
from dualface_client.errors import UsageError
from dualface_client.observe.report import StreamStatus
from dualface_client.observe.run_state import RunState
from dualface_client.settings.program import DaemonSettings
from dualface_client.stream.job import Job
from dualface_client.stream.preview import Preview, SeenPerson
from dualface_client.workers.messages import SteerStream
from tests.processes import wait_until

TOKEN = secrets.token_urlsafe(32)
WITH_TOKEN = {"Authorization": f"Bearer {TOKEN}"}
BASE = merged([])


@dataclass
class FakeFleet:
    """Runs nothing; a stream runs from the moment it is given until it is withdrawn."""

    running: dict[str, StreamStatus] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    wishes: list[SteerStream] = field(default_factory=list)
    answers: list[Future[str]] = field(default_factory=list)
    problem: str = ""
    watched: list[str] = field(default_factory=list)
    hangs: bool = False

    def give(self, job: Job, status: StreamStatus) -> None:
        self.starts.append(job.name)
        self.running[job.name] = status
        status.update(state="running", sides={1: "left", 2: "right"})

    def withdraw(self, name: str) -> None:
        if not self.hangs:
            self.running.pop(name).update(state="stopped")

    def steer(self, wish: SteerStream) -> Future[str]:
        self.wishes.append(wish)
        answer: Future[str] = Future()
        self.answers.append(answer)
        if not self.hangs:
            answer.set_result(self.problem)
        return answer

    def watch(self, name: str, seconds: float) -> None:
        self.watched.append(name)

    def preview(self, name: str) -> Preview | None:
        """A new one from the moment on in which somebody looks."""
        people = (SeenPerson(2, "right", (0.5, 0.1, 0.6, 0.2)),)
        return Preview(b"canvas", b"source", people) if name in self.watched else None


@dataclass
class Daemon:
    """A keeper and its API, with a fleet that runs nothing."""

    folder: Path
    limit: int = 3
    fleet: FakeFleet = field(default_factory=FakeFleet)
    full: str = ""

    def __post_init__(self) -> None:
        self.state = RunState("test", [])
        self.state.set_phase("running")
        self.desired = DesiredStreams(self.folder / "state.json")
        self.keeper = Keeper(
            *(self.desired, self.fleet, self.state, self.job_of, self.limit),
            steer_wait_s=0.1,
            refusal_of=lambda job: self.full,
        )
        policy = Policy(("rtsp",), ("rtmp",), None, self.folder)
        self.server = ApiServer(
            Steering(self.keeper, self.state, policy, BASE), Token(TOKEN), DaemonSettings(port=0)
        )
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self._tick)
        self.thread.start()

    @staticmethod
    def job_of(stream: DesiredStream) -> Job:
        if stream.name == "mistaken":
            raise UsageError("rtsp://camera/door: holds a user or password")
        entry = stream_entry(stream.name, stream.input, stream.outputs, stream.settings, BASE)
        return Job(stream.name, entry.input, entry.output, address=entry.address)

    def _tick(self) -> None:
        while not self.closing.is_set():
            self.keeper.tick()

    def close(self) -> None:
        self.closing.set()
        self.thread.join()
        self.server.close()

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Status and body of an answer; with the token, unless other headers are given."""
        code, _, said = self.ask_whole(method, path, body, headers or WITH_TOKEN)
        return code, json.loads(said)

    def ask_whole(
        self, method: str, path: str, body: object, headers: Mapping[str, str]
    ) -> tuple[int, Message, bytes]:
        connection = HTTPConnection(self.server.url.split("/")[2], timeout=30)
        data = body if isinstance(body, bytes | Iterator) else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"}
        connection.request(method, path, None if body is None else data, {**kind, **headers})
        reply = connection.getresponse()
        said = reply.read()
        connection.close()
        return reply.status, reply.headers, said


class Events(Listener):
    """Keeps the names of what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, event: str, text: str, level: int = logging.INFO) -> None:
        self.heard.append(event)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    found = Daemon(tmp_path)
    yield found
    found.close()


def door(name: str = "door", **changes: object) -> dict[str, object]:
    return {"name": name, "input": f"rtsp://camera/{name}", "output": "", **changes}


@pytest.mark.parametrize("path", ["/v1/streams", "/v1/streams/door", "/metrics", "/nothing"])
@pytest.mark.parametrize(
    "headers",
    [
        {"X-None": ""},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": f"dualface={TOKEN}"},
        {"Authorization": "Bearer "},
    ],
)
def test_without_the_token_nothing_is_told(
    daemon: Daemon, path: str, headers: dict[str, str]
) -> None:
    assert daemon.ask("GET", path, **headers) == (401, {"error": "the token is missing or wrong"})


def test_a_stream_is_added_shown_and_removed(daemon: Daemon) -> None:
    code, said = daemon.ask("POST", "/v1/streams", door(settings={"output.crf": 30}))
    assert (code, said) == (201, {"done": "door: added, and is being started"})
    wait_until(lambda: "door" in daemon.fleet.running)
    code, stream = daemon.ask("GET", "/v1/streams/door")
    assert code == 200
    assert (stream["state"], stream["input"]) == ("running", "rtsp://camera/door")
    assert stream["settings"] == {"output.crf": "30"}
    assert stream["people"] == {"left": 1, "right": 2}
    assert [each["name"] for each in daemon.state.as_dict()["streams"]] == ["door"]
    assert daemon.ask("DELETE", "/v1/streams/door") == (200, {"done": "door: removed"})
    assert daemon.fleet.running == {}
    assert daemon.ask("GET", "/v1/streams/door") == (
        404,
        {"error": "door: no stream has this name"},
    )
    assert daemon.ask("GET", "/v1/streams")[1] == []
    assert json.loads((daemon.folder / "state.json").read_text())["streams"] == []


def test_a_stream_that_does_not_end_in_time_is_said_to_be_ending(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.fleet.hangs = True
    with ExitStack() as stack:
        stack.callback(daemon.close)
        daemon.keeper.add(DesiredStream("door", "rtsp://camera/door"))
        wait_until(lambda: daemon.fleet.starts)
        assert daemon.keeper.remove("door", wait_s=0.0) is False
        code, said = daemon.ask("POST", "/v1/streams", door())
        assert (code, said["error"]) == (
            409,
            "door: there is a stream of this name; choose another",
        )


@pytest.mark.parametrize(
    ("body", "field", "why"),
    [
        (door(colour="red"), "colour", "unknown field"),
        (
            {"name": "door", "input": "rtsp://a/b"},
            "output",
            "output: is missing; expected address, directory or file; a live stream may have",
        ),
        ({"input": "rtsp://a/b", "output": ""}, "name", "name: is missing; expected up to 64"),
        (None, "body", "is missing; expected a JSON object"),
        (
            door(output=["rtmp://host/a", "/etc/x"]),
            "output",
            "is not below daemon.output_directory",
        ),
        (door(output=["rtmp://host/a"] * 9), "output.list[constrained-str]", "at most 8"),
        (door(name="../x"), "name", "pattern"),
        (door(name="x" * 65), "name", "pattern"),
        (door(input=7), "input", "string"),
        (door(input="file:///etc/passwd"), "input", "files are not opened for requests"),
        (door(input="/etc/passwd"), "input", "files are not opened for requests"),
        (door(input="gopher://host/1"), "input", "gopher: is not allowed; expected one of rtsp"),
        (
            door(input="rtsp://ann:s3cret@camera/door"),
            "input",
            "into a file on the daemon's host, and name that in the setting input.credentials_file",
        ),
        (
            door(output="rtmp://ann:s3cret@host/live"),
            "output",
            "into a file on the daemon's host, and name that in the setting output.credentials",
        ),
        (door(output="/etc/cron.d/x"), "output", "is not below daemon.output_directory"),
        (door(settings={"output.crf": 99}), "settings", "1 to 51"),
        (door(settings={"output.crff": 9}), "settings", "did you mean output.crf"),
        (door(settings={"run.device": "cuda"}), "settings", "applies to the whole run"),
        (door(settings={"output.crf": {"a": 1}}), "settings.output.crf.str", "string"),
        (b"{", "1", "is not JSON"),
        ([], "body", "dictionary"),
    ],
)
def test_what_is_wrong_is_refused_by_name_and_never_repeated(
    daemon: Daemon, body: object, field: str, why: str
) -> None:
    code, said = daemon.ask("POST", "/v1/streams", body)
    assert code == 422
    assert field in [each["field"] for each in said["problems"]]
    assert why in said["error"]
    assert "s3cret" not in json.dumps(said)
    assert daemon.fleet.starts == []


def test_a_name_an_output_and_room_are_given_once(daemon: Daemon) -> None:
    output = f"{daemon.folder}/a.mp4"
    for name, changes in (("a", {"output": output}), ("b", {})):
        assert daemon.ask("POST", "/v1/streams", door(name, **changes))[0] == 201
    refusals = {
        "there is a stream of this name": door("a"),
        "output: stream a writes there": door("c", output=output),
    }
    for why, body in refusals.items():
        code, said = daemon.ask("POST", "/v1/streams", body)
        assert code == 409
        assert why in said["error"]
    assert daemon.ask("POST", "/v1/streams", door("c"))[0] == 201
    code, said = daemon.ask("POST", "/v1/streams", door("d"))
    assert (code, said["error"]) == (
        409,
        "3 streams run, as many as may; remove one, or raise --streams",
    )


def test_a_stream_for_which_there_is_no_room_is_refused_with_the_figures(daemon: Daemon) -> None:
    daemon.full = "needs 316 MiB of GPU memory"
    assert daemon.ask("POST", "/v1/streams", door()) == (
        409,
        {"error": "door: needs 316 MiB of GPU memory"},
    )
    assert daemon.keeper.streams() == []
    daemon.full = ""
    assert daemon.ask("POST", "/v1/streams", door())[0] == 201


def test_a_body_that_is_too_large_is_refused_also_without_a_length(daemon: Daemon) -> None:
    code, said = daemon.ask("POST", "/v1/streams", b" " * (BODY_LIMIT_BYTES + 1))
    assert (code, said["error"]) == (413, "the request is larger than 64 KiB")
    parts = iter([b" " * 40_000] * 2)
    assert daemon.ask_whole("POST", "/v1/streams", parts, WITH_TOKEN)[0] == 413


def test_a_browser_logs_in_and_may_then_change_things_from_its_own_page_only(
    daemon: Daemon,
) -> None:
    assert daemon.ask("POST", "/v1/login", {"token": "wrong"}, X="")[0] == 401
    _, headers, _ = daemon.ask_whole("POST", "/v1/login", {"token": TOKEN}, {})
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    sent = {"Cookie": cookie.partition(";")[0]}
    assert daemon.ask("GET", "/v1/streams", **sent) == (200, [])
    host = daemon.server.url.split("/")[2]
    for origin, expected in ((f"http://{host}", 201), ("http://127.0.0.1:9", 401), ("null", 401)):
        code, _ = daemon.ask("POST", "/v1/streams", door(), **sent, Origin=origin)
        assert code == expected
        if code == 201:
            daemon.ask("DELETE", "/v1/streams/door")
    assert daemon.ask("POST", "/v1/streams", door(), **sent)[0] == 401  # no page at all


def test_a_running_stream_is_steered_and_what_lasts_is_remembered(daemon: Daemon) -> None:
    daemon.ask("POST", "/v1/streams", door())
    wait_until(lambda: daemon.fleet.starts)
    assert daemon.ask("POST", "/v1/streams/door/swap")[0] == 200
    held = daemon.ask("POST", "/v1/streams/door/hold", {"side": "left", "person": 2})
    assert held == (200, {"done": "door: the left tile is person 2's"})
    assert daemon.ask("POST", "/v1/streams/door/layout", {"layout": "stacked"})[0] == 200
    assert daemon.fleet.wishes == [
        SteerStream("door", 0, "swap"),
        SteerStream("door", 0, "hold", "left", 2),
        SteerStream("door", 0, "layout", layout="stacked"),
    ]
    kept = DesiredStreams(daemon.folder / "state.json").streams["door"].settings
    assert kept == {
        "tracking.sides.swap": "true",
        "output.layout": "stacked",
        "output.size": "1920x1080",  # that of the canvas, which a running encoder keeps
    }
    daemon.ask("POST", "/v1/streams/door/swap")
    assert daemon.keeper.stream("door").desired.settings["tracking.sides.swap"] == "false"
    assert daemon.fleet.starts == ["door"]  # none of this started it again
    code, said = daemon.ask("POST", "/v1/streams/door/layout", {"layout": "round"})
    assert (code, said["problems"][0]["field"]) == (422, "layout")
    daemon.fleet.problem = "person 9: is not known; known are 1, 2"
    code, said = daemon.ask("POST", "/v1/streams/door/hold", {"side": "left", "person": 9})
    assert (code, said["error"]) == (409, "door: person 9: is not known; known are 1, 2")
    assert daemon.ask("POST", "/v1/streams/none/swap")[0] == 404


def test_a_gap_is_put_aside_while_the_layout_is_one_picture(daemon: Daemon) -> None:
    daemon.ask("POST", "/v1/streams", door(settings={"output.gap_px": 8}))
    wait_until(lambda: daemon.fleet.starts)

    def change(layout: str) -> dict[str, str]:
        code, said = daemon.ask("POST", "/v1/streams/door/layout", {"layout": layout})
        assert code == 200, said
        kept = DesiredStreams(daemon.folder / "state.json").streams["door"]
        daemon.job_of(kept)  # so that the next start does not fail
        return kept.settings

    for _ in range(2):
        assert change("solo")["output.gap_px"] == "0"
    assert daemon.ask("POST", "/v1/streams/door/swap")[0] == 200
    assert change("side-by-side")["output.gap_px"] == "8"
    assert [each.gap_px for each in daemon.fleet.wishes] == [None, None, None, 8]
    assert daemon.fleet.starts == ["door"]


def test_a_wish_that_could_not_be_remembered_is_refused_before_the_stream_is_steered(
    daemon: Daemon,
) -> None:
    photo = daemon.folder / "ann.jpg"
    photo.write_bytes(b"")
    stream = DesiredStream("door", "rtsp://camera/door")
    daemon.keeper.add(stream.with_settings({"tracking.sides.pin_left": str(photo)}))
    wait_until(lambda: daemon.fleet.starts)
    photo.unlink()
    for path, wish in (("swap", None), ("layout", {"layout": "stacked"})):
        code, said = daemon.ask("POST", f"/v1/streams/door/{path}", wish)
        assert code == 409
        assert f"pin_left: {photo}" in said["error"]
    assert daemon.fleet.wishes == []


def test_a_wish_that_waits_for_a_frame_is_remembered_once_it_is_done(daemon: Daemon) -> None:
    daemon.ask("POST", "/v1/streams", door())
    wait_until(lambda: daemon.fleet.starts)
    daemon.fleet.hangs = True
    code, said = daemon.ask("POST", "/v1/streams/door/swap")
    assert code == 200
    assert said["done"].endswith("from the next frame on that comes")
    daemon.ask("POST", "/v1/streams/door/layout", {"layout": "solo"})
    settings = daemon.keeper.stream("door").desired.settings
    assert settings == {}
    swap, layout = daemon.fleet.answers
    swap.set_result("")
    layout.set_result("the canvas does not allow it")
    assert daemon.keeper.stream("door").desired.settings == {"tracking.sides.swap": "true"}
    daemon.fleet.hangs = False


def test_wishes_that_are_done_together_are_remembered_one_after_the_other(daemon: Daemon) -> None:
    photo = daemon.folder / "ann.jpg"
    photo.write_bytes(b"")
    left, right = (f"tracking.sides.pin_{side}" for side in ("left", "right"))
    door = DesiredStream("door", "rtsp://camera/door", (), {left: str(photo)})
    daemon.keeper.add(door)
    wait_until(lambda: daemon.fleet.starts)
    daemon.fleet.hangs = True  # as while the camera is away
    for _ in range(3):
        assert daemon.ask("POST", "/v1/streams/door/swap")[0] == 200
    swapped = []
    for answer in daemon.fleet.answers:
        answer.set_result("")
        settings = daemon.keeper.stream("door").desired.settings
        swapped.append([settings[key] for key in ("tracking.sides.swap", left, right)])
    there, back = ["true", "nobody", str(photo)], ["false", str(photo), "nobody"]
    assert swapped == [there, back, there]
    daemon.fleet.hangs = False


def test_a_wish_does_not_hide_what_the_file_of_streams_has_changed(tmp_path: Path) -> None:
    fleet, state = FakeFleet(), RunState("test", [])
    desired = DesiredStreams(tmp_path / "state.json")
    keeper = Keeper(desired, fleet, state, Daemon.job_of, 3)
    path = tmp_path / "streams.yaml"
    for place in ("a/a", "a/b"):
        path.write_text(f"streams:\n- {{name: a, input: 'rtsp://{place}', output: a.mp4}}\n")
        keeper.take_file(read_streams(path, BASE))
        if not fleet.starts:
            keeper.tick()
    Steering(keeper, state, Policy((), ()), BASE).swap("a")
    for _ in range(3):  # it is ended, forgotten and started
        keeper.tick()
    assert fleet.starts == ["a", "a"]
    assert desired.streams["a"].settings == {"tracking.sides.swap": "true"}


def test_a_restart_starts_a_stream_anew(daemon: Daemon) -> None:
    daemon.ask("POST", "/v1/streams", door())
    wait_until(lambda: daemon.fleet.starts)
    assert daemon.ask("POST", "/v1/streams/door/restart")[0] == 200
    wait_until(lambda: daemon.fleet.starts == ["door", "door"])
    assert daemon.ask("GET", "/v1/streams/door")[1]["restarts"] == 1


def test_an_address_that_fails_is_tried_again_and_a_file_is_not(daemon: Daemon) -> None:
    daemon.keeper.add(DesiredStream("door", "rtsp://camera/door"))
    daemon.keeper.add(DesiredStream("file", "/tmp/a.mp4"))  # noqa: S108 - only a name
    wait_until(lambda: len(daemon.fleet.starts) == 2)
    for name in ("door", "file"):
        daemon.fleet.running[name].update(state="failed", error="gone", exit_code=1)
    wait_until(lambda: daemon.fleet.starts == ["door", "file", "door"], what="another attempt")
    assert daemon.ask("GET", "/v1/streams/file")[1]["state"] == "failed"


def test_a_mistake_in_the_file_of_streams_is_told_and_not_tried_again(
    daemon: Daemon, tmp_path: Path
) -> None:
    path = tmp_path / "streams.yaml"
    text = "streams:\n- {name: mistaken, input: 'rtsp://camera/door', output: a/}\n"
    path.write_text(text)
    daemon.keeper.take_file(read_streams(path, BASE))
    wait_until(lambda: daemon.ask("GET", "/v1/streams/mistaken")[1]["state"] == "failed")
    for name in ("a", "b"):  # so that it is looked at again meanwhile
        daemon.keeper.add(DesiredStream(name, f"rtsp://camera/{name}"))
        wait_until(partial(daemon.fleet.starts.count, name))
    said = daemon.ask("GET", "/v1/streams/mistaken")[1]
    assert (said["state"], said["restarts"]) == ("failed", 0)
    assert said["error"] == "rtsp://camera/door: holds a user or password"


def test_what_the_file_of_streams_changes_is_started_again_and_nothing_else(
    daemon: Daemon, tmp_path: Path
) -> None:
    path = tmp_path / "streams.yaml"
    text = "streams:\n" + "".join(
        f"- {{name: {name}, input: 'rtsp://a/{name}', output: {name}.mp4}}\n" for name in "ab"
    )
    path.write_text(text)
    daemon.keeper.take_file(read_streams(path, BASE))
    wait_until(lambda: sorted(daemon.fleet.starts) == ["a", "b"])
    path.write_text(text.replace("a/b", "a/c"))
    daemon.keeper.take_file(read_streams(path, BASE))
    wait_until(lambda: sorted(daemon.fleet.starts) == ["a", "b", "b"])


def test_a_full_disk_refuses_requests_and_reloads_and_ends_nothing(daemon: Daemon) -> None:
    daemon.ask("POST", "/v1/streams", door())
    wait_until(lambda: daemon.fleet.starts)
    state = daemon.folder / "state.json"
    state.unlink()
    state.symlink_to("/dev/full")
    for method, stream, body in (("POST", "", door("b")), ("DELETE", "/door", None)):
        code, said = daemon.ask(method, f"/v1/streams{stream}", body)
        assert (code, said["error"].partition(";")[0]) == (
            507,
            f"{state}: cannot be written: No space left on device",
        )
    code, said = daemon.ask("POST", "/v1/streams/door/swap")
    assert (code, said["error"].partition(":")[2][:17]) == (507, " it is done, but ")
    path = daemon.folder / "streams.yaml"
    path.write_text("streams:\n- {name: c, input: 'rtsp://a/c', output: c.mp4}\n")
    request = DaemonRequest(path, daemon.folder, Effective(BASE, (), ConfigFiles({}, "")))
    listener = Events()
    reload_streams(request, daemon.keeper, listener)
    assert [each.desired.name for each in daemon.keeper.streams()] == ["door"]
    state.unlink()
    reload_streams(request, daemon.keeper, listener)
    assert listener.heard == ["reload_failed", "reloaded"]
    wait_until(lambda: daemon.fleet.starts == ["door", "c"])
    kept = DesiredStreams(state).streams["door"].settings
    assert kept == {"tracking.sides.swap": "true"}


def test_pictures_are_sent_to_who_asks(daemon: Daemon) -> None:
    daemon.ask("POST", "/v1/streams", door())
    for picture in ("canvas", "source"):
        path = f"/v1/streams/door/{picture}.jpg"
        code, headers, jpeg = daemon.ask_whole("GET", path, None, WITH_TOKEN)
        assert (code, headers["Content-Type"], jpeg) == (200, "image/jpeg", picture.encode())
    assert daemon.ask("GET", "/v1/streams/door/people") == (
        200,
        [{"person": 2, "side": "right", "box_xyxy": [0.5, 0.1, 0.6, 0.2]}],
    )
    assert daemon.ask("GET", "/v1/streams/door/other.jpg")[0] == 422
    assert daemon.ask("GET", "/v1/streams/none/canvas.jpg")[0] == 404
    assert set(daemon.fleet.watched) == {"door"}


def test_the_page_is_held_to_what_is_in_it(daemon: Daemon) -> None:
    code, headers, text = daemon.ask_whole("GET", "/", None, {})
    assert code == 200
    policy = headers["Content-Security-Policy"]
    assert policy == policy_of(text.decode())
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page = text.decode()
    assert re.findall(r"<[^>]*\b(?:src|href|on[a-z]+)\s*=|https?://|@import", page) == []


def test_it_describes_itself(daemon: Daemon) -> None:
    code, said = daemon.ask("GET", "/v1/openapi.json")
    assert code == 200
    assert set(said["paths"]) >= {"/v1/streams", "/v1/streams/{name}/swap", "/v1/status"}
    assert said["components"]["schemas"]["NewStream"]["additionalProperties"] is False
    assert daemon.ask("GET", "/v1/status")[1]["phase"] == "running"


def test_health_is_told_to_everybody_and_nothing_else(daemon: Daemon) -> None:
    assert daemon.ask("GET", "/healthz", X="") == (200, {"ok": True})
    daemon.state.set_phase("stopping")
    assert daemon.ask("GET", "/healthz", X="") == (503, {"ok": False})


def test_health_is_well_again_once_a_stream_moves_after_the_server_was_away(
    daemon: Daemon,
) -> None:
    daemon.ask("POST", "/v1/streams", door())
    wait_until(daemon.state.reports)
    daemon.state.await_server(60.0, time.monotonic() - 60.0)
    assert daemon.ask("GET", "/healthz", X="") == (503, {"ok": False})
    daemon.fleet.running["door"].update(frames_out=1)
    assert daemon.ask("GET", "/healthz", X="") == (200, {"ok": True})


def test_a_taken_port_and_half_a_certificate_are_clear_errors(daemon: Daemon) -> None:
    port = int(daemon.server.url.rstrip("/").rpartition(":")[2])
    steering = Steering(daemon.keeper, daemon.state, Policy((), ()), BASE)
    with pytest.raises(UsageError, match=f"--port {port}: cannot listen on 127.0.0.1:{port}"):
        ApiServer(steering, Token(TOKEN), DaemonSettings(port=port))
    half = DaemonSettings(port=0, tls_key_file=daemon.folder / "key.pem")
    with pytest.raises(UsageError, match="give both, or neither"):
        ApiServer(steering, Token(TOKEN), half)
    none = DaemonSettings(
        port=0, tls_key_file=daemon.folder / "k", tls_certificate_file=daemon.folder / "c"
    )
    with pytest.raises(UsageError, match="--tls-certificate"):
        ApiServer(steering, Token(TOKEN), none)
