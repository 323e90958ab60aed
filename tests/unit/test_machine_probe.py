"""The probe: rules on given machines, and the real look at this one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualface_client.cli.commands import cli
from dualface_client.config.layers import file_layer
from dualface_client.config.stack import problems_of
from dualface_client.config.table import settings_table
from dualface_client.errors import SinkError
from dualface_client.machine.probe import layer_text, machine_name, machine_of, write_layer
from dualface_client.machine.rules import ProbeFacts, derive
from dualface_client.machine.summary import summary_lines
from dualface_client.observe.gpus import GpuFacts
from dualface_client.observe.host import MachineFacts
from dualface_client.observe.usable_gpus import usable_gpus
from dualface_client.video.capabilities import DecoderFacts, VideoFacts, read_video

GIB = 1 << 30
NVDEC = VideoFacts("", 7, (DecoderFacts("H264", 8, 4096, 4096),), (), 0, "NVENC cannot be used: 2")
NVENC = replace(NVDEC, engines=2, encoders=("h264", "hevc"), encoder_engines=2, encoder_note="")


def gpu(name: str, gib: float, *, driver: str = "580.1", consumer: bool = False) -> GpuFacts:
    return GpuFacts(
        name,
        driver,
        int(gib * GIB),
        0,
        "8.9",
        mig_on=False,
        decoders=True,
        cuda="13.0",
        is_consumer=consumer,
        encoder_sessions=0,
    )


def facts(
    *gpus: GpuFacts,
    cores: int = 16,
    memory_gib: float = 64,
    video: VideoFacts = NVDEC,
    **others: object,
) -> ProbeFacts:
    machine = MachineFacts("Some CPU", cores, None, int(memory_gib * GIB))
    plain = ProbeFacts(
        machine,
        gpus,
        "" if gpus else "no driver",
        bool(gpus),
        video if gpus else VideoFacts(),
        "",
        None,
        8 * GIB,
        5e8,
        Path("/srv"),
    )
    return replace(plain, **others)  # type: ignore[arg-type] # fields by name


MACHINES = {
    "h200": facts(gpu("NVIDIA H200", 140)),
    "4090": facts(gpu("RTX 4090", 24, consumer=True), video=NVENC),
    "l4, 4 cores": facts(gpu("L4", 22.5), cores=4, video=NVENC),
    "3050": facts(gpu("RTX 3050", 8, consumer=True), video=NVENC),
    "1650": facts(gpu("GTX 1650", 4, consumer=True, driver="535.1"), video=NVENC),
    "gpu without packages": facts(gpu("L4", 22.5), cuda_problem="cupy not installed: pip ..."),
    "laptop": facts(cores=8, memory_gib=16),
    "two cores": facts(cores=2, memory_gib=4),
    "large, little memory": facts(cores=64, memory_gib=2),
}


def chosen(name: str) -> dict[str, str]:
    return {entry.key: entry.text for entry in derive(MACHINES[name])}


@pytest.mark.parametrize("name", MACHINES)
def test_the_layer_of_any_machine_is_right_and_gives_reasons(name: str, tmp_path: Path) -> None:
    path = tmp_path / "auto_detected.yaml"
    path.write_text(layer_text(MACHINES[name], "now"))
    assert problems_of(path) == []
    layer = file_layer(path, "auto_detected")
    table = settings_table()
    assert {k: table[k].kind.show(v.value) for k, v in layer.values.items()} == chosen(name)
    lines = path.read_text().splitlines()
    for given in layer.values.values():
        assert lines[given.origin.line - 2].strip().startswith("# ")
    assert machine_of(path) == machine_name(MACHINES[name])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("h200", ("cuda", "8", "2", "1", "auto", "x264")),
        ("4090", ("cuda", "8", "2", "1", "auto", "auto")),
        ("l4, 4 cores", ("cuda", "8", "2", "1", "auto", "auto")),
        ("3050", ("cuda", "4", "1", "1", "auto", "auto")),
        ("1650", ("cuda", "1", "1", "1", "8", "auto")),
        ("gpu without packages", ("cpu", "4", "1", "1", "1", "x264")),
        ("laptop", ("cpu", "2", "1", "1", "1", "x264")),
        ("two cores", ("cpu", "1", "1", "1", "1", "x264")),
        ("large, little memory", ("cpu", "2", "1", "1", "1", "x264")),
    ],
)
def test_what_is_chosen(name: str, expected: tuple[str, ...]) -> None:
    keys = (
        "run.device",
        "run.streams",
        "run.workers",
        "server.detector_instances",
        "detection.frames_per_request",
        "output.encoder",
    )
    assert tuple(chosen(name)[key] for key in keys) == expected


def test_encoder_sessions_follow_brand_driver_and_what_is_open() -> None:
    assert chosen("4090")["limits.nvenc_sessions"] == "8"
    assert chosen("1650")["limits.nvenc_sessions"] == "5"
    assert chosen("l4, 4 cores")["limits.nvenc_sessions"] == "unknown"
    assert chosen("h200")["limits.nvenc_sessions"] == "0"
    assert "limits.nvenc_sessions" not in chosen("laptop")
    busy = replace(gpu("RTX", 24, consumer=True), encoder_sessions=3)
    entries = {entry.key: entry for entry in derive(facts(busy, video=NVENC))}
    assert entries["limits.nvenc_sessions"].text == "5"
    assert "3 in use" in entries["limits.nvenc_sessions"].reason


def test_a_single_stream_gets_more_requests_in_flight() -> None:
    assert chosen("1650")["detection.requests_in_flight"] == "4"
    assert chosen("3050")["detection.requests_in_flight"] == "auto"
    assert chosen("h200")["detection.requests_in_flight"] == "auto"


def test_gpus_that_cannot_be_looked_at_are_left_to_the_run() -> None:
    unseen = facts(gpu_nodes=True, gpu_note="nvidia-ml-py is not installed")
    entry = derive(unseen)[0]
    assert (entry.key, entry.text) == ("run.device", "auto")
    assert "nvidia-ml-py" in entry.reason


def test_a_containers_quota_counts() -> None:
    machine = MachineFacts("CPU", 64, 4.0, 64 * GIB)
    entries = {entry.key: entry.text for entry in derive(replace(facts(), machine=machine))}
    assert entries["run.streams"] == "1"


def test_what_was_found_is_said() -> None:
    text = "\n".join(summary_lines(MACHINES["h200"]))
    for part in (
        "NVIDIA H200",
        "capability 8.9",
        "143360 MiB",
        "driver 580.1",
        "CUDA 13.0",
        "MIG off",
        "7 engines",
        "H264 8 bit up to 4096x4096",
        "NVENC cannot",
        "500 MB/s",
        "MPS: not running",
    ):
        assert part in text
    assert "GPU: none (no driver)" in "\n".join(summary_lines(MACHINES["laptop"]))


def test_the_video_library_degrades_to_a_line() -> None:
    video = read_video()
    assert bool(video.decoders) != bool(video.note)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["probe", *arguments], standalone_mode=False)
    assert done.exception is None, done.exception
    return done.stdout


def test_probing_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "new" / "auto_detected.yaml"
    text = run("--output", str(path), "--disk", str(tmp_path))
    assert re.search(r"disk: \S+ takes \d+ MB/s", text)
    assert f"written: {path}" in text
    assert problems_of(path) == []
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    printed = run("--output", "-", "--no-disk")
    assert "MB/s" not in printed
    assert machine_of(path) in printed


def test_it_goes_where_the_layers_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "written: configs/auto_detected.yaml" in run("--no-disk")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match=r"--output .*file/x.yaml: cannot be written"):
        write_layer(tmp_path / "file" / "x.yaml", "")


def test_the_page_shows_what_a_machine_of_two_cores_gets(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "machine.md").read_text()
    (shown,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    path = tmp_path / "auto_detected.yaml"
    path.write_text(shown)
    assert problems_of(path) == []
    why = "nvidia-ml-py is not installed: pip install nvidia-ml-py"
    rendered = layer_text(facts(cores=2, memory_gib=23.5, gpu_note=why), "now")

    def settings_of(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith("#")]

    assert settings_of(shown) == settings_of(rendered)


def test_gpus_that_were_named_share_cores_and_multiply_streams() -> None:
    two = (gpu("H100", 80), gpu("H100", 20))
    chosen = tuple(usable_gpus([replace(each, uuid=f"GPU-{n}") for n, each in enumerate(two)]))
    found = {entry.key: entry.text for entry in derive(facts(*two, chosen=chosen))}
    assert found["run.gpus"] == "0,1"
    assert (found["run.streams"], found["run.workers"]) == ("16", "4")
    few = {entry.key: entry.text for entry in derive(facts(*two, cores=4, chosen=chosen))}
    assert (few["run.streams"], few["run.workers"]) == ("8", "2")  # two cores for each GPU
    assert "run.gpus" not in chosen_of(facts(*two))


def chosen_of(machine: ProbeFacts) -> dict[str, str]:
    return {entry.key: entry.text for entry in derive(machine)}


def test_gpus_that_are_not_there_are_not_planned_for() -> None:
    done = CliRunner().invoke(cli, ["probe", "--output", "-", "--no-disk", "--gpus", "77"])
    assert "--gpus 77: " in str(done.exception)
