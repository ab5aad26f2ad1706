"""Every name of TensorRT that the code uses, looked up in NVIDIA's own Python bindings of the versions on Jetsons.

The bindings are the real ones; the libraries behind them are stubs, so nothing is built and nothing run: this says that
the names are there, not that they do what is hoped. ``make api-check`` fetches the bindings.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edge.engines.tensorrt.recipe import recipes
from tests.conftest import ROOT
from tests.edge.engines.tensorrt.api_names import Api, cuda_names, describe, flags, names

FETCHED = ROOT / ".venv" / "tensorrt-api"
SOURCES = sorted((ROOT / "edge" / "engines" / "tensorrt").glob("*.py"))
VERSIONS = ("10.3.0", "10.13.3.9", "10.16.1.11", "11.4.0.106")
CUDA = ("12.9", "13.2")
LIBRARIES = ("libnvinfer", "libnvonnxparser", "libnvinfer_plugin")
NEEDED = (
    *("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL"),
    *("createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry"),
    *("getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins"),
)


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared libraries by TensorRT's names that hold the symbols which the bindings ask for, and nothing behind them."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("the API check needs a C compiler: apt install gcc libc6-dev")
    folder = tmp_path_factory.mktemp("stubs")
    source = folder / "stub.c"
    source.write_text("\n".join(f"void *{name}(void) {{ return 0; }}" for name in NEEDED))
    for major in (10, 11):
        for library in LIBRARIES:
            file = f"{library}.so.{major}"
            command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{file}", "-o", str(folder / file), str(source)]
            subprocess.run(command, check=True, timeout=300)
    return folder


@pytest.fixture(scope="session", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="session")
def api(version: str, stubs: Path) -> Api:
    """Of NVIDIA's bindings of one version."""
    folder = FETCHED / version
    if not folder.is_dir():
        pytest.skip(f"TensorRT's bindings {version} are not there: run 'make api-check', which fetches 1 to 2 MB per version")
    return describe("tensorrt_bindings", folder, stubs)


def test_every_name_that_the_code_uses_is_there(api: Api) -> None:
    found = {path.name: names(path.read_text(), api) for path in SOURCES}
    assert {name: each.missing for name, each in found.items() if each.missing} == {}
    assert {name: each.lost for name, each in found.items() if each.lost} == {}
    used = set().union(*(each.used for each in found.values()))
    # Some that are deep enough to show that types were followed to the end.
    assert used >= {
        "Builder.build_serialized_network",
        "IBuilderConfig.progress_monitor",
        "IProgressMonitor.step_complete",
        "ITimingCache.serialize",
        "ParserError.desc",
        "MemoryPoolType.WORKSPACE",
        "ICudaEngine.get_tensor_dtype",
        "IExecutionContext.execute_async_v3",
        "EngineInspector.get_engine_information",
    }


def test_recipes_ask_only_for_flags_that_their_version_has(api: Api, version: str) -> None:
    there = flags(api)
    assert "TF32" in there
    for recipe in recipes(version, dla=0):
        assert set(recipe.flags) <= there
    assert ("FP16" in there) == (int(version.partition(".")[0]) < 11) == any(r.flags for r in recipes(version, dla=0))


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("trt.Bilder(log)", "Bilder"),
        ("trt.Builder(log).create_netwrk(0)", "Builder.create_netwrk"),
        ("builder = trt.Builder(log)\n    builder.create_builder_config().workspce = 1", "IBuilderConfig.workspce"),
        ("trt.OnnxParser(1, 2).get_error(0).descr()", "ParserError.descr"),
        ("helped(trt.Runtime(log).deserialize_cuda_engine(b''))", "ICudaEngine.no_such"),
        ("class L(trt.ILogger):\n        def lug(self): ...", "ILogger.lug"),
        ("log(x for x in trt.TensorIOMode.INPT)", "TensorIOMode.INPT"),
        ("library.trt.nptipe(1)", "nptipe"),
    ],
)
def test_a_planted_name_is_found_missing(api: Api, line: str, missing: str) -> None:
    source = f"def helped(engine):\n    engine.no_such()\n\ndef f(trt, log, library):\n    {line}\n"
    wanted = {missing}
    assert names(source, api).missing == wanted


@pytest.mark.parametrize("cuda", CUDA)
def test_every_name_of_cuda_python_is_there(cuda: str, stubs: Path) -> None:
    folder = FETCHED / f"cuda-{cuda}"
    if not folder.is_dir():
        pytest.skip(f"cuda-python's bindings {cuda} are not there: run 'make api-check'")
    api = describe("cuda.bindings.runtime", folder, stubs)
    used = set().union(*(cuda_names(path.read_text()) for path in SOURCES))
    assert len(used) >= 8
    for name in used:
        first, _, second = name.partition(".")
        assert first in api[""], name
        if second:
            assert second == "name" or second in api[first], name
