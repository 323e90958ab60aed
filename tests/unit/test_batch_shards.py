"""Shares of the inputs: every video in exactly one, wherever and whenever they are listed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from dualface_client.batch.inputs import jobs_of_inputs
from dualface_client.batch.prepare import prepare_run
from dualface_client.batch.run import RunRequest
from dualface_client.batch.shards import Shard, read_states
from dualface_client.cli.unattended import Telling
from dualface_client.errors import UsageError
from dualface_client.observe.run_state import STATE_VERSION
from dualface_client.stream.job import Job


def names(inputs: list[str], shard: Shard) -> set[str]:
    return {job.input.name for job in jobs_of_inputs(inputs, None) if shard.holds(job)}


def recordings(folder: Path, count: int = 40) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"v{number}.mp4").touch()
    return folder


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_every_video_is_in_exactly_one_shard(tmp_path: Path, count: int) -> None:
    folder = recordings(tmp_path / "in")
    owners: Counter[str] = Counter()
    for index in range(1, count + 1):
        owners.update(names([str(folder)], Shard(index, count)))
    assert len(owners) == 40
    assert set(owners.values()) == {1}


def test_a_shard_is_the_same_wherever_the_directory_is_and_whatever_else_is_in_it(
    tmp_path: Path,
) -> None:
    here, there = recordings(tmp_path / "here"), recordings(tmp_path / "mnt/x", 60)
    for shard in (Shard(1, 3), Shard(2, 3), Shard(3, 3)):
        found = names([str(here)], shard)
        assert found
        assert found == names([f"{here}/"], shard) == names([f"{here}/*.mp4"], shard)
        first = {f"v{number}.mp4" for number in range(40)}
        assert found == names([str(there)], shard) & first


def test_recordings_of_one_name_in_many_directories_are_spread(tmp_path: Path) -> None:
    for day in range(40):
        recordings(tmp_path / f"day{day}", 1)
    for inputs in ([f"{tmp_path}/*/v0.mp4"], [f"{tmp_path}/day{n}/v0.mp4" for n in range(40)]):
        jobs = jobs_of_inputs(inputs, None)
        assert 10 < sum(Shard(1, 2).holds(job) for job in jobs) < 30


def test_shares_are_equal_on_average() -> None:
    jobs = [Job(f"v{n}", Path(), None, listed_as=f"day{n % 9}/v{n}.mp4") for n in range(8000)]
    sizes = [sum(Shard(index, 8).holds(job) for job in jobs) for index in range(1, 9)]
    assert sum(sizes) == 8000
    assert max(abs(size - 1000) for size in sizes) < 120  # four times a binomial's deviation


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0/4", r"counted from 1 to 4; with a scheduler that counts from 0"),
        ("5/4", r"expected I/N such as 2/8"),
        ("4", r"expected I/N"),
        ("1/0", r"expected I/N"),
        ("/", r"expected I/N"),
        ("-1/2", r"expected I/N"),
        ("1/200000", r"N at most 100000"),
    ],
)
def test_what_is_no_shard(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Shard.read(text)


def test_files_of_a_run_get_the_shard_into_their_names(tmp_path: Path) -> None:
    told = Telling(Path("s.json"), None, tmp_path / "a.b", False, False, "text", None, "::1")
    own = told.of_shard(Shard.read("2/8"))
    assert (own.summary, own.report) == (Path("s.2-of-8.json"), None)
    assert own.state == tmp_path / "a.2-of-8.b"
    assert told.of_shard(None) is told


def test_outputs_are_compared_over_all_shards_and_side_files_are_directories(
    tmp_path: Path,
) -> None:
    """Otherwise it would depend on the shard whether a run is possible."""
    one, two = recordings(tmp_path / "one", 1), recordings(tmp_path / "two", 1)
    inputs = (str(one), str(two))
    for shard in (Shard(1, 2), Shard(2, 2)):
        with pytest.raises(UsageError, match="would both be written"):
            prepare_run(RunRequest(inputs, str(tmp_path / "out"), shard=shard))
    folder, tracks = recordings(tmp_path / "in", 3), tmp_path / "tracks"
    for index in range(1, 4):
        request = RunRequest((str(folder),), None, tracks=tracks, shard=Shard(index, 3))
        run = prepare_run(request)
        assert run.notes == [f"shard {index}/3: {len(run.jobs)} of 3 videos"]
        assert tracks.is_dir()
    with pytest.raises(UsageError, match=r"t\.txt: there are 3 videos"):
        prepare_run(RunRequest((str(folder),), None, tracks=tmp_path / "t.txt", shard=Shard(1, 3)))


def write(path: Path, updated: float, **states: str) -> None:
    streams = [
        {"output": output, "state": state, "from": path.name} for output, state in states.items()
    ]
    state = {"state_version": STATE_VERSION, "updated_unix_s": updated, "streams": streams}
    path.write_text(json.dumps(state))


def test_records_of_all_shards_are_read_and_the_finished_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "st[1].json"
    assert read_states(path) == {}
    write(tmp_path / "st[1].2-of-2.json", 3.0, a="running", b="done", c="done")
    assert len(read_states(path)["streams"]) == 3
    write(path, 1.0, a="incomplete", b="done")
    write(tmp_path / "st[1].1-of-4.json", 2.0, a="done", d="failed", c="done")
    write(tmp_path / "st1.1-of-4.json", 9.0, d="done")  # another name's
    found = {entry["output"]: entry for entry in read_states(path)["streams"]}
    assert {name: (entry["state"], entry["from"]) for name, entry in found.items()} == {
        "a": ("done", "st[1].1-of-4.json"),
        "b": ("done", "st[1].2-of-2.json"),
        "c": ("done", "st[1].2-of-2.json"),
        "d": ("failed", "st[1].1-of-4.json"),
    }
    (tmp_path / "st[1].3-of-4.json").write_text("[]")
    with pytest.raises(UsageError, match="3-of-4"):
        read_states(path)
