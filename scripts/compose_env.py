"""Writes the `.env` that makes every plain `docker compose` line mean the same deployment.

    python scripts/compose_env.py --profile gpu [--with observability ...] [--project NAME]

Compose reads `.env` by itself: which services (COMPOSE_PROFILES), which files (COMPOSE_FILE), the
memory pools and all that configs/PROFILE.env sets. Variables of the environment that compose.yaml
knows take precedence and are kept in it too. With `--project` it is `.env.NAME`, for one of several
projects on a host: `docker compose --env-file .env.NAME ...`. `make up` runs this.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dualface_client.atomic_file import write_atomically
from scripts.pins import ROOT

#: What `--with` adds: a profile, a file, or both.
ADDITIONS: dict[str, tuple[str, str]] = {
    "observability": ("observability", ""),
    "live": ("live", "compose.live.yaml"),
    "tls": ("", "compose.tls.yaml"),
    "mps": ("mps", "compose.mps.yaml"),
}
#: Why an addition is not for the profile `cpu`. Its server would be left as it is, in silence, and
#: clients that are told otherwise could not reach it.
NOT_ON_CPU = {
    "tls": "the embedded server of PROFILE=cpu has no TLS",
    "mps": "nothing of PROFILE=cpu uses a GPU",
}
_VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+):-")


def known_variables(root: Path = ROOT) -> set[str]:
    """Variables that the compose files read."""
    return {
        name for path in root.glob("compose*.yaml") for name in _VARIABLE.findall(path.read_text())
    }


def settings(
    profile: str,
    additions: Sequence[str],
    project: str,
    environ: Mapping[str, str],
    root: Path = ROOT,
) -> dict[str, str]:
    """The variables of a deployment.

    Args:
        profile: `cpu` or `gpu`.
        additions: Keys of `ADDITIONS`.
        project: Name of the compose project, empty for the directory's.
        environ: Environment variables.
        root: Of the checkout.
    """
    profiles = [profile, *(ADDITIONS[name][0] for name in additions)]
    files = ["compose.yaml", *(ADDITIONS[name][1] for name in additions)]
    lines = (root / "configs" / f"{profile}.env").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    found = {
        "COMPOSE_PROFILES": ",".join(filter(None, profiles)),
        "COMPOSE_FILE": ":".join(filter(None, files)),
        **({"COMPOSE_PROJECT_NAME": project} if project else {}),
        **{name.strip(): value.strip() for name, _, value in pairs},
    }
    given = {name: environ[name] for name in sorted(known_variables(root)) if name in environ}
    return {**found, **given}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; writes the file and prints its path."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", choices=["cpu", "gpu"], required=True)
    parser.add_argument("--with", nargs="*", dest="additions", choices=ADDITIONS, default=[])
    parser.add_argument("--project", default="")
    options = parser.parse_args(argv)
    for name in options.additions:
        if options.profile == "cpu" and name in NOT_ON_CPU:
            parser.error(f"WITH={name}: {NOT_ON_CPU[name]}; leave it out, or use PROFILE=gpu")
    found = settings(options.profile, options.additions, options.project, os.environ)
    path = ROOT / (f".env.{options.project}" if options.project else ".env")
    head = f"# Written by `make up` from configs/{options.profile}.env; change that file.\n"
    text = head + "".join(f"{name}={value}\n" for name, value in found.items())
    write_atomically(path, text)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
