"""What to say and to advise below the gate, the same on the command line and in the report."""

from __future__ import annotations

from collections.abc import Iterator

from export.evidence import Evidence
from export.gate import Judged

NAMES = {
    ("parity", "encoder"): "encoder, FP32 graph against its framework",
    ("parity", "predictor"): "predictor, FP32 graph against its framework",
    ("parity", "rollout"): "rollout, FP32 graph against its framework",
    ("encoder", "cosine"): "encoder cosine",
    ("encoder", "relative_error"): "encoder relative error",
    ("predictor", "cosine"): "predictor cosine",
    ("predictor", "relative_error"): "predictor relative error",
    ("end_to_end", "cosine"): "end to end cosine",
    ("end_to_end", "relative_error"): "end to end relative error",
    ("end_to_end", "rank_correlation"): "end to end rank correlation",
    ("planner", "rank_correlation"): "planner rank correlation",
    ("planner", "action_agreement"): "planner action agreement",
    ("anomaly", "auroc_loss"): "anomaly AUROC lost",
    ("target", "refusals"): "number of nodes that the target refuses or gets wrong",
    ("target", "float_gemms"): "number of INT8 Linears that this CPU multiplies in float",
}


def name_of(line: Judged) -> str:
    """A figure of the gate, for people."""
    return NAMES.get((line.section, line.figure), f"{line.section} {line.figure}".replace("_", " "))


def bound_of(line: Judged) -> str:
    """Its limit, for people."""
    return f"at least {line.least:g}" if line.least is not None else f"at most {line.most:g}"


def complaints(evidence: Evidence) -> Iterator[str]:
    """One sentence per limit that does not hold."""
    for line in evidence.gate:
        if not line.passed:
            value = "not a number" if line.measured is None else f"{line.measured:.5g}"
            yield f"{name_of(line)} is {value} and must be {bound_of(line)}"


def culprits(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """(part, its layers that cost most when quantized alone with their relative errors), where the gate was not passed."""
    for part, layers in evidence.blame.items():
        yield part, ", ".join(f"{layer} ({error:.2%})" for layer, error in layers)


def refusals(evidence: Evidence) -> Iterator[str]:
    """What the lint found for the target that was asked for: target, part, rule, node, reason and remedy in one line each."""
    target = evidence.figures.get("target", {}).get("name")
    for finding in evidence.figures.get("lint", {}).get(target, ()):
        yield f"{target}: {finding}"


def advice(evidence: Evidence) -> str:
    """What to do about it; empty if the gate was passed."""
    failed = [line for line in evidence.gate if not line.passed]
    if not failed:
        return ""
    if all(line.section == "parity" for line in failed):
        return "the exported graph is wrong, not its quantization: please report the model"
    if all(line.section == "target" for line in failed):
        if failed[0].figure == "float_gemms":
            return "this onnxruntime does not keep the products in integers: see 'latentloop doctor', and report its version"
        return "mend these nodes in the model, export for another --target, or without one"
    worst = next((layers[0][0] for layers in evidence.blame.values() if layers), "LAYER")
    return f"export again with more varied footage, or keep layers in float, e.g. --keep-float {worst}"
