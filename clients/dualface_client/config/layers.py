"""One layer from one source: a YAML file, the environment, the command line, a program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dualface_client.config.table import ENV_PREFIX, Setting, settings_table
from dualface_client.config.values import Given, Layer, Origin, Problem, quoted
from dualface_client.config.yaml_tree import Node, TreeError, read_tree
from dualface_client.settings.kinds import Color, Kind, Or, Size, Words, did_you_mean

#: Environment variables of the project that are not settings: places, secrets, the bundle's own.
OTHER_VARIABLES = frozenset(
    ENV_PREFIX + name
    for name in (
        *("CONFIG", "HOME", "KEY_FILE", "SERVER_KEY_FILE", "SERVER_CA_FILE", "CLIENT_CERT_FILE"),
        *("CLIENT_CERT_KEY_FILE", "VIDEOS", "GPU", "EXTRAS", "UID", "GID", "SHM_SIZE"),
        *("MODEL_THREADS", "TEST_DOCKER", "DEBUG_LEASES", "PORT", "STREAMS"),
    )
)

#: Likeness at which an unknown variable counts as a misspelt setting.
_MISSPELT = 0.8
_UNSET = "unset it, or correct it (docs/configuration.md lists all)"


def file_layer(path: Path, layer: str) -> Layer:
    """What a YAML file gives.

    Args:
        path: The file.
        layer: Its name in `LAYERS`.
    """
    try:
        root, problems = read_tree(path, layer)
    except TreeError as error:
        return Layer(layer, {}, (error.problem,))
    found = node_layer(root, settings_table())
    return Layer(layer, found.values, (*problems, *found.problems))


def node_layer(root: Node, table: Mapping[str, Setting]) -> Layer:
    """What a mapping of sections gives.

    Args:
        root: Keys may be nested (`output: {crf: 20}`) or dotted (`output.crf: 20`).
        table: The settings that may be given.
    """
    values: dict[str, Given] = {}
    problems: list[Problem] = []
    if not isinstance(root.value, dict):
        text = f"{root.what} at the top; expected sections such as `output:`"
        return Layer(root.origin.layer, {}, (Problem(root.origin, text),))
    for key, node in _leaves(root, "", table):
        found = _leaf(key, node, table)
        if isinstance(found, Problem):
            problems.append(found)
        elif key in values:
            line = values[key].origin.line
            first = f", first in line {line}" if line else ""
            text = f"{key}: given twice{first}; keep one"
            problems.append(Problem(node.origin, text))
        else:
            values[key] = found
    return Layer(root.origin.layer, values, tuple(problems))


def _leaves(node: Node, prefix: str, table: Mapping[str, Setting]) -> Iterable[tuple[str, Node]]:
    assert isinstance(node.value, dict)  # noqa: S101 - for the type checker
    for name, child in node.value.items():
        key = f"{prefix}{name}"
        if isinstance(child.value, dict) and _is_section(key, table):
            yield from _leaves(child, f"{key}.", table)
        elif child.value is not None or not _is_section(key, table):
            yield key, child


def _is_section(key: str, table: Mapping[str, Setting]) -> bool:
    return any(known.startswith(f"{key}.") for known in table)


def _leaf(key: str, node: Node, table: Mapping[str, Setting]) -> Given | Problem:
    setting = table.get(key)
    if setting is None:
        if _is_section(key, table):
            text = f"{key}: {node.what}: expected a section with its settings indented below it"
            return Problem(node.origin, text)
        return _unknown(key, node.origin, table)
    if node.value is None:
        text = f"{key}: has no value; expected {setting.kind.expected}; or remove the line"
        return Problem(node.origin, text)
    if not isinstance(node.value, str):
        text = f"{key}: {node.what}: expected {setting.kind.expected}"
        return Problem(node.origin, text)
    return read_value(setting, node.value, node.origin)


def _unknown(key: str, origin: Origin, table: Mapping[str, Setting]) -> Problem:
    """What may have been meant: the one setting with the same last word, else the nearest one."""
    last = key.rpartition(".")[2]
    same = [known for known in table if known.rpartition(".")[2] == last]
    parts = [known.split(".") for known in table]
    sections = {".".join(words[:count]) for words in parts for count in range(1, len(words))}
    near = f"; did you mean {same[0]}?" if len(same) == 1 else ""
    near = near or did_you_mean(key, [*table, *sorted(sections)])
    remedy = near or "; remove it (`dualface-client config show` lists all)"
    return Problem(origin, f"{key}: unknown setting{remedy}")


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """What environment variables give; empty ones count as unset.

    An unknown variable with our prefix is a problem only if it was probably meant as a setting,
    because other programs of the bundle have variables too.
    """
    by_name = {setting.env: setting for setting in settings_table().values()}
    values: dict[str, Given] = {}
    problems: list[Problem] = []
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX) or not environ[name] or name in OTHER_VARIABLES:
            continue
        origin = Origin("environment", name)
        if name not in by_name:
            near = did_you_mean(name, by_name, cutoff=_MISSPELT)
            if near or _in_section(name, by_name):
                problems.append(Problem(origin, f"unknown variable{near or ';'} {_UNSET}"))
            continue
        found = read_value(by_name[name], environ[name], origin)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            values[by_name[name].key] = found
    return Layer("environment", values, tuple(problems))


def _in_section(name: str, by_name: Mapping[str, Setting]) -> bool:
    sections = {setting.key.partition(".")[0] for setting in by_name.values()}
    return any(name.startswith(f"{ENV_PREFIX}{section.upper()}_") for section in sections)


def command_layer(given: Mapping[str, str]) -> Layer:
    """What command line options give.

    Args:
        given: Text by key.
    """
    values: dict[str, Given] = {}
    problems: list[Problem] = []
    table = settings_table()
    for key, text in given.items():
        found = read_value(table[key], text, Origin("command line", table[key].flag))
        if isinstance(found, Problem):
            problems.append(found)
        else:
            values[key] = found
    return Layer("command line", values, tuple(problems))


def program_layer(given: Mapping[str, object], place: str) -> Layer:
    """What a Python program gives.

    Args:
        given: Values by key, nested (`{"output": {"crf": 20}}`) or dotted (`{"output.crf": 20}`).
            Each may be of Python's own type or the text that a file would have.
        place: What the user looks for, such as `settings`.
    """
    table = settings_table()
    return node_layer(_program_node(given, "", Origin("program", place), table), table)


def _program_node(value: object, key: str, origin: Origin, table: Mapping[str, Setting]) -> Node:
    if isinstance(value, Mapping):
        prefix = f"{key}." if key else ""
        children = {
            str(name): _program_node(child, f"{prefix}{name}", origin, table)
            for name, child in value.items()
        }
        return Node(origin, children)
    kind = table[key].kind if key in table else None
    if value is None:
        return Node(origin, kind.word if isinstance(kind, Or) else None)
    if isinstance(value, bool):
        return Node(origin, str(value).lower())
    if isinstance(value, list | tuple):
        text = _text_of(value, kind.kind if isinstance(kind, Or) else kind)
        return Node(origin, text or [_program_node(item, "", origin, table) for item in value])
    return Node(origin, str(value))


def _text_of(parts: Sequence[object], kind: Kind | None) -> str:
    """How a file would write a value of several parts; nothing for a list."""
    if isinstance(kind, Size):
        return "x".join(map(str, parts))
    if isinstance(kind, Words):
        return ",".join(map(str, parts))
    if isinstance(kind, Color):
        return "".join(f"{part:02X}" if isinstance(part, int) else str(part) for part in parts)
    return ""


def read_value(setting: Setting, text: str, origin: Origin) -> Given | Problem:
    """Reads one value, or says what is wrong with it."""
    try:
        return Given(setting.kind.read(text.strip()), origin)
    except ValueError as error:
        return Problem(origin, f"{setting.key}: {quoted(text)}: {error}")
