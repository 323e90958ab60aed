from __future__ import annotations

import io
from pathlib import Path

import av

from dualface_client.video.thumbnails import thumbnails
from tests import media
from tests.media import Clip


def test_pictures_are_jpeg_in_order_with_the_aspect_kept(tmp_path: Path) -> None:
    clip = Clip(frames=24, size_wh_px=(128, 64), options={"g": "6"})
    found = thumbnails(media.make(tmp_path / "a.mp4", clip), count=4, width_px=64)
    assert [round(time_s, 2) for time_s, _ in found] == [0.0, 0.24, 0.48, 0.72]
    lumas = []
    for _, jpeg in found:
        with av.open(io.BytesIO(jpeg), "r", format="mjpeg") as container:
            picture = next(container.decode(video=0))
            assert (picture.width, picture.height) == (64, 32)
            lumas.append(float(picture.to_ndarray(format="gray").mean()))
    assert media.luma_order_is_kept(lumas), lumas


def test_a_video_with_one_key_frame_gives_one_picture(tmp_path: Path) -> None:
    path = media.make(tmp_path / "a.mp4", Clip(frames=20, options={"g": "100"}))
    assert [time_s for time_s, _ in thumbnails(path, count=6, width_px=64)] == [0.0]


def test_what_is_no_video_gives_none(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video at all")
    assert thumbnails(path, count=4, width_px=64) == []
    assert thumbnails(tmp_path / "missing.mp4", count=4, width_px=64) == []
