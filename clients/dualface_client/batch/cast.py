"""Who a file is about, without processing it: `dualface-client cast`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from dualface_client.assets.installation import ShowDownload
from dualface_client.batch.prepare import settings_of
from dualface_client.batch.server import choice_of, server_for
from dualface_client.cast.people import CastPerson, Found
from dualface_client.errors import UsageError
from dualface_client.imaging.photo import write_portrait
from dualface_client.settings.program import ProgramSettings
from dualface_client.stream.device_choice import device_for, make_device
from dualface_client.stream.look import Look, seating
from dualface_client.stream.seams import Glimpses
from dualface_client.stream.session import open_models
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from dualface_client.triton.reaper import reap_shared_memory
from dualface_client.types import Side


@dataclass(frozen=True, slots=True)
class CastReport:
    """What a look through a file found.

    Attributes:
        found: The people.
        sides: Side of each seated person, by number.
        pictures: Picture of each person, by number; empty if none were asked for.
        notes: What the user should know.
    """

    found: Found
    sides: Mapping[int, Side]
    pictures: Mapping[int, Path]
    notes: tuple[str, ...]


def find_cast(
    video: Path,
    program: ProgramSettings,
    pictures: Path | None,
    stop: Stop,
    tell: Callable[[str], None],
    show: ShowDownload,
) -> CastReport:
    """Looks through a file as a run would, but without a limit of time.

    Args:
        video: The file.
        program: How a run would process it.
        pictures: Directory for a picture of each person, None for no pictures.
        stop: Asked from outside to end early.
        tell: Gets progress lines.
        show: Shows a download while it runs.

    Raises:
        UsageError: A picture exists, or a pinned photo is no use.
        SourceError: The file cannot be read.
        ServerError: The server cannot be reached or started, or is not the right one.
        StoppedError: `stop` was asked.
    """
    choice = choice_of(program.server, program.run.device)
    where = device_for(
        program.run.device, server_is_local=choice.is_local, embedded_server=choice.address is None
    )
    choice = replace(choice, device=where)
    _, settings = settings_of(program, where, 1)
    settings = replace(settings, cast=replace(settings.cast, run_share=1.0))
    device = make_device(where, settings)
    reap_shared_memory()
    with ExitStack() as stack:
        share = stack.enter_context(device.lend_stream())
        # Before a server is started for it.
        file = stack.enter_context(closing(share.open_glimpses(video, settings.input.video_track)))
        if choice.address is None:
            tell("starting the embedded Triton server ...")
        address, _ = stack.enter_context(server_for(choice, stop.event, None, tell, show))
        setup = WorkerSetup(address, where, settings, open_access=choice.address is None)
        models, _ = stack.enter_context(open_models(setup, device, stop))
        pins = models.photos.pins(
            settings.tracking, share.imaging, models.detector, models.embedder
        )
        look = Look(share.imaging, models.detector, models.embedder, settings, stop.event.is_set)
        found = look.through(file)
        seated = seating(found, settings.tracking, pins)
        return CastReport(
            found,
            seated.sides,
            _write_pictures(found, file, pictures, overwrite=settings.output.overwrite),
            (*file.info.notes, *seated.notes),
        )


def _write_pictures(
    found: Found, file: Glimpses, directory: Path | None, *, overwrite: bool
) -> dict[int, Path]:
    """One picture of each person, at the moment of the best face."""
    if directory is None:
        return {}
    paths = {p.number: directory / f"person-{p.number}.jpg" for p in found.people}
    for path in paths.values():
        if path.exists() and not overwrite:
            raise UsageError(f"{path}: exists; --overwrite replaces it")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--pictures {directory}: {error.strerror}") from error
    return {p.number: _write_picture(p, found, file, paths[p.number]) for p in found.people}


def _write_picture(person: CastPerson, found: Found, file: Glimpses, path: Path) -> Path:
    best = person.sightings[0]
    frame = file.at(found.seen.times_s[best.moment])
    if frame is not None:
        others = [
            each.box for each in found.seen.found if each.moment == best.moment and each is not best
        ]
        write_portrait(path, frame.image, best.box, [box for box in others if box != best.box])
    return path
