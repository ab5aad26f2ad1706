"""Weights that lie outside of the file."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import TensorProto

from export.lint.finding import Fault
from export.lint.network import Network
from export.lint.target import Target


def external_data(network: Network, target: Target) -> Iterator[Fault]:
    for name, tensor in network.tensors.items():
        maker = network.maker.get(name)
        if maker is not None and maker.op_type == "Identity":
            continue  # another name of the same tensor
        if tensor.data_location == TensorProto.EXTERNAL:
            where = next((entry.value for entry in tensor.external_data if entry.key == "location"), "another file")
            reason = f"its values lie in '{where}', and a bundle's graph is one file that is parsed from memory"
            yield Fault(name, reason, "save the model as one file, which may have up to 2 GB")
