"""Several streams in one file: inputs, outputs, their order, and settings of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualface_client.config.layers import node_layer, program_layer
from dualface_client.config.rules import broken_rules
from dualface_client.config.table import Setting, settings_table
from dualface_client.config.values import Given, Layer, Origin, Problem, quoted
from dualface_client.config.yaml_tree import Node, TreeError, read_tree
from dualface_client.errors import ConfigError
from dualface_client.settings.addresses import scheme_of
from dualface_client.settings.kinds import Integer, did_you_mean
from dualface_client.settings.stream import InputSettings

_LAYER = "stream"
_KEYS = ("name", "input", "output", "priority", "settings")
_PRIORITY = Integer(0, 1000)
_STREAMS_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One stream of a file.

    Attributes:
        name: Unique in the file.
        input: What to read, relative to the current directory; of no meaning beside an address.
        output: What to write; None to write nothing.
        priority: Streams with a higher one are started first.
        overrides: Its own settings, by key.
        origin: File and line.
        address: Of a live input, empty for a file.
        outputs: All that the file says, of which only live streams have several.
    """

    name: str
    input: Path
    output: Path | None
    priority: int
    overrides: dict[str, Given]
    origin: Origin
    address: str = ""
    outputs: tuple[str, ...] = ()

    def is_live(self, settings: InputSettings) -> bool:
        """Whether its frames do not wait.

        Args:
            settings: Of its input.
        """
        return bool(self.address) or settings.live or settings.realtime


def read_streams(
    path: Path, base: Mapping[str, Given], *, may_be_empty: bool = False
) -> list[StreamEntry]:
    """Reads a streams file.

    Args:
        path: The file.
        base: Every setting of the run; overrides must be compatible with them.
        may_be_empty: Whether a file without streams is right.

    Returns:
        The streams by descending priority, then in the file's order.

    Raises:
        ConfigError: Something is wrong; the message lists all of it.
    """
    entries, problems = parse_streams(path, base, may_be_empty=may_be_empty)
    if problems:
        raise ConfigError("\n".join(["streams are wrong:", *(f"  {p}" for p in problems)]))
    return sorted(entries, key=lambda entry: -entry.priority)


def stream_entry(
    name: str,
    source: str,
    outputs: Sequence[str],
    settings: Mapping[str, object],
    base: Mapping[str, Given],
) -> StreamEntry:
    """A stream that comes from elsewhere, checked as those of a file are.

    Args:
        name: Of the stream.
        source: What to read.
        outputs: What to write; of a video that is not live one at most.
        settings: Its own settings by key, as text or of Python's own types.
        base: Every setting of the run; its own must be compatible with them.

    Raises:
        ConfigError: A setting is wrong; the message lists all that are.
    """
    layer = _without_global(program_layer(settings, f"stream {name}"), settings_table())
    problems = list(layer.problems) or broken_rules({**base, **layer.values})
    if problems:
        raise ConfigError("; ".join(problem.text for problem in problems))
    origin = Origin("program", f"stream {name}")
    target = Path(outputs[0]) if outputs else None
    address = source if scheme_of(source) else ""
    path = Path(name if address else source)
    return StreamEntry(name, path, target, 0, layer.values, origin, address, tuple(outputs))


def parse_streams(
    path: Path, base: Mapping[str, Given], *, may_be_empty: bool = False
) -> tuple[list[StreamEntry], list[Problem]]:
    """Like `read_streams`, in the file's order, and returns mistakes instead of raising them."""
    try:
        root, problems = read_tree(path, _LAYER)
    except TreeError as error:
        return [], [error.problem]
    listed = root.value.get("streams") if isinstance(root.value, dict) else None
    if may_be_empty and (listed is None or listed.value in (None, [])):
        return [], [*problems, *_strangers(root, ("streams",))]
    if listed is None or not isinstance(listed.value, list) or not listed.value:
        origin = listed.origin if listed else root.origin
        text = "expected `streams:` and below it a list, `- name: ...` for each stream"
        return [], [*problems, Problem(origin, text)]
    if len(listed.value) > _STREAMS_LIMIT:
        return [], [Problem(listed.origin, f"{len(listed.value)} streams; split the file")]
    problems += _strangers(root, ("streams",))
    reader = _Reader(base, problems)
    entries = [entry for node in listed.value if (entry := reader.entry(node)) is not None]
    problems += [*_repeated(entries, "name"), *_repeated(entries, "output")]
    return entries, problems


def is_streams_file(path: Path) -> bool:
    """Whether a file lists streams and not settings."""
    try:
        root, _ = read_tree(path, _LAYER)
    except TreeError:  # read as settings, which reports its mistakes
        return False
    return isinstance(root.value, dict) and "streams" in root.value


def _expanded(output: str) -> str:
    """With a home directory for `~`; a `/` at the end stays, as it says that it is a directory."""
    return output if scheme_of(output) else os.path.expanduser(output)


class _Reader:
    def __init__(self, base: Mapping[str, Given], problems: list[Problem]) -> None:
        self._base = base
        self._problems = problems

    def entry(self, node: Node) -> StreamEntry | None:
        if not isinstance(node.value, dict):
            text = f"{node.what}: expected a stream with name, input and output"
            self._problems.append(Problem(node.origin, text))
            return None
        before = len(self._problems)
        self._problems += _strangers(node, _KEYS)
        name = self._text(node, "name", needed=True)
        source = self._text(node, "input", needed=True)
        overrides = self._overrides(node.value.get("settings"))
        writes = {**self._base, **overrides}["output.encoder"].value != "none"
        outputs = self._outputs(node, needed=writes)
        priority = self._priority(node)
        if len(self._problems) > before:
            return None
        target = Path(outputs[0]) if outputs and writes else None
        address = source if scheme_of(source) else ""
        path = Path(name if address else source).expanduser()
        written = outputs if writes else ()
        return StreamEntry(name, path, target, priority, overrides, node.origin, address, written)

    def _outputs(self, entry: Node, *, needed: bool) -> tuple[str, ...]:
        """One output as a text, or several as a list of texts."""
        assert isinstance(entry.value, dict)  # noqa: S101 - checked by the caller
        node = entry.value.get("output")
        if node is None or not isinstance(node.value, list):
            text = self._text(entry, "output", needed=needed)
            return (_expanded(text),) if text else ()
        for each in node.value:
            if not isinstance(each.value, str) or not each.value:
                text = f"output: {each.what}: expected a text"
                self._problems.append(Problem(each.origin, text))
        return tuple(_expanded(each.value) for each in node.value if isinstance(each.value, str))

    def _text(self, entry: Node, key: str, *, needed: bool) -> str:
        assert isinstance(entry.value, dict)  # noqa: S101 - checked by the caller
        node = entry.value.get(key)
        if node is None or node.value in (None, ""):
            if needed:
                origin = node.origin if node else entry.origin
                self._problems.append(Problem(origin, f"{key}: is missing; write `{key}: ...`"))
            return ""
        if not isinstance(node.value, str):
            self._problems.append(Problem(node.origin, f"{key}: {node.what}: expected a text"))
            return ""
        return node.value

    def _priority(self, entry: Node) -> int:
        text = self._text(entry, "priority", needed=False)
        if not text:
            return 0
        try:
            return _PRIORITY.read(text)
        except ValueError as error:
            assert isinstance(entry.value, dict)  # noqa: S101 - it has a priority
            origin = entry.value["priority"].origin
            self._problems.append(Problem(origin, f"priority: {quoted(text)}: {error}"))
            return 0

    def _overrides(self, node: Node | None) -> dict[str, Given]:
        if node is None or node.value is None:
            return {}
        layer = node_layer(node, settings_table())
        layer = _without_global(layer, settings_table())
        self._problems += layer.problems
        if not layer.problems:
            # The run's own settings have been checked: what is wrong now comes from this stream.
            self._problems += broken_rules({**self._base, **layer.values})
        return layer.values


def _without_global(layer: Layer, table: Mapping[str, Setting]) -> Layer:
    problems = list(layer.problems)
    for key, given in layer.values.items():
        if not table[key].per_stream:
            text = f"{key}: applies to the whole run; move it to manual.yaml or an option"
            problems.append(Problem(given.origin, text))
    return Layer(layer.name, layer.values, tuple(problems))


def _strangers(node: Node, known: tuple[str, ...]) -> list[Problem]:
    assert isinstance(node.value, dict)  # noqa: S101 - checked by the caller
    return [
        Problem(
            child.origin,
            f"{key}: unknown key{did_you_mean(key, known)}; expected {', '.join(known)}",
        )
        for key, child in node.value.items()
        if key not in known
    ]


def _repeated(entries: list[StreamEntry], attribute: str) -> list[Problem]:
    first: dict[object, StreamEntry] = {}
    problems = []
    for entry in entries:
        value = getattr(entry, attribute)
        if attribute == "output" and entry.address:
            continue  # streams may share a directory; `batch.live_jobs` checks the rest
        if value is not None and value in first:
            text = f"{attribute}: {value}: used by the stream in line {first[value].origin.line}"
            problems.append(Problem(entry.origin, f"{text} too; give each its own"))
        first.setdefault(value, entry)
    return problems
