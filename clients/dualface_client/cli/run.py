"""`dualface-client run`: videos in, two-tile videos out. Here its options, in `execute` the run."""

from __future__ import annotations

from pathlib import Path

import click

from dualface_client.cli.options import FILE_TO_WRITE, refuse_beside
from dualface_client.cli.pin_option import pin_option
from dualface_client.cli.setting_options import (
    config_options,
    parameter_of,
    read_settings,
    setting_options,
)
from dualface_client.config.stack import Effective

_EPILOG = """
\b
Examples:
  dualface-client run talk.mp4 -o talk_tiles.mp4
  dualface-client run recordings/ -o out/ --summary out/summary.json
  dualface-client run 'day?/*.mkv' -o out/ --streams 2 --overwrite
  dualface-client run talk.mp4 -o tiles.mp4 --tracks tracks.txt --quiet
  dualface-client run talk.mp4 -o tiles.mp4 --pin left=ann.jpg
  dualface-client run talk.mp4 -o tiles.mp4 --debug-overlay seen.mp4
  dualface-client run talk.mp4 -o tiles.mp4 --server 127.0.0.1:8001
  dualface-client run rtsp://camera/door -o recordings/ --input-credentials login.txt
  dualface-client run --streams-file configs/streams.example.yaml
  dualface-client run night/ -o out/ --workers 2 --state out/state.json --resume
  dualface-client run day/ -o out/ --report report.html --health-port 8080 --log-format json
  dualface-client run day/ -o out/ --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT --resume
  dualface-client run /mnt/day/ -o s3://tiles/day/ --cluster auto --resume
"""
#: Settings of the embedded server, which have no effect on another one.
_EMBEDDED = (
    "server.detector_onnx",
    "server.reid_onnx",
    "server.model_threads",
    "server.detector_instances",
    "server.cuda_pool_mib",
)


@click.command(epilog=_EPILOG)
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    multiple=True,
    help="File (for one video) or directory; required unless --encoder none. For live streams also "
    "a playlist .m3u8 or an address to send to, and given several times for several outputs.",
)
@click.option(
    "--streams-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="YAML with several streams, each with its own settings; instead of INPUT and -o.",
)
@config_options
@setting_options()
@pin_option
@click.option(
    "--tracks",
    type=click.Path(path_type=Path),
    help="Tracks as MOTChallenge text: a file for one video, a directory for several (made if "
    "missing).",
)
@click.option(
    "--debug-overlay",
    type=click.Path(path_type=Path),
    help="Copy of the source with boxes, people, risk and the tiles' crops drawn on it: a file "
    "for one video, a directory for several (made if missing).",
)
@click.option("--summary", type=FILE_TO_WRITE, help="Write a JSON summary.")
@click.option("--quiet", is_flag=True, help="Print only errors.")
@click.option("-v", "--verbose", is_flag=True, help="Print figures of the tracking too.")
@click.option(
    "--resume",
    is_flag=True,
    help="Skip videos whose outputs exist and are verified; see --state.",
)
@click.option(
    "--state",
    type=FILE_TO_WRITE,
    help="JSON with the run's state, replaced atomically every second.",
)
@click.option("--report", type=FILE_TO_WRITE, help="Self-contained HTML page about the run.")
@click.option(
    "--shard",
    metavar="I/N",
    help="Process only the I-th of N shares of the inputs, counted from 1: each of N hosts gets "
    "the same command with another I. Names of --state, --summary and --report get I-of-N.",
)
@click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Have the nodes of a Ray cluster process the videos: `auto` for the one that this machine "
    "belongs to, HOST:PORT or ray://HOST:PORT. --streams and --workers are each node's.",
)
@click.pass_context
def run(  # noqa: PLR0913, PLR0917 - one parameter for each option, by name
    context: click.Context,
    inputs: tuple[str, ...],
    output: tuple[str, ...],
    streams_file: Path | None,
    config_path: Path | None,
    config_fallback: bool,
    tracks: Path | None,
    debug_overlay: Path | None,
    summary: Path | None,
    quiet: bool,
    verbose: bool,
    given: dict[str, str],
    resume: bool,
    state: Path | None,
    report: Path | None,
    shard: str | None,
    cluster: str | None,
) -> int:
    """Turn each INPUT into a video with its two people side by side.

    INPUT is a video, a directory of videos, a glob pattern or the address of a live stream
    (docs/live.md). The output keeps the source's frame rate, time stamps and sound. If a video
    fails, the reason is printed and the others go on.

    Settings also come from YAML files and variables: see `dualface-client config show` and
    docs/configuration.md.

    Exit codes: 0 every video is done, 1 one failed or is incomplete (the others are done), 2 the
    command or the machine's set-up is wrong and nothing was started, 3 the inference server failed,
    129 ended by a closed terminal, 130 by Ctrl-C, 143 by SIGTERM.
    """
    found = read_settings(config_path, given, fallback=config_fallback)
    if cluster is not None:
        refuse_beside(context, "--cluster", *map(parameter_of, ("server.address", "run.gpus")))
    _check_together(context, found, inputs, output, streams_file)
    from dualface_client.batch.run import RunRequest
    from dualface_client.batch.shards import Shard
    from dualface_client.cli.execute import execute
    from dualface_client.cli.unattended import Telling
    from dualface_client.config.streams_file import read_streams
    from dualface_client.stream.session import settle_interpreter

    program = found.program()
    record = program.record
    request = RunRequest(
        inputs,
        output[0] if output else None,
        program,
        tuple(read_streams(streams_file, found.values)) if streams_file else (),
        tracks,
        debug_overlay,
        resume,
        further_outputs=output[1:],
        shard=Shard.read(shard) if shard is not None else None,
    )
    telling = Telling(
        summary,
        report,
        state,
        quiet,
        verbose,
        record.log_format,
        record.health_port,
        record.health_host,
    )
    settle_interpreter()
    return execute(request, telling, cluster)


def _check_together(
    context: click.Context,
    found: Effective,
    inputs: tuple[str, ...],
    output: tuple[str, ...],
    streams_file: Path | None,
) -> None:
    """Refuses options that have no effect beside others, and a request without videos.

    Raises:
        click.UsageError: The options contradict each other.
    """
    if found["server.address"] is not None:
        refuse_beside(context, "--server", *map(parameter_of, _EMBEDDED))
    if streams_file is not None:
        refuse_beside(context, "--streams-file", "output", "inputs")
        return
    if not inputs:
        raise click.UsageError("Missing argument 'INPUT...' (or --streams-file FILE).")
    if found["output.encoder"] == "none":
        unused = ("output.preset", "output.crf")
        refuse_beside(context, "--encoder none", "output", *map(parameter_of, unused))
    elif not output:
        raise click.UsageError("Missing option '-o' / '--output' (or use --encoder none).")
