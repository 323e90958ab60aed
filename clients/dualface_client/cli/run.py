"""`dualface-client run`: videos in, two-tile videos out. Here its options, in `execute` the run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from dualface_client.cli.options import (
    FILE_TO_WRITE,
    embedded_server_options,
    parse_size,
    refuse_beside,
    server_option,
)
from dualface_client.cli.unattended_options import Unattended, unattended_options
from dualface_client.settings.run import DetectionSettings, OutputSettings, RunSettings
from dualface_client.settings.table import X264_PRESETS

_EPILOG = """
\b
Examples:
  dualface-client run talk.mp4 -o talk_tiles.mp4
  dualface-client run recordings/ -o out/ --summary out/summary.json
  dualface-client run 'day?/*.mkv' -o out/ --streams 2 --overwrite
  dualface-client run talk.mp4 -o tiles.mp4 --tracks tracks.txt --quiet
  dualface-client run talk.mp4 -o tiles.mp4 --server 127.0.0.1:8001
  dualface-client run night/ -o out/ --workers 2 --state out/state.json --resume
  dualface-client run day/ -o out/ --report report.html --health-port 8080 --log-format json
"""


@click.command(epilog=_EPILOG)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="File (for one video) or directory; required unless --encoder none.",
)
@server_option("A running Triton's gRPC address; else an embedded one is started.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where pixels live; 'auto' is cuda where that works.",
)
@embedded_server_options
@click.option(
    "--streams",
    type=click.IntRange(min=1),
    help="Videos processed at a time [default: one per 4 cores].",
)
@click.option(
    "--size",
    default="1920x1080",
    show_default=True,
    callback=parse_size,
    metavar="WxH",
    help="Output size; each tile has half the width.",
)
@click.option(
    "--encoder",
    type=click.Choice(["auto", "nvenc", "x264", "none"]),
    default="auto",
    show_default=True,
    help="'auto' is NVENC where the device is cuda and has it, else x264; 'none' writes no video.",
)
@click.option(
    "--preset",
    type=click.Choice(X264_PRESETS),
    metavar="NAME",
    default=OutputSettings().preset,
    show_default=True,
    help=f"x264 preset, {X264_PRESETS[0]} to {X264_PRESETS[-1]}.",
)
@click.option(
    "--crf",
    type=click.IntRange(1, 51),
    default=OutputSettings().crf,
    show_default=True,
    help="x264 quality, lower is better.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
@click.option(
    "--in-flight",
    type=click.IntRange(1, 64),
    default=DetectionSettings().requests_in_flight,
    show_default=True,
    help="Detection requests of one video under way at a time.",
)
@click.option(
    "--tracks",
    type=click.Path(path_type=Path),
    help="MOTChallenge text: a file for one video, a directory for several.",
)
@click.option("--summary", type=FILE_TO_WRITE, help="JSON summary.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@unattended_options
@click.pass_context
def run(  # noqa: PLR0913, PLR0917 - one parameter for each option, by name
    context: click.Context,
    inputs: tuple[str, ...],
    output: str | None,
    server: str | None,
    device: str,
    detector_onnx: Path | None,
    reid_onnx: Path | None,
    model_threads: int,
    streams: int | None,
    size: tuple[int, int],
    encoder: str,
    preset: str,
    crf: int,
    overwrite: bool,
    in_flight: int,
    tracks: Path | None,
    summary: Path | None,
    quiet: bool,
    unattended: Unattended,
) -> int:
    """Turn each INPUT into a video with its two people side by side.

    INPUT is a video, a directory of videos or a glob pattern. Frame rate, time stamps and sound are
    the source's. A stream that fails says why; the others go on.

    Exit codes: 0 every video is done, 1 one failed (the others are done), 2 the command or the
    machine's set-up is wrong and nothing was started, 3 the inference server failed, 130 ended by
    Ctrl-C, 143 by SIGTERM.
    """
    if server is not None:
        refuse_beside(context, "--server", "detector_onnx", "reid_onnx", "model_threads")
    if encoder == "none":
        refuse_beside(context, "--encoder none", "output", "preset", "crf")
    elif output is None:
        raise click.UsageError("Missing option '-o' / '--output' (or use --encoder none).")
    from dualface_client.cli.execute import RunRequest, ServerChoice, execute

    settings = RunSettings(
        detection=replace(DetectionSettings(), requests_in_flight=in_flight),
        output=OutputSettings(size, encoder, preset, crf, overwrite),
    )
    request = RunRequest(
        inputs=inputs,
        output=output,
        choice=ServerChoice(server, detector_onnx, reid_onnx, model_threads, device),
        streams=streams or max(1, len(os.sched_getaffinity(0)) // 4),
        tracks=tracks,
        summary=summary,
        quiet=quiet,
        unattended=unattended,
    )
    return execute(request, settings)
