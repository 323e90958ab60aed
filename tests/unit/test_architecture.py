"""The floors of docs/architecture.md hold: no import runs upward, none runs in a circle."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "dualface_client"
ROOT = Path(__file__).parents[2] / "clients" / PACKAGE

#: What each room may use besides itself. `types` and `errors` are open to all but each other, and
#: so are the mechanisms: single modules that know nothing of video.
MECHANISMS = {"closing", "background", "backoff", "atomic_file", "extras", "histogram", "location"}
MECHANISMS |= {"request_headers", "fibers"}
BASE = {"types", "errors"} | MECHANISMS
#: The rooms a stream is made of; none of them knows another.
SIDE_BY_SIDE = {"video", "imaging", "tracking", "picture", "framing", "observe"}
STREAM = BASE | SIDE_BY_SIDE
STREAM |= {"cast", "decisions", "objects", "settings", "cuda", "memory", "triton", "models"}
ALLOWED: dict[str, set[str]] = {
    "types": set(),
    "errors": set(),
    "closing": set(),
    "background": {"closing"},
    "extras": {"errors"},
    "backoff": set(),
    "request_headers": set(),
    "fibers": set(),
    "histogram": set(),
    "location": set(),
    "atomic_file": set(),
    "settings": BASE,
    "config": BASE | {"settings"},
    "objects": BASE | {"settings"},
    "cuda": BASE,
    "memory": BASE | {"cuda"},
    "triton": BASE | {"memory", "settings"},
    "assets": BASE | {"settings", "triton"},
    "models": BASE | {"memory", "settings", "triton"},
    "video": BASE | {"settings", "cuda"},
    "imaging": BASE | {"settings", "cuda"},
    "tracking": BASE | {"settings"},
    "picture": BASE,
    "cast": BASE | {"settings", "tracking"},
    "framing": BASE | {"settings"},
    "observe": BASE | {"settings"},
    "decisions": BASE | {"settings", "tracking", "picture", "framing", "observe"},
    "stream": STREAM,
    "workers": STREAM | {"stream"},
    "batch": STREAM | {"config", "stream", "workers", "assets"},
    "machine": STREAM | {"config", "stream"},
    "daemon": STREAM | {"config", "stream", "workers", "batch"},
    "cluster": STREAM | {"stream", "workers", "batch"},
    "__main__": {"cli"},
    "cli": BASE
    | {"settings", "config", "memory", "triton", "observe", "cast", "stream", "batch", "machine"}
    | {"assets", "daemon", "cluster"},
}
#: Modules of one room that stand on each other, from its lowest to its highest.
MAX_FLOORS_IN_A_ROOM = 5
#: Heavy packages and the only rooms that import them at module level; `import dualface_client`
#: and its light rooms work with numpy and tritonclient alone.
HEAVY = {
    "av": {"video"},
    # tracking finds scene cuts with it, and stream sets its thread count
    "cv2": {"imaging", "picture", "stream", "tracking"},
    "cupy": set(),
    "PyNvVideoCodec": set(),
    "lap": {"tracking"},
    "greenlet": set(),
    "fsspec": set(),
    "ray": set(),
    "opentelemetry": set(),
    "msgspec": {"workers", "daemon", "decisions"},
    "prometheus_client": {"observe", "daemon"},
    "fastapi": {"daemon"},
    "starlette": {"daemon"},
    "pydantic": {"daemon"},
    "uvicorn": {"daemon"},
    "rich": {"observe", "cli"},
    "click": {"cli"},
    "jinja2": {"observe"},
    "onnxruntime": set(),
}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imported(tree: ast.AST, *, top_level_only: bool = False) -> Iterator[str]:
    nodes = tree.body if top_level_only and isinstance(tree, ast.Module) else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offences(path: Path, source: str) -> list[str]:
    room = room_of(path)
    found = []
    for name in imported(ast.parse(source)):
        parts = name.split(".")
        if parts[0] != PACKAGE or parts[1] in (room, "__version__"):
            continue
        if parts[1] not in ALLOWED[room]:
            found.append(f"{path.relative_to(ROOT)} imports {name}")
    return found


def test_no_import_runs_upward_or_sideways() -> None:
    assert [
        o
        for path in modules()
        if path != ROOT / "__init__.py"
        for o in offences(path, path.read_text())
    ] == []


def test_the_rule_sees_an_upward_import() -> None:
    source = "from dualface_client.stream.loop import StreamLoop"
    assert offences(ROOT / "models" / "x.py", source)
    assert offences(ROOT / "video" / "x.py", "import dualface_client.imaging.cpu")
    assert not offences(ROOT / "cli" / "x.py", source)


def test_floors_have_no_circle() -> None:
    """The table itself is a partial order: every room can be built after those it uses."""
    built: set[str] = set()
    waiting = dict(ALLOWED)
    while waiting:
        ready = {room for room, uses in waiting.items() if uses <= built}
        assert ready, f"circle among {sorted(waiting)}"
        built |= ready
        waiting = {room: uses for room, uses in waiting.items() if room not in ready}


def test_modules_have_no_circle() -> None:
    names = {module_name(path): path for path in modules()}
    uses = {
        name: {
            target
            for text in imported(ast.parse(path.read_text()), top_level_only=True)
            for target in (text, text.rpartition(".")[0])
            if target in names and target != name
        }
        for name, path in names.items()
    }
    built: set[str] = set()
    while len(built) < len(names):
        ready = {name for name in names if name not in built and uses[name] <= built}
        assert ready, f"circle among {sorted(set(names) - built)}"
        built |= ready


def floors_of(room: str) -> dict[str, int]:
    """How many modules of its room each module stands on, itself included."""
    paths = {module_name(path): path for path in modules() if room_of(path) == room}
    uses = {
        name: {
            target
            for text in imported(ast.parse(path.read_text()))
            for target in (text, text.rpartition(".")[0])
            if target in paths and target not in (name, f"{PACKAGE}.{room}")
        }
        for name, path in paths.items()
    }
    floors: dict[str, int] = {}

    def floor(name: str) -> int:
        if name not in floors:
            floors[name] = 1 + max(map(floor, uses[name]), default=0)
        return floors[name]

    for name in paths:
        floor(name)
    return floors


@pytest.mark.parametrize("room", sorted(set(ALLOWED) - BASE - {"__main__"}))
def test_a_room_is_not_deep(room: str) -> None:
    too_deep = {
        name: floor for name, floor in floors_of(room).items() if floor > MAX_FLOORS_IN_A_ROOM
    }
    assert too_deep == {}


def module_name(path: Path) -> str:
    parts = [PACKAGE, *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("package", sorted(HEAVY))
def test_heavy_packages_stay_in_their_room(package: str) -> None:
    for path in modules():
        top = {
            name.split(".")[0]
            for name in imported(ast.parse(path.read_text()), top_level_only=True)
        }
        if package in top:
            assert room_of(path) in HEAVY[package], path


def test_the_light_rooms_import_with_numpy_and_tritonclient_alone() -> None:
    """In a fresh interpreter that refuses every heavy package."""
    script = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {sorted(HEAVY)!r} + ["yaml", "psutil"]:
            raise ImportError("refused: " + name)
sys.meta_path.insert(0, Refuse())
import dualface_client
import dualface_client.types, dualface_client.errors, dualface_client.stream.seams
import dualface_client.memory.slots, dualface_client.memory.region, dualface_client.memory.names
import dualface_client.triton.description, dualface_client.triton.contract
import dualface_client.triton.client, dualface_client.triton.reaper
import dualface_client.models.faces
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def mutable_names(source: str) -> list[str]:
    """Names of lists, dicts and sets at module or class level, constants in capitals apart."""
    tree = ast.parse(source)
    bodies = [tree.body, *(n.body for n in ast.walk(tree) if isinstance(n, ast.ClassDef))]
    found = []
    for node in (node for body in bodies for node in body):
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        if not isinstance(node.value, ast.List | ast.Dict | ast.Set):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [ast.unparse(target) for target in targets]
        found += [name for name in names if not (name.isupper() or name == "__all__")]
    return found


def test_nothing_is_mutable_at_module_or_class_level() -> None:
    """Two streams share nothing but the server."""
    found = {path.name: mutable_names(path.read_text()) for path in modules()}
    assert {name: names for name, names in found.items() if names} == {}
    assert mutable_names("class A:\n    seen: list[int] = []\n    NAMES = {}") == ["seen"]


def page() -> str:
    return (ROOT.parents[1] / "docs" / "architecture.md").read_text()


def test_the_page_has_a_line_for_every_room() -> None:
    _, _, table = page().partition("| room | carries |")
    assert set(ALLOWED) - BASE - {"__main__"} == {
        room
        for line in table.partition("\n\n")[0].splitlines()[2:]
        for room in re.findall(r"`(\w+)`", line.split("|")[1])
    }


def test_the_page_names_every_mechanism() -> None:
    _, _, rest = page().partition("`types`, `errors` and ")
    sentence = "`types`, `errors`" + rest.partition("are single modules")[0]
    assert set(re.findall(r"`(\w+)`", sentence)) == BASE


def test_files_that_the_page_names_exist() -> None:
    """A path in the package or the repository, or a file's name in one of the rooms."""
    known = [f"/{path.relative_to(ROOT)}" for path in modules()]
    named = set(re.findall(r"`([\w/]+\.(?:py|cu))`", page()))
    missing = {
        name
        for name in named
        if not (ROOT.parents[1] / name).exists()
        and not (ROOT / "imaging" / name).exists()
        and not any(path.endswith(f"/{name}") for path in known)
    }
    assert len(named) > 30
    assert missing == set()
