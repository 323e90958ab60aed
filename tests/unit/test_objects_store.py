from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("s3fs", reason="the extra `objects`, which `make check` installs")
pytest.importorskip("moto", reason="the extra `dev-cluster`, which `make check` installs")

from dualface_client.batch.inputs import jobs_of_inputs
from dualface_client.batch.object_jobs import check_object_outputs, skip_published
from dualface_client.errors import SinkError, SourceError, StoppedError, UsageError
from dualface_client.objects import store as objects
from dualface_client.objects.store import ObjectStore, StoredObject, difference, etag_of, open_store
from dualface_client.settings.stream import OutputSettings, StreamSettings
from dualface_client.stream.finished import take_published
from dualface_client.stream.job import new_statuses
from dualface_client.stream.staging import staged
from dualface_client.stream.stop import Stop
from tests.object_store import BUCKET, FakeS3, fake_s3, store_of

# The stores' libraries leave connections to be collected.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeS3]:
    with fake_s3(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture
def s3(server: FakeS3) -> FakeS3:
    server.clear()
    return server


@pytest.fixture
def store(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    return store_of(s3, monkeypatch)


def written(path: Path, size_bytes: int = 5000) -> Path:
    path.write_bytes(bytes(index % 251 for index in range(size_bytes)))
    return path


def large(path: Path) -> Path:
    """One that is sent in parts."""
    path.write_bytes(bytes(2 * objects.PART_BYTES + 1234))
    return path


def test_videos_of_a_place_and_of_a_pattern_are_found(
    s3: FakeS3, store: ObjectStore, tmp_path: Path
) -> None:
    for key in ("a/one.mp4", "a/two.mov", "a/notes.txt", "a/deep/x.mp4", "a/one_dualface.mp4"):
        s3.put(key, written(tmp_path / "file"))
    told: list[str] = []
    jobs = jobs_of_inputs([f"s3://{BUCKET}/a/"], f"s3://{BUCKET}/out", told.append)
    assert [(job.name, job.input_url, job.output_url) for job in jobs] == [
        ("one", f"s3://{BUCKET}/a/one.mp4", f"s3://{BUCKET}/out/one_dualface.mp4"),
        ("two", f"s3://{BUCKET}/a/two.mov", f"s3://{BUCKET}/out/two_dualface.mp4"),
    ]
    assert "1 outputs of earlier runs" in told[0]
    (job,) = jobs_of_inputs([f"s3://{BUCKET}/a/*/*.mp4"], f"s3://{BUCKET}/out/x.mkv")
    assert (job.name, job.output_url) == ("x", f"s3://{BUCKET}/out/x.mkv")
    (job,) = jobs_of_inputs([f"s3://{BUCKET}/a/notes.txt"], str(tmp_path / "o.mp4"))
    assert (job.problem, job.output) == ("", tmp_path / "o.mp4")
    (found,) = store.find(f"s3://{BUCKET}/a/one.mp4")
    assert found.etag == etag_of(tmp_path / "file")
    assert found.modified_unix_s > 1e9


def test_what_does_not_exist_fails_alone(s3: FakeS3, store: ObjectStore) -> None:
    del s3, store
    jobs = jobs_of_inputs([f"s3://{BUCKET}/no.mp4", "s3://nobody/", f"s3://{BUCKET}/empty/"], None)
    assert all("no such object or bucket" in job.problem for job in jobs)
    (job,) = jobs_of_inputs([f"s3://{BUCKET}/no.mp4"], "no.mp4")  # which is no file of this name
    assert "no such object" in job.problem


def test_one_object_cannot_hold_several_videos(
    s3: FakeS3, store: ObjectStore, tmp_path: Path
) -> None:
    for key in ("a/one.mp4", "a/two.mp4"):
        s3.put(key, written(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"is one object, but there are 2 videos"):
        jobs_of_inputs([f"s3://{BUCKET}/a/"], f"s3://{BUCKET}/out.mp4")
    with pytest.raises(UsageError, match="is an input"):
        jobs_of_inputs([f"s3://{BUCKET}/a/one.mp4"], f"s3://{BUCKET}/a/one.mp4")


def test_objects_keep_the_name_that_their_store_was_asked_by(
    s3: FakeS3, store: ObjectStore, tmp_path: Path
) -> None:
    place = f"s3a://{BUCKET}/a"  # a second name, as `az` is one of `abfs`
    for key in ("a/one.mp4", "a/out/one_dualface.mp4"):
        s3.put(key, written(tmp_path / "file"))
    (job,) = jobs_of_inputs([f"{place}/"], f"{place}/out/")
    assert job.input_url == f"{place}/one.mp4"
    with pytest.raises(UsageError, match=r"^s3a:.*one_dualface.mp4: exists"):
        check_object_outputs([job], StreamSettings(), existing_may_stay=False)
    with pytest.raises(UsageError, match="is an input"):
        jobs_of_inputs([f"{place}/"], f"{place}/one.mp4")


@pytest.mark.parametrize("fault", ["503", "cut", "lost", "slow"])
@pytest.mark.parametrize("make", [written, large])
def test_copies_are_whole_whatever_the_network_does(
    s3: FakeS3, store: ObjectStore, tmp_path: Path, fault: str, make: object
) -> None:
    path = make(tmp_path / "file.mp4")  # type: ignore[operator]  # a fixture of two functions
    s3.faults.due = {"PUT": [fault] * 2, "POST": [fault], "HEAD": [fault]}
    published = store.publish(path, f"s3://{BUCKET}/out/file.mp4", replace=False)
    assert (published.size_bytes, published.etag) == (path.stat().st_size, etag_of(path))
    s3.faults.due = {"GET": [fault] * 2, "HEAD": [fault]}
    store.fetch(published.url, tmp_path / "back.mp4")
    assert (tmp_path / "back.mp4").read_bytes() == path.read_bytes()
    assert len(s3.faults.happened) >= 4
    assert s3.uploads() == [] or fault in ("lost", "cut")  # so was the number of the upload


def test_a_store_that_stays_away_is_given_up_and_shows_nothing(
    s3: FakeS3, store: ObjectStore, tmp_path: Path
) -> None:
    path = large(tmp_path / "file.mp4")
    s3.faults.due = {"PUT": ["503"] * 500}
    with pytest.raises(SinkError, match=r"out/file.mp4: cannot be published, tried 6 times: "):
        store.publish(path, f"s3://{BUCKET}/out/file.mp4", replace=False)
    assert s3.keys() == []
    assert s3.uploads() == []
    s3.faults.due = {"GET": ["503"] * 500, "HEAD": ["503"] * 500}
    with pytest.raises(SourceError, match="cannot be fetched, tried 6 times"):
        store.fetch(f"s3://{BUCKET}/out/file.mp4", tmp_path / "back.mp4")


def test_an_object_that_exists_stays(s3: FakeS3, store: ObjectStore, tmp_path: Path) -> None:
    s3.put("out/file.mp4", written(tmp_path / "old", 10))
    new = written(tmp_path / "new", 20)
    with pytest.raises(SinkError, match="exists, or appeared meanwhile"):
        store.publish(new, f"s3://{BUCKET}/out/file.mp4", replace=False)
    assert s3.get("out/file.mp4") == (tmp_path / "old").read_bytes()
    store.publish(new, f"s3://{BUCKET}/out/file.mp4", replace=True)
    assert s3.get("out/file.mp4") == new.read_bytes()


@pytest.mark.parametrize("spoiled", [1, 100])
def test_an_object_with_other_content_does_not_stay(
    s3: FakeS3, store: ObjectStore, tmp_path: Path, spoiled: int
) -> None:
    del store  # it has set the variables
    path, other = written(tmp_path / "file", 20), written(tmp_path / "other", 20)
    other.write_bytes(b"x" * 20)
    sources = iter([other] * spoiled + [path])

    def opened(url: str) -> Any:
        found = open_store(url)
        put = found.put_file

        def put_file(local: str, inner: str, **options: Any) -> None:
            assert local == str(path)
            put(str(next(sources)), inner, **options)

        found.put_file = put_file
        return found

    publisher = ObjectStore(opened, pause_s=0.01)
    if spoiled == 1:
        publisher.publish(path, f"s3://{BUCKET}/out/file.mp4", replace=False)
        assert s3.get("out/file.mp4") == path.read_bytes()
    else:
        with pytest.raises(SinkError, match="tried 6 times: OSError: the store has other content"):
            publisher.publish(path, f"s3://{BUCKET}/out/file.mp4", replace=False)
        assert s3.keys("out/") == []


def test_addresses_of_two_accounts_are_of_two_stores() -> None:
    opened: list[str] = []

    class Empty:
        def _strip_protocol(self, url: str) -> str:
            return url

        def info(self, path: str) -> None:
            raise FileNotFoundError(path)

    def open_empty(url: str) -> Empty:
        opened.append(url)
        return Empty()

    store = ObjectStore(open_empty)
    urls = [f"abfs://talks@{account}.dfs.core.windows.net/x.mp4" for account in "ab"]
    assert [store.look_at(url) for url in (*urls, *urls)] == [None] * 4
    assert opened == urls


def test_a_stop_ends_a_copy(s3: FakeS3, store: ObjectStore, tmp_path: Path) -> None:
    del store  # it has set the variables
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        ObjectStore(stop=stop).publish(
            written(tmp_path / "x"), f"s3://{BUCKET}/x.mp4", replace=False
        )
    assert s3.keys() == []


def test_other_content_is_noticed_unless_the_store_encrypts(tmp_path: Path) -> None:
    path = written(tmp_path / "file")
    url, size = "s3://b/x", path.stat().st_size
    assert difference(path, StoredObject(url, size, etag_of(path))) == ""
    assert difference(path, StoredObject(url, size, "")) == ""
    assert difference(path, StoredObject(url, size, "0x8DC-not-an-md5")) == ""
    assert "has 4999 bytes" in difference(path, StoredObject(url, size - 1, etag_of(path)))
    assert "other content" in difference(path, StoredObject(url, size, "0" * 32))
    assert difference(path, StoredObject(url, size, "0" * 32), encrypts=lambda: True) == ""


def test_a_job_has_local_files_while_it_runs_and_leaves_none(
    s3: FakeS3, store: ObjectStore, tmp_path: Path
) -> None:
    s3.put("a/one.mp4", written(tmp_path / "file"))
    (job,) = jobs_of_inputs([f"s3://{BUCKET}/a/one.mp4"], f"s3://{BUCKET}/out/")
    with staged(job, Stop(), store, tmp_path) as local:
        assert local.job.input.read_bytes() == (tmp_path / "file").read_bytes()
        assert local.job.output is not None
        message = f"{local.job.input}: is no video; {local.job.output}: is not written"
        assert local.in_the_users_words(message) == (
            f"s3://{BUCKET}/a/one.mp4: is no video; "
            f"s3://{BUCKET}/out/one_dualface.mp4: is not written"
        )
        local.publish(replace=False)  # nothing was written: nothing is published
        assert s3.keys("out/") == []
        local.job.output.write_bytes(b"tiles")
        local.publish(replace=False)
    assert s3.get("out/one_dualface.mp4") == b"tiles"
    assert list(tmp_path.glob("dualface-*")) == []


def test_a_published_output_is_not_made_again(
    s3: FakeS3, store: ObjectStore, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        s3.put(f"a/{name}.mp4", written(tmp_path / "file"))
    jobs = jobs_of_inputs([f"s3://{BUCKET}/a/"], f"s3://{BUCKET}/out/")
    assert check_object_outputs(jobs, StreamSettings(), existing_may_stay=False) == {}
    statuses = new_statuses(jobs)
    assert not take_published(jobs[0], statuses[0], store)
    s3.put("out/one_dualface.mp4", tmp_path / "file")
    with pytest.raises(UsageError, match=r"out/one_dualface.mp4: exists; --resume"):
        check_object_outputs(jobs, StreamSettings(), existing_may_stay=False)
    replacing = StreamSettings(output=OutputSettings(overwrite=True))
    found = check_object_outputs(jobs, replacing, existing_may_stay=False)
    entry = {
        **{"state": "done", "input": jobs[0].input_url, "output": jobs[0].output_url},
        **{"frames_out": 75, "frames_in": 75, "elapsed_s": 3.0, "decode_errors": 0},
    }
    skip_published(jobs, statuses, {"streams": [entry]}, found)
    first, second = (status.snapshot() for status in statuses)
    assert (first.state, first.resumed, first.frames_out, first.fps) == ("done", True, 75, 25.0)
    assert second.state == "waiting"
    assert take_published(jobs[0], new_statuses(jobs)[0], store)


def test_without_credentials_the_remedy_is_named(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(SourceError, match=r"a\.mp4: .*no credentials .*AWS_ACCESS_KEY_ID"):
        store.fetch(f"s3://{BUCKET}/a.mp4", tmp_path / "a.mp4")
