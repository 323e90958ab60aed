"""`dualface-client doctor`: why does it not run here?"""

from __future__ import annotations

import json
import signal
from dataclasses import asdict
from pathlib import Path

import click

from dualface_client.cli.options import server_option
from dualface_client.cli.setting_options import gpus_option

_EPILOG = """
\b
Examples:
  dualface-client doctor
  dualface-client doctor --server 127.0.0.1:8001
  dualface-client doctor --gpus all
  dualface-client doctor --json | jq '.[] | select(.state == "FAIL")'
"""


@click.command(epilog=_EPILOG)
@server_option("Check this Triton instead of the embedded one.")
@click.option(
    "--repository",
    type=click.Path(path_type=Path),
    help="Model repository whose engines are checked [default: ./model_repository].",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="Configuration to check, as in `run --config`.",
)
@gpus_option("Also check that a run could use these GPUs together.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of findings.")
def doctor(
    server: str | None,
    repository: Path | None,
    config_path: Path | None,
    gpus: tuple[str, ...] | None,
    as_json: bool,
) -> int:
    """Check what a run needs and say what to do.

    Packages, server, models, settings, shared memory, disks, limits, clock, ports, driver, GPUs,
    engines.

    Exit codes: 0 everything is there, 2 something is missing (FAIL; notes do not count).
    """
    from dualface_client.machine.doctor import FAIL, examine

    # From here on there is something to undo: a region on the server.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    findings = []
    for finding in examine(server, repository, config_path, gpus):
        findings.append(finding)
        if not as_json:
            click.echo(str(finding))
            if finding.remedy:
                click.echo(f"      -> {finding.remedy}")
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    return 2 if any(finding.state == FAIL for finding in findings) else 0
