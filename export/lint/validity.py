"""What ONNX itself says about the graph."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from export.lint.finding import Fault
from export.lint.network import Network
from export.lint.outline import is_weight
from export.lint.target import Target


def invalid(network: Network, target: Target) -> Iterator[Fault]:
    weights = [tensor for tensor in network.model.graph.initializer if is_weight(tensor)]
    try:
        onnx.checker.check_model(network.outline, full_check=True)
        for weight in weights:
            if weight.data_location != TensorProto.EXTERNAL:
                onnx.checker.check_tensor(weight)
    except Exception as error:  # noqa: BLE001  the checker raises several kinds, some of them its bindings' own
        said = " ".join(str(error).split("\n\n")[0].split())
        yield Fault("(graph)", f"not valid ONNX ({said[:200]})", "mend the export; onnx.checker says more")
