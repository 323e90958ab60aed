"""What requests may bring, and what they do with the streams."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, Literal, get_args

import psutil
from pydantic import BaseModel, ConfigDict, Field

from dualface_client.config.streams_file import stream_entry
from dualface_client.config.table import settings_table
from dualface_client.config.values import Given
from dualface_client.daemon.desired import DesiredStream
from dualface_client.daemon.keeper import Keeper
from dualface_client.daemon.policy import Policy, Refusal, path_of
from dualface_client.errors import ConfigError, DualfaceError, UsageError
from dualface_client.observe.run_state import RunState
from dualface_client.settings.addresses import scheme_of
from dualface_client.settings.stream import DEFAULT_CANVAS_WH_PX
from dualface_client.stream.preview import Preview
from dualface_client.types import LayoutKind, Side
from dualface_client.workers.messages import SteerStream

#: A stream sends pictures for this long after somebody has asked for one.
_WATCHED_S = 3.0
#: How long a request waits for a new picture, and how often it looks.
_PICTURE_WAIT_S, _LOOK_S = 2.0, 0.05


_OUTPUTS = 8
Text = Annotated[str, Field(max_length=2048)]


class Body(BaseModel):
    """What a request brings; anything else in it is refused by name."""

    model_config = ConfigDict(extra="forbid")


class NewStream(Body):
    """A stream that should run."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
            description="Up to 64 letters, digits, dots, hyphens and underscores",
        ),
    ]
    input: Annotated[Text, Field(description="Address, without user and password")]
    output: Annotated[
        Text | Annotated[list[Text], Field(max_length=_OUTPUTS)],
        Field(description="Address, directory or file; a live stream may have several, or none"),
    ]
    settings: Annotated[
        dict[str, str | int | float | bool],
        Field(default={}, description="Settings of this stream by key, as in a file of streams"),
    ]


class HoldWish(Body):
    """A person gets a tile and keeps it."""

    side: Annotated[Literal["left", "right"], Field(description="Either left or right")]
    person: Annotated[int, Field(ge=1, description="Number of somebody who has been seen")]


class LayoutWish(Body):
    """The same canvas is divided in another way."""

    layout: Annotated[LayoutKind, Field(description="One of " + ", ".join(get_args(LayoutKind)))]


class Login(Body):
    """The token, for a browser that gets a cookie instead."""

    token: Annotated[str, Field(max_length=1024, description="The text of the token's file")]


def expected(field: str) -> str:
    """What a field of a request is expected to be, empty for a field that no request has.

    >>> expected("side")
    'either left or right'
    """
    for body in (NewStream, HoldWish, LayoutWish, Login):
        if found := body.model_fields.get(field):
            text = found.description or ""
            return text[:1].lower() + text[1:]
    return ""


class Done(BaseModel):
    """What was done."""

    done: str


@dataclass(frozen=True, slots=True)
class Steering:
    """What requests act on.

    Attributes:
        keeper: Has the streams.
        state: Of server and workers.
        policy: What requests may open.
        base: Every setting of the daemon.
        server_pids: Return process ids of embedded servers, by name.
    """

    keeper: Keeper
    state: RunState
    policy: Policy
    base: Mapping[str, Given]
    server_pids: Mapping[str, Callable[[], int]] = field(default_factory=dict)

    def add(self, wanted: NewStream) -> None:
        """Adds a stream.

        Raises:
            RefusedError: Something of it may not be opened, or is wrong.
            ConflictError: There is such a stream, or there are too many.
        """
        texts = {key: _text(value) for key, value in wanted.settings.items()}
        outputs = [wanted.output] if isinstance(wanted.output, str) else wanted.output
        stream = DesiredStream(wanted.name, wanted.input, tuple(filter(None, outputs)), texts)
        if refusals := self.policy.refusals(stream):
            raise RefusedError(refusals)
        stream = replace(
            stream, input=_plain(stream.input), outputs=tuple(map(_plain, stream.outputs))
        )
        try:
            self.keeper.add(stream)
        except ConfigError as error:
            raise RefusedError([Refusal("settings", str(error))]) from error
        except UsageError as error:
            raise RefusedError([Refusal("input", str(error))]) from error

    async def look(self, name: str) -> Preview | None:
        """What a stream shows now; has it send pictures for a while.

        A slow stream has no new picture within the wait: then it is the one before. None if there
        is none that is fit to be shown.
        """
        self.keeper.stream(name)
        before = self.keeper.carrier.preview(name)
        self.keeper.carrier.watch(name, _WATCHED_S)
        for _ in range(round(_PICTURE_WAIT_S / _LOOK_S)):
            found = self.keeper.carrier.preview(name)
            if found is not before:
                return found
            await asyncio.sleep(_LOOK_S)
        return before

    def status(self) -> dict[str, Any]:
        """Server, workers, and the memory of every process."""
        state = self.state.as_dict()
        del state["streams"]
        workers = {f"worker {each['number']}": each for each in state.pop("workers")}
        processes: list[dict[str, Any]] = [{"name": "daemon", "pid": os.getpid()}]
        processes += [{"name": name, "pid": pid()} for name, pid in self.server_pids.items()]
        processes += [
            {"name": name, **{key: each[key] for key in ("pid", "restarts", "streams")}}
            for name, each in workers.items()
            if each["pid"]
        ]
        for each in processes:
            each["memory_bytes"] = _memory_bytes(each["pid"])
        total = sum(each["memory_bytes"] for each in processes)
        stalled = list(self.state.stalled())
        return {**state, "processes": processes, "memory_bytes": total, "stalled": stalled}

    def swap(self, name: str) -> bool:
        """The two people change tiles, also after the stream's next start.

        Raises:
            NoSuchStreamError: There is none of this name.
            ConflictError: It is not running, or refuses.
            ConfigError: With that, its settings would not be valid at its next start.
        """
        return self.keeper.steer(SteerStream(name, 0, "swap"), self._swapped)

    def _swapped(self, stream: DesiredStream) -> DesiredStream:
        values = self._values(stream)
        sides = "tracking.sides."
        texts = {f"{sides}swap": _text(not values[f"{sides}swap"])}
        for side in Side:
            mine, other = f"{sides}pin_{side.value}", f"{sides}pin_{side.other.value}"
            if values[mine] != values[other]:
                texts[mine] = settings_table()[mine].kind.show(values[other])
        return self._valid(stream.with_settings(texts))

    def hold(self, name: str, wish: HoldWish) -> bool:
        """Gives a tile to a person until the stream's next start: numbers do not outlive one."""
        return self.keeper.steer(SteerStream(name, 0, "hold", wish.side, wish.person), None)

    def relayout(self, name: str, layout: LayoutKind) -> bool:
        """Divides the canvas in another way, also after the stream's next start.

        Raises:
            NoSuchStreamError: There is none of this name.
            ConflictError: It is not running, or refuses.
            ConfigError: With that, its settings would not be valid at its next start.
        """
        aside_px = self.keeper.stream(name).desired.gap_px_aside
        # A stream that was started as one picture does not know of the gap that comes back.
        gap_px = None if layout == "solo" else aside_px or None
        wish = SteerStream(name, 0, "layout", layout=layout, gap_px=gap_px)
        return self.keeper.steer(wish, partial(self._divided, layout))

    def _divided(self, layout: LayoutKind, stream: DesiredStream) -> DesiredStream:
        values = self._values(stream)
        width, height = values["output.size"] or DEFAULT_CANVAS_WH_PX[values["output.layout"]]
        texts = {"output.layout": layout, "output.size": f"{width}x{height}"}
        gap_px, aside_px = values["output.gap_px"], stream.gap_px_aside
        if layout == "solo" and gap_px:  # which together are no valid settings
            texts["output.gap_px"], aside_px = "0", gap_px
        elif layout != "solo" and aside_px:
            texts["output.gap_px"], aside_px = str(aside_px), 0
        return self._valid(replace(stream.with_settings(texts), gap_px_aside=aside_px))

    def _valid(self, stream: DesiredStream) -> DesiredStream:
        self._values(stream)
        return stream

    def _values(self, stream: DesiredStream) -> dict[str, Any]:
        """Every setting of a stream; raises `ConfigError` if its own are not valid."""
        own = stream_entry(stream.name, stream.input, stream.outputs, stream.settings, self.base)
        return {key: given.value for key, given in {**self.base, **own.overrides}.items()}


class RefusedError(DualfaceError):
    """Parts of a request that may not be, or are wrong.

    Attributes:
        refusals: Which, and why.
    """

    def __init__(self, refusals: list[Refusal]) -> None:
        super().__init__("; ".join(f"{each.field}: {each.text}" for each in refusals))
        self.refusals = refusals


def _plain(text: str) -> str:
    """The path of a `file:` address, which everybody else takes for a live one."""
    return str(path_of(text)) if scheme_of(text) == "file" else text


def _memory_bytes(pid: int) -> int:
    """Resident size of a process with those below it, 0 if it has gone."""
    try:
        process = psutil.Process(pid)
        below = process.children(recursive=True) if pid != os.getpid() else []
        return sum(each.memory_info().rss for each in (process, *below))
    except psutil.Error:  # it has ended meanwhile
        return 0


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
