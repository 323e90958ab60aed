"""`import dualface_client` offers what `__all__` names, and costs nothing until it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dualface_client


def names_for_type_checkers() -> dict[str, str]:
    """Module by name, of what `__init__` imports where only a type checker looks."""
    tree = ast.parse(Path(dualface_client.__file__).read_text())
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {
        alias.name: node.module or ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_type_checkers_see_what_is_offered() -> None:
    assert sorted([*names_for_type_checkers(), "__version__"]) == dualface_client.__all__


@pytest.mark.parametrize(("name", "module"), sorted(names_for_type_checkers().items()))
def test_a_name_is_what_type_checkers_take_it_for(name: str, module: str) -> None:
    value = getattr(dualface_client, name)
    assert (value.__module__, value.__name__) == (module, name)


def test_other_names_are_no_attributes() -> None:
    with pytest.raises(AttributeError, match="'dualface_client' has no attribute 'proces'"):
        _ = dualface_client.proces  # type: ignore[attr-defined] # the mistake that is tested
    assert "process" in dir(dualface_client)


def test_a_submodule_is_imported_as_ever() -> None:
    from dualface_client import errors

    assert errors.UsageError is dualface_client.UsageError


def test_the_import_loads_nothing_else() -> None:
    script = "import sys; before = set(sys.modules); import dualface_client; " + (
        "print([name for name in set(sys.modules) - before if name.partition('.')[0] not in "
        "sys.stdlib_module_names])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "['dualface_client']\n"), done.stderr
