"""YAML as a tree of texts with line numbers: what a file says, before it is interpreted.

Scalars stay text, because YAML 1.1 would read `010` as 8, `1:30` as 90 and `off` as false.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualface_client.config.values import Origin, Problem

#: Far more than any configuration needs; keeps a wrong file, such as a video, from being read.
_BYTES_LIMIT = 1 << 20
#: The same for nodes, which aliases can multiply endlessly.
_NODES_LIMIT = 20_000
_NULL = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Node:
    """One node.

    Attributes:
        origin: Its file and line.
        value: A text, a list of nodes, a mapping from key to node, or None for an empty value.
    """

    origin: Origin
    value: str | list[Node] | dict[str, Node] | None

    @property
    def what(self) -> str:
        """What kind of node it is, for messages."""
        if isinstance(self.value, dict):
            return "a section"
        if isinstance(self.value, list):
            return "a list"
        return "nothing" if self.value is None else "a single value"


class TreeError(Exception):
    """The file is not YAML, or cannot be a configuration.

    Attributes:
        problem: Where and why.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read_tree(path: Path, layer: str) -> tuple[Node, list[Problem]]:
    """Reads a file.

    Args:
        path: The file.
        layer: For the origins.

    Returns:
        The root, an empty mapping for an empty file, and what is wrong below it.

    Raises:
        TreeError: It cannot be read or is not YAML.
    """
    import yaml

    text = _text_of(path, layer)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise TreeError(_syntax_problem(path, layer, error)) from error
    except RecursionError as error:
        text = "nested too deeply; expected sections with settings below"
        raise TreeError(Problem(Origin(layer, str(path), 1), text)) from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        raise TreeError(
            Problem(Origin(layer, str(path), line), f"not YAML: {_one_line(error)}; remove it")
        ) from error
    if root is None:
        return Node(Origin(layer, str(path)), {}), []
    reader = _Reader(layer, path)
    return reader.node(root), reader.problems


class _Reader:
    def __init__(self, layer: str, path: Path) -> None:
        self._layer = layer
        self._path = path
        self._open: list[int] = []
        self._seen = 0
        self.problems: list[Problem] = []

    def node(self, node: Any, origin: Origin | None = None) -> Node:
        origin = origin or Origin(self._layer, str(self._path), node.start_mark.line + 1)
        self._seen += 1
        if self._seen > _NODES_LIMIT:
            text = f"more than {_NODES_LIMIT} values; is it a configuration?"
            raise TreeError(Problem(origin, text))
        if id(node) in self._open:
            return self._refused(origin, "an alias inside its own anchor; write the values out")
        self._open.append(id(node))
        try:
            return self._by_sort(node, origin)
        finally:
            self._open.pop()

    def _by_sort(self, node: Any, origin: Origin) -> Node:
        if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
            return self._refused(origin, f"tag {node.tag}; write a plain value")
        if node.id == "mapping":
            return Node(origin, self._mapping(node))
        if node.id == "sequence":
            return Node(origin, [self.node(item) for item in node.value])
        empty = node.style is None and node.value in _NULL
        return Node(origin, None if empty else str(node.value))

    def _mapping(self, node: Any) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key_node, value_node in node.value:
            origin = Origin(self._layer, str(self._path), key_node.start_mark.line + 1)
            if key_node.id != "scalar":
                self._refused(origin, "a key that is not a word; write `key: value`")
            elif key_node.value == "<<":
                self._refused(origin, "<<: merged sections are not supported; write the values out")
            elif key_node.value in found:
                first = found[key_node.value].origin.line
                self._refused(
                    origin, f"{key_node.value}: given twice, first in line {first}; keep one"
                )
            else:
                found[key_node.value] = self.node(value_node, origin)
        return found

    def _refused(self, origin: Origin, text: str) -> Node:
        self.problems.append(Problem(origin, text))
        return Node(origin, None)


def _text_of(path: Path, layer: str) -> str:
    origin = Origin(layer, str(path))
    try:
        with path.open("rb") as file:
            raw = file.read(_BYTES_LIMIT + 1)
    except OSError as error:
        raise TreeError(
            Problem(origin, f"cannot be read: {error.strerror}; check path and permissions")
        ) from error
    if len(raw) > _BYTES_LIMIT:
        raise TreeError(Problem(origin, "larger than 1 MiB; is it a configuration?"))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TreeError(
            Problem(
                Origin(layer, str(path), line),
                f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8",
            )
        ) from error


def _syntax_problem(path: Path, layer: str, error: Any) -> Problem:
    mark = error.problem_mark or error.context_mark
    problem, context = error.problem or "", error.context or ""
    text = f"not YAML: {problem or context}"
    if "'\\t'" in problem:
        text += "; indent with spaces, not tabs"
    elif "single document" in context:
        text = "not one YAML document: a second one begins here; remove the line `---`"
    elif problem and context:
        began = error.context_mark.line + 1 if error.context_mark else mark.line + 1
        text += f", {context} in line {began}; close quotes and brackets, align the indents"
    else:
        text += "; write `key: value`, and quote a value that has `: ` or `#` in it"
    return Problem(Origin(layer, str(path), mark.line + 1), text)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
