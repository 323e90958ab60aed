"""Where the embedded server's models find their packages."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

from dualface_client.triton.server_directory import package_dirs


def test_onnxruntime_comes_before_whatever_lies_beside_numpy() -> None:
    places = {"onnxruntime": Path("/gpu/onnxruntime"), "numpy": Path("/plain/numpy")}

    def find(name: str) -> ModuleSpec | None:
        return importlib.util.spec_from_file_location(name, places[name] / "__init__.py")

    assert package_dirs(find)[:2] == (Path("/gpu"), Path("/plain"))


def test_a_package_that_is_not_there_has_no_place() -> None:
    assert package_dirs(lambda name: None) == package_dirs(lambda name: ModuleSpec(name, None))
