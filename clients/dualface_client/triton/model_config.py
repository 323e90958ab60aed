"""Triton's model configuration as text, through the message that its own client carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dualface_client.triton.description import TensorSpec


def config_text(fields: Mapping[str, Any]) -> str:
    """Fields of a `ModelConfig` as protobuf text.

    Args:
        fields: As in Triton's `model_config.proto`; enum values by name, maps as mappings.

    Raises:
        google.protobuf.json_format.ParseError: The message has no such field or value.
    """
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    config = json_format.ParseDict(dict(fields), model_config_pb2.ModelConfig())
    return str(text_format.MessageToString(config, use_short_repeated_primitives=True))


def tensor_fields(spec: TensorSpec) -> dict[str, Any]:
    """A `ModelInput` or `ModelOutput`."""
    return {"name": spec.name, "data_type": f"TYPE_{spec.datatype}", "dims": list(spec.dims)}


def string_parameters(values: Mapping[str, str]) -> dict[str, Any]:
    """The map from string to `ModelParameter`."""
    return {key: {"string_value": value} for key, value in values.items()}
