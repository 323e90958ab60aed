"""The containers that outputs are written in, and what each of them holds."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dualface_client.video.ffmpeg import AV_ERRORS, av, packet_of

if TYPE_CHECKING:
    from av.bitstream import BitStreamFilterContext


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """One container.

    Attributes:
        muxer: FFmpeg's name.
        options: Of the muxer.
    """

    muxer: str
    options: dict[str, str]


# A hybrid MP4 is written as fragments and becomes an ordinary one when it is closed. FFmpeg 8.0
# (libavformat 62.3) loses the samples' positions in that step, so there it stays in fragments.
HYBRID_WORKS = av.library_versions["libavformat"] >= (62, 12)
# Packets reach the disk as they come, and a stream that pauses delays the others by only 1 s.
_MUX_OPTIONS = {"flush_packets": "1", "max_interleave_delta": "1000000"}
# A fragment begins with a key frame: FFmpeg takes the end of the last one for that of the video,
# and one that begins elsewhere may lack the picture that is shown last. The size bounds what waits
# in memory where sound alone goes on.
_MP4_OPTIONS = {
    "movflags": "delay_moov+default_base_moof+frag_keyframe" + "+hybrid_fragmented" * HYBRID_WORKS,
    "frag_size": str(64 << 20),
    **_MUX_OPTIONS,
}
#: By the suffix of the output's name.
FORMATS = {
    ".mp4": OutputFormat("mp4", _MP4_OPTIONS),
    ".m4v": OutputFormat("mp4", _MP4_OPTIONS),
    ".mov": OutputFormat("mov", _MP4_OPTIONS),
    ".mkv": OutputFormat("matroska", {"cluster_time_limit": "1000", **_MUX_OPTIONS}),
}
# MP4 names every kind of PCM `ipcm` and describes it in a box that FFmpeg reads since version 6.
# Older readers take all of them for this one, so 24 bit and big-endian sound is noise there.
_IPCM_DEFAULT = "pcm_s16le"


# MOV numbers its languages and FFmpeg knows these by one of two codes (ISO 639-2/T and /B) only.
_MOV_LANGUAGES = {
    **{"bod": "tib", "cym": "wel", "cze": "ces", "deu": "ger", "ell": "gre", "eus": "baq"},
    **{"fas": "per", "fre": "fra", "hye": "arm", "isl": "ice", "kat": "geo", "mkd": "mac"},
    **{"msa": "may", "mya": "bur", "nld": "dut", "rum": "ron", "slo": "slk", "sqi": "alb"},
    **{"swe": "sve", "zho": "chi"},
}


def stream_metadata(suffix: str, metadata: Mapping[str, str]) -> dict[str, str]:
    """What a stream says about itself, as a container writes it.

    Args:
        suffix: A key of `FORMATS`.
        metadata: Of the source's stream.
    """
    found = dict(metadata)
    language = found.get("language", "")
    if FORMATS[suffix].muxer == "mov" and language in _MOV_LANGUAGES:
        found["language"] = _MOV_LANGUAGES[language]
    return found


def holds(suffix: str, stream: Any, packets: Sequence[av.Packet[Any]]) -> bool:
    """Whether a container holds a stream as it is, so that others can read it.

    FFmpeg's own table of codecs says yes too often: some fail in the header, some at the first
    packet. So the first packets are written to memory.

    Args:
        suffix: A key of `FORMATS`.
        stream: Of an input.
        packets: Its first ones, which stay as they are; none tries the header alone.
    """
    form = FORMATS[suffix]
    name = stream.codec_context.name if stream.codec_context is not None else ""
    if form.muxer == "mp4" and name.startswith("pcm_") and name != _IPCM_DEFAULT:
        return False
    try:
        with av.open(io.BytesIO(), "w", format=form.muxer, options=form.options) as trial:
            copy = trial.add_stream_from_template(stream)
            trial.start_encoding()
            bit_filter = filter_for(stream)
            for packet in map(_clone, packets):
                for ready in filtered(bit_filter, packet):
                    ready.stream = copy
                    trial.mux(ready)
    except AV_ERRORS:  # this is the question
        return False
    return True


def holders(stream: Any, packets: Sequence[av.Packet[Any]]) -> list[str]:
    """The suffixes of all containers that hold a stream as it is; see `holds`."""
    return [suffix for suffix in FORMATS if suffix != ".m4v" and holds(suffix, stream, packets)]


def filter_for(stream: Any) -> BitStreamFilterContext | None:
    """What packets of a stream need on their way into a file, None for nothing.

    MPEG-TS repeats the settings of an AAC decoder in each packet; files have them once.
    """
    context = stream.codec_context
    if stream.type == "audio" and context.name == "aac" and not context.extradata:
        return av.bitstream.BitStreamFilterContext("aac_adtstoasc", stream)
    return None


def filtered(
    bit_filter: BitStreamFilterContext | None, packet: av.Packet[Any]
) -> Iterable[av.Packet[Any]]:
    """The packets that a filter of `filter_for` turns one into."""
    time_base = packet.time_base  # the filter takes it away with the payload
    found = (packet,) if bit_filter is None else bit_filter.filter(packet)
    for ready in found:
        ready.time_base = time_base
    return found


def _clone(packet: av.Packet[Any]) -> av.Packet[Any]:
    """A copy, because the muxer and the filters change the packets that they are given."""
    clone = packet_of(bytes(packet))
    clone.stream, clone.time_base = packet.stream, packet.time_base
    clone.pts, clone.dts, clone.duration = packet.pts, packet.dts, packet.duration
    clone.is_keyframe = packet.is_keyframe
    return clone
