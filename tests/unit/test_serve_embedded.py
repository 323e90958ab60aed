"""The container's server: who may reach it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualface_client.errors import UsageError
from dualface_client.settings.paths import tritonserver_dir
from dualface_client.triton.server_files import find_server_files
from scripts.serve_embedded import command, read_key


@pytest.mark.parametrize(("text", "is_good"), [("k" * 16, True), ("short", False), ("a b" * 9, 0)])
def test_key_is_one_long_word(tmp_path: Path, text: str, is_good: bool) -> None:
    (tmp_path / "key").write_text(f"{text}\n")
    if is_good:
        assert read_key(tmp_path / "key") == text
    else:
        with pytest.raises(UsageError, match="16 or more letters"):
            read_key(tmp_path / "key")
    assert read_key(None) == ""


def test_key_restricts_both_protocols(tmp_path: Path) -> None:
    line = command(find_server_files(tritonserver_dir()), tmp_path, "k" * 16)
    rules = [part.split("=", 1)[1] for part in line if "restricted" in part]
    assert len(rules) == 2
    assert rules[0] == rules[1]
    assert rules[0].startswith("shared-memory,")
    assert rules[0].endswith(f":dualface-key={'k' * 16}")
