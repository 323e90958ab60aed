"""Files of streams; their mistakes are in test_settings_mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualface_client.config.stack import merged
from dualface_client.config.streams_file import is_streams_file, read_streams
from dualface_client.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "configs" / "streams.example.yaml"


def streams_file(path: Path, text: str) -> Path:
    file = path / "streams.yaml"
    file.write_text(text)
    return file


def test_the_example_is_right_and_ordered_by_priority() -> None:
    entries = read_streams(EXAMPLE, merged([]))
    assert [(entry.name, entry.priority) for entry in entries] == [
        ("interview", 10),
        ("podcast", 0),
        ("archive", 0),
    ]
    first, _, last = entries
    assert first.overrides["framing.face_share"].value == pytest.approx(0.4)
    assert str(first.overrides["output.crf"].origin) == f"{EXAMPLE}:10"
    assert last.overrides["output.size"].value == (1280, 720)
    assert last.output == Path("out/archive.mp4")


def test_higher_priorities_come_first_and_equal_ones_keep_their_order(tmp_path: Path) -> None:
    lines = [
        f"- {{name: s{i}, input: a, output: {i}.mp4, priority: {p}}}"
        for i, p in enumerate((1, 5, 1, 9, 5))
    ]
    entries = read_streams(streams_file(tmp_path, "streams:\n" + "\n".join(lines)), merged([]))
    assert [entry.name for entry in entries] == ["s3", "s1", "s4", "s0", "s2"]


def test_no_output_is_needed_where_nothing_is_written(tmp_path: Path) -> None:
    text = "streams:\n- {name: a, input: a.mp4, settings: {output.encoder: none}}\n"
    (entry,) = read_streams(streams_file(tmp_path, text), merged([]))
    assert entry.output is None


def test_a_wrong_file_is_refused_as_one_error(tmp_path: Path) -> None:
    file = streams_file(tmp_path, "streams:\n- {name: a}\n- {nmae: b}\n")
    with pytest.raises(ConfigError) as caught:
        read_streams(file, merged([]))
    assert str(caught.value).count(f"{file}:") == 6


def test_a_streams_file_is_told_from_settings(tmp_path: Path) -> None:
    assert is_streams_file(EXAMPLE)
    assert not is_streams_file(EXAMPLE.parent / "fallback.yaml")
    assert not is_streams_file(tmp_path / "none.yaml")
