"""What the device decides before anything starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dualface_client.errors import UsageError
from dualface_client.settings.program import LimitSettings
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.device_choice import settings_for


def test_nvenc_on_a_cpu_is_refused_and_the_others_stay() -> None:
    usual = StreamSettings()
    for encoder in ("auto", "x264", "none"):
        settings = replace(usual, output=replace(usual.output, encoder=encoder))
        assert settings_for("cpu", settings, LimitSettings(), 9) == settings
    nvenc = replace(usual, output=replace(usual.output, encoder="nvenc"))
    with pytest.raises(UsageError, match="only --device cuda has NVENC"):
        settings_for("cpu", nvenc, LimitSettings(), 9)


@pytest.mark.parametrize(("streams", "limit", "expected"), [(9, 16, 16), (9, 8, 8), (1, 4, 4)])
def test_a_gpus_requests_are_as_large_as_the_machine_allows(
    streams: int, limit: int, expected: int
) -> None:
    limits = replace(LimitSettings(), detector_batch=limit)
    assert settings_for("cuda", StreamSettings(), limits, streams).detection.batch == expected
