"""Kinds of footage that people bring: cuts to one person, calls, bars, posters, shaking cameras.

A film is made of the scenes of `scenarios.py`, each in a panel of the picture and seen through a
lens. Like there, everything is a pure function of time, places are shares of the picture (or of the
panel), times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import pi, sin

from scripts.clips.scenarios import (
    AWAY,
    SCENARIOS,
    Extra,
    Motion,
    Pose,
    Scene,
    Stage,
    walk_past,
)

#: x, y, width and height, shares of the picture.
Place = tuple[float, float, float, float]
WHOLE: Place = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Lens:
    """Which part of a scene is seen; it stays inside the scene.

    Attributes:
        x: Centre.
        y: Centre.
        zoom: 1 shows all of the scene, 2 half of its width and height.
    """

    x: float = 0.5
    y: float = 0.5
    zoom: float = 1.0

    @property
    def window(self) -> Place:
        """The part that is seen, shares of the scene."""
        size = 1 / self.zoom
        low, high = size / 2, 1 - size / 2
        x, y = min(max(self.x, low), high), min(max(self.y, low), high)
        return x - size / 2, y - size / 2, size, size


@dataclass(frozen=True, slots=True)
class Panel:
    """A scene in a part of the picture."""

    scene: Scene
    place: Place = WHOLE
    lens: Lens = Lens()


@dataclass(frozen=True, slots=True)
class Shown:
    """One moment of a film.

    Attributes:
        panels: Later ones lie over earlier ones.
        shot: Counts scene cuts.
        slide: The rest of the picture is a slide with text instead of black.
    """

    panels: tuple[Panel, ...]
    shot: int = 0
    slide: bool = False

    @property
    def has_windows(self) -> bool:
        """Whether the panels are windows beside or over others, not one picture in bars."""
        return len(self.panels) > 1 or self.slide


FilmMotion = Callable[[float], Shown]


@dataclass(frozen=True, slots=True)
class Film:
    """A kind of footage.

    Attributes:
        build: Makes the film of a stage.
        size_wh: Picture size in pixels if nobody asks for another one.
        seconds: Length likewise.
        detail: Scenes are drawn at this multiple of their panel's size, for lenses that enlarge.
    """

    build: Callable[[Stage], FilmMotion]
    size_wh: tuple[int, int] = (640, 360)
    seconds: float = 4.0
    detail: float = 1.0


def of_scene(motion: Motion) -> FilmMotion:
    """A scenario as a film: one scene that fills the picture."""

    def at(t: float) -> Shown:
        scene = motion(t)
        return Shown((Panel(scene),), scene.shot)

    return at


#: Films leave room below the faces, as most footage does.
_DESK_EDGE = 0.74


def _shot(t: float, *starts: float) -> int:
    """How many of the shots after the first have begun."""
    return sum(t >= start for start in starts)


def _alone(pose: Pose, person: int, shot: int = 0) -> Scene:
    """One of the two, the other one away; `person` is 0 or 1."""
    poses = (pose, AWAY) if person == 0 else (AWAY, pose)
    return Scene(poses, shot, desk_edge=_DESK_EDGE)


def _both(stage: Stage, t: float, shot: int = 0, height: float = 0.3, apart: float = 0.46) -> Scene:
    """Both in their places, at a distance."""
    middle = (stage.left_x + stage.right_x) / 2
    left, right = Pose(middle - apart / 2, height), Pose(middle + apart / 2, height, depth=2)
    return replace(stage.scene(left, right, t, shot), desk_edge=_DESK_EDGE)


#: Where a single person sits, and how a close-up of that place is seen.
_SEAT_X = 0.5
_CLOSE = Lens(_SEAT_X, 0.42, 1.7)


def solo_two_solo(stage: Stage) -> FilmMotion:
    """One alone, then both, then the other alone; cuts between."""
    length = stage.duration_s

    def at(t: float) -> Shown:
        shot = _shot(t, 0.33 * length, 0.67 * length)
        if shot == 1:
            return Shown((Panel(_both(stage, t, shot)),), shot)
        person = stage.first if shot == 0 else 1 - stage.first
        return Shown((Panel(_alone(Pose(_SEAT_X), person, shot), lens=_CLOSE),), shot)

    return at


def single_cameras(stage: Stage) -> FilmMotion:
    """Cuts between two cameras with one person each; the two are never seen together."""

    def at(t: float) -> Shown:
        shot = int(4 * t / stage.duration_s)
        person = (stage.first + shot) % 2
        pose = Pose(0.42 if person == 0 else 0.58)
        lens = replace(_CLOSE, x=pose.x, zoom=1.5)
        return Shown((Panel(_alone(pose, person, shot=person), lens=lens),), shot)

    return at


def close_up_first(stage: Stage) -> FilmMotion:
    """A close-up of the one on the right opens, then both are seen."""
    length = stage.duration_s

    def at(t: float) -> Shown:
        shot = _shot(t, 0.4 * length)
        scene = _both(stage, t, shot)
        if shot:
            return Shown((Panel(scene),), shot)
        pose = replace(scene.poses[1 - stage.first], x=0.6)
        close = Lens(0.6, 0.42, 1.9)
        return Shown((Panel(_alone(pose, 1 - stage.first), lens=close),), shot)

    return at


def sofa_close(stage: Stage) -> FilmMotion:
    """They sit so close that there is less than a face's width between their faces."""
    return lambda t: Shown((Panel(_both(stage, t, apart=0.2)),))


def slide_and_thumbnails(stage: Stage) -> FilmMotion:
    """A call: a slide, and the two people in small windows above each other at its right."""
    places: tuple[Place, ...] = ((0.74, 0.06, 0.24, 0.24), (0.74, 0.34, 0.24, 0.24))

    def at(t: float) -> Shown:
        pair = (_alone(Pose(0.5, 0.36), p) for p in (stage.first, 1 - stage.first))
        panels = (Panel(scene, place) for scene, place in zip(pair, places, strict=True))
        return Shown(tuple(panels), slide=True)

    return at


def split_screen(stage: Stage) -> FilmMotion:
    """Two cameras side by side, each half a picture of its own."""

    def at(t: float) -> Shown:
        left = Panel(_alone(Pose(0.5), stage.first), (0, 0, 0.5, 1))
        return Shown((left, Panel(_alone(Pose(0.45, 0.24), 1 - stage.first), (0.5, 0, 0.5, 1))))

    return at


def picture_in_picture(stage: Stage) -> FilmMotion:
    """One fills the picture, the other is in a small window in its corner."""

    def at(t: float) -> Shown:
        large = Panel(_alone(Pose(0.4), stage.first))
        small = Panel(_alone(Pose(0.5, 0.36), 1 - stage.first), (0.71, 0.64, 0.26, 0.32))
        return Shown((large, small))

    return at


def news_split(stage: Stage) -> FilmMotion:
    """News: two people in windows of equal size, with graphics around and a broad line below."""
    places: tuple[Place, ...] = ((0.03, 0.08, 0.46, 0.62), (0.51, 0.08, 0.46, 0.62))

    def at(t: float) -> Shown:
        pair = (_alone(Pose(0.5, 0.32), p) for p in (stage.first, 1 - stage.first))
        panels = (Panel(scene, place) for scene, place in zip(pair, places, strict=True))
        return Shown(tuple(panels), slide=True)

    return at


def three_cameras(stage: Stage) -> FilmMotion:
    """A podcast: one camera sees both, two see one each; cuts every second or so."""
    order = (0, 1, 2, 0, 2, 1)

    def at(t: float) -> Shown:
        number = min(int(len(order) * t / stage.duration_s), len(order) - 1)
        camera = order[number]
        if camera == 0:
            return Shown((Panel(_both(stage, t, shot=0)),), number)
        person = (stage.first + camera - 1) % 2
        pose = Pose(0.44 if camera == 1 else 0.56)
        lens = replace(_CLOSE, x=pose.x, zoom=1.5)
        return Shown((Panel(_alone(pose, person, shot=camera), lens=lens),), number)

    return at


def portrait_call(stage: Stage) -> FilmMotion:
    """An upright call on a phone: one fills the picture, the other is in a window in its corner."""

    def at(t: float) -> Shown:
        large = Panel(_alone(Pose(0.46, 0.2), stage.first))
        small = Panel(_alone(Pose(0.5, 0.3), 1 - stage.first), (0.62, 0.05, 0.34, 0.26))
        return Shown((large, small))

    return at


def letterbox(stage: Stage) -> FilmMotion:
    """A wide film with black bars above and below."""
    return lambda t: Shown((Panel(_both(stage, t), (0, 0.13, 1, 0.74)),))


def pillarbox(stage: Stage) -> FilmMotion:
    """A 4:3 film with black bars at its sides."""
    return lambda t: Shown((Panel(_both(stage, t, height=0.26), (0.125, 0, 0.75, 1)),))


def portrait_stack(stage: Stage) -> FilmMotion:
    """An upright call: two windows above each other."""

    def at(t: float) -> Shown:
        upper = Panel(_alone(Pose(0.6), stage.first), (0, 0, 1, 0.5))
        return Shown((upper, Panel(_alone(Pose(0.4), 1 - stage.first), (0, 0.5, 1, 0.5))))

    return at


def small_source(stage: Stage) -> FilmMotion:
    """Both in a picture of 480x270."""
    return lambda t: Shown((Panel(_both(stage, t, height=0.26)),))


def poster(stage: Stage) -> FilmMotion:
    """Two small people under a poster whose face is larger than theirs."""
    extra = Extra("audrey.jpg", Pose(0.5, 0.26, depth=5), poster_y=0.24)
    return lambda t: Shown((Panel(replace(_both(stage, t, height=0.2), extras=(extra,))),))


def small_passer_by(stage: Stage) -> FilmMotion:
    """A third person walks past two small ones."""
    length = stage.duration_s

    def at(t: float) -> Shown:
        walk = walk_past(t, 0.2 * length, 0.8 * length)
        return Shown((Panel(replace(_both(stage, t, height=0.2), passer_by=walk)),))

    return at


#: Whole heads with some wall around, of the packaged photos.
_AUDIENCE = ("SeanConnery.jpg", "audrey.jpg", "bieber_small.jpg", "cage.jpg")


def audience(stage: Stage) -> FilmMotion:
    """Both, then a row of listeners, then both again."""
    length = stage.duration_s

    def row(t: float, shot: int) -> Scene:
        poses = (
            Pose(0.14 + 0.24 * n + 0.006 * sin(2 * t + 2 * n), 0.24, depth=n)
            for n in range(len(_AUDIENCE))
        )
        extras = (Extra(photo, pose) for photo, pose in zip(_AUDIENCE, poses, strict=True))
        return Scene((AWAY, AWAY), shot, extras=tuple(extras), desk_edge=_DESK_EDGE)

    def at(t: float) -> Shown:
        shot = _shot(t, 0.4 * length, 0.7 * length)
        scene = row(t, shot) if shot == 1 else _both(stage, t, shot=0)
        return Shown((Panel(scene),), shot)

    return at


def handheld(stage: Stage) -> FilmMotion:
    """A shaking camera: several pixels from frame to frame, in no rhythm."""

    def at(t: float) -> Shown:
        x = 0.004 * (sin(2 * pi * 4.7 * t) + sin(2 * pi * 2.9 * t + 1))
        y = 0.005 * (sin(2 * pi * 5.3 * t + 2) + sin(2 * pi * 3.1 * t))
        return Shown((Panel(_both(stage, t), lens=Lens(0.5 + x, 0.5 + y, 1.15)),))

    return at


def zoom_and_pan(stage: Stage) -> FilmMotion:
    """The camera moves in on both, pans a little and moves out again."""
    length = stage.duration_s

    def at(t: float) -> Shown:
        share = 0.5 - 0.5 * sin(pi / 2 + 2 * pi * t / length)
        lens = Lens(0.5 + 0.05 * sin(2 * pi * t / length), 0.5, 1 + 0.35 * share)
        return Shown((Panel(_both(stage, t, apart=0.36), lens=lens),))

    return at


def pan_to_the_other(stage: Stage) -> FilmMotion:
    """The camera is close on one of the two and pans to have both: the other comes in by halves."""
    length = stage.duration_s

    def at(t: float) -> Shown:
        share = min(1.0, t / (0.3 * length))
        lens = Lens(0.3 + 0.2 * share, 0.5, 1.7 - 0.5 * share)
        return Shown((Panel(_both(stage, t, apart=0.36), lens=lens),))

    return at


def unclear_alone(stage: Stage) -> FilmMotion:
    """Both; after a cut the one on the left alone, dark and turned away: no one to embed."""
    length = stage.duration_s

    def at(t: float) -> Shown:
        shot = _shot(t, 0.5 * length)
        if shot == 0:
            return Shown((Panel(_both(stage, t)),))
        dark = Pose(0.62, 0.2, light=0.3, turn=0.7)
        return Shown((Panel(_alone(dark, stage.first, shot)),), shot)

    return at


#: Every film by its name on the command line.
FILMS: dict[str, Film] = {
    film.build.__name__: film
    for film in (
        Film(solo_two_solo, detail=2),
        Film(single_cameras, detail=2),
        Film(close_up_first, detail=2),
        Film(sofa_close),
        Film(slide_and_thumbnails, (1000, 562)),
        Film(split_screen),
        Film(picture_in_picture, (800, 450)),
        Film(news_split, (1000, 562)),
        Film(three_cameras, seconds=6.0, detail=2),
        Film(portrait_call, (450, 800)),
        Film(letterbox),
        Film(pillarbox),
        Film(portrait_stack, (360, 640)),
        Film(small_source, (480, 270)),
        Film(poster),
        Film(small_passer_by),
        Film(audience),
        Film(handheld, detail=1.2),
        Film(zoom_and_pan, detail=1.4),
        Film(pan_to_the_other, detail=1.7),
        Film(unclear_alone),
    )
}


def film_of(name: str) -> Film:
    """A film, or a scenario of `scenarios.py` as one.

    Raises:
        KeyError: There is neither.
    """
    if name in FILMS:
        return FILMS[name]
    build = SCENARIOS[name]
    return Film(lambda stage: of_scene(build(stage)), (1920, 1080), 10.0)
