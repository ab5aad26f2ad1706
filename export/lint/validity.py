"""What ONNX itself says about the graph."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from export.lint.finding import Fault
from export.lint.network import Network
from export.lint.target import Target


def invalid(network: Network, target: Target) -> Iterator[Fault]:
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in network.tensors.values()):
        return  # it cannot be checked without its other file
    try:
        onnx.checker.check_model(network.model, full_check=True)
    except Exception as error:  # noqa: BLE001  the checker raises several kinds, some of them its bindings' own
        said = " ".join(str(error).split("\n\n")[0].split())
        yield Fault("(graph)", f"not valid ONNX ({said[:200]})", "mend the export; onnx.checker says more")
