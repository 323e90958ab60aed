"""What streams need of a GPU's memory before they run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dualface_client.batch.admission import needs_of
from dualface_client.settings.stream import InputSettings, StreamSettings
from dualface_client.stream.job import Job, new_statuses
from dualface_client.stream.load import load_of
from tests import media
from tests.media import Clip


@pytest.mark.parametrize("per_job", [False, True], ids=["of-the-run", "of-the-job"])
def test_the_track_that_is_asked_for_is_counted(tmp_path: Path, *, per_job: bool) -> None:
    small = media.make(tmp_path / "s.mp4", Clip(size_wh_px=(64, 48)))
    large = media.make(tmp_path / "l.mp4", Clip(size_wh_px=(640, 480)))
    job = Job("a", media.beside(tmp_path / "a.mkv", [small, large]), None)
    load = load_of(StreamSettings(), 40)
    needs = []
    for track in (1, 2):
        asked = StreamSettings(input=InputSettings(video_track=track))
        own, of_run = (asked, StreamSettings()) if per_job else (None, asked)
        jobs = [replace(job, settings=own)]
        ((_, terms),) = needs_of(jobs, new_statuses(jobs), load, of_run)
        needs.append(sum(terms.values()))
    assert needs[0] < needs[1]
