"""From a part of a bundle to an engine: the manifest and the graph must agree, and the settings must make sense."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from edge.bundle import BundleError, TensorSignature, load
from edge.engines import EngineError, EngineSettings, load_engine, write_input


def test_a_part_is_loaded_as_the_manifest_describes_it():
    bundle = load("camera")
    engine = load_engine(bundle, "encoder")
    assert list(engine.inputs) == ["picture"] and list(engine.outputs) == ["latent"]
    assert engine.input("picture").shape == bundle.graph("encoder").inputs[0].shape
    with pytest.raises(BundleError, match="no rollout graph"):
        load_engine(bundle, "rollout")


def test_more_threads_give_the_same_latent():
    bundle = load("camera")
    picture = np.random.default_rng(0).integers(0, 256, bundle.graph("encoder").inputs[0].shape, dtype=np.uint8)
    latents = []
    for settings in (EngineSettings(), EngineSettings(threads=2), EngineSettings(threads=2, spinning=True)):
        engine = load_engine(bundle, "encoder", settings)
        write_input(engine, "picture", picture)
        engine.enqueue()
        engine.wait()
        latents.append(engine.output("latent").copy())
        engine.close()
    np.testing.assert_array_equal(latents[0], latents[1])
    np.testing.assert_array_equal(latents[0], latents[2])


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(EngineError, match="engine threads are 0 and must be 1 or more"):
        load_engine(load("camera"), "encoder", EngineSettings(threads=0))


def test_a_graph_that_is_not_what_the_manifest_says_is_refused():
    bundle = load("camera")
    graphs = bundle.manifest.graphs
    wrong = msgspec.structs.replace(graphs.encoder, outputs=(TensorSignature("latent", "float32", (1, 2, 3)),))
    manifest = msgspec.structs.replace(bundle.manifest, graphs=msgspec.structs.replace(graphs, encoder=wrong))
    with pytest.raises(EngineError, match=r"encoder\.onnx has latent .* manifest says latent float32 \(1, 2, 3\)"):
        load_engine(replace(bundle, manifest=manifest), "encoder")


def test_a_file_that_vanished_after_loading_is_named(tmp_path):
    with pytest.raises(EngineError, match=r"encoder\.onnx cannot be read \(No such file"):
        load_engine(replace(load("camera"), folder=tmp_path), "encoder")
