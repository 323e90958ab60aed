"""The benchmark of scene cuts: its labels, and how announcements are counted."""

from __future__ import annotations

import pytest

from benchmarks.cuts import LABELS, Labels, Tally, read_labels


def test_the_labels_are_cuts_within_their_clips() -> None:
    known = read_labels(LABELS.read_text())
    assert sum(len(labels.cuts) for labels in known.values()) >= 60
    for name, labels in known.items():
        assert list(labels.cuts) == sorted(set(labels.cuts)), name
        assert all(0 < frame < labels.frames for frame in labels.cuts + labels.ignored), name


def test_a_clip_has_cuts_and_frames_that_do_not_count() -> None:
    known = read_labels("# comment\na.mp4 90:\n  -2 30 # first\n  60\nb.mp4 10:\n")
    assert known == {"a.mp4": Labels(90, (30, 60), (2,)), "b.mp4": Labels(10, ())}
    assert known["a.mp4"].shots == [(0, 2), (2, 30), (30, 60), (60, 90)]


def test_frames_of_no_clip_are_refused() -> None:
    with pytest.raises(ValueError, match="expected NAME FRAMES"):
        read_labels("30 60\n")


def test_announcements_are_counted_once() -> None:
    tally = Tally()
    tally.add("a", [3, 29, 31, 45, 61], Labels(90, (30, 60, 80), (2,)))
    assert (tally.cuts, tally.found, tally.false) == (3, 2, 2)
    assert tally.places == ["a:80 missed", "a:31 false", "a:45 false"]
