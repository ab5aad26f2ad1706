"""Assembly: from a configuration to running parts. The only file that knows all of them."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import cv2

from edge import bundle as bundles
from edge.belief import BeliefFilter
from edge.bundle import Action
from edge.cameras import open_camera
from edge.cameras.retina import Retina
from edge.chronicle import Chronicle
from edge.clock import NS_PER_MS, NS_PER_S, Clock, MonotonicClock
from edge.config import ConfigError, RobotConfig, beside, beside_port
from edge.dashboard import Dashboard, Refused
from edge.encoder import FrameEncoder
from edge.engines import EngineSettings, load_engine
from edge.engines.tensorrt.background import build_in_background
from edge.goals import Errands, GoalSource, NoGoals, PictureGoals
from edge.intrinsics import Intrinsics, taken_out
from edge.loop import Loop, Stages
from edge.memory import Memory
from edge.messages import Tick
from edge.motors import CalibratedMotors, action_axis, check_names
from edge.normal import Normal
from edge.planning import SamplingPlanner
from edge.safety import ARMED_STATES, ArmRefused, Supervisor
from edge.surprise import Surprise
from edge.worlds.guide import ArenaGuide
from firmware_bridge.controller import Axis, AxisMode, MotorController
from firmware_bridge.drivers.registry import make_controller
from firmware_bridge.process.controller import ProcessController

log = logging.getLogger(__name__)

WORLD = "world:"


class Robot:
    """Everything of one robot, put together and taken apart again; use it as a context manager.

    config: checked settings. base: the folder that relative paths in it start from. observers: called with every finished
    tick, must not block. Raises UserError or BridgeError with what is wrong; then nothing is left running and no motor was
    ever armed.
    """

    def __init__(
        self,
        config: RobotConfig,
        base: Path,
        *,
        clock: Clock | None = None,
        observers: tuple[Callable[[Tick], None], ...] = (),
    ) -> None:
        self.config = config
        self.clock = MonotonicClock() if clock is None else clock
        self.notes: list[str] = []
        """What a person should know about this start, one sentence each."""
        self._observers = list(observers)
        self._parts = contextlib.ExitStack()
        try:
            self._assemble(config, base)
        except BaseException:
            self._parts.close()
            raise

    def _assemble(self, config: RobotConfig, base: Path) -> None:
        clock, defer = self.clock, self._parts.callback
        cv2.setNumThreads(1)  # OpenCV's own threads would fight the engines for the cores
        self.bundle = bundle = bundles.load_beside(base, config.bundle)
        manifest = bundle.manifest
        if manifest.kind != "robot" or manifest.goal is None:
            raise ConfigError(f"bundle {manifest.name!r} is for watching a camera: use 'latentloop watch', or a robot's bundle")
        shape, axes = manifest.latent, manifest.actions
        check_names(config.axes, [axis.name for axis in axes])
        period_ns = round(manifest.time.step_s * NS_PER_S)
        if config.planner.budget_ms * NS_PER_MS >= period_ns:
            raise ConfigError(
                f"planner.budget_ms is {config.planner.budget_ms:g} and the tick of bundle {manifest.name!r} is "
                f"{period_ns / NS_PER_MS:g} ms long: choose a smaller budget"
            )

        chosen = config.engine
        settings = EngineSettings(chosen.threads, chosen.spinning, chosen.precision, chosen.tensorrt, chosen.runtime)
        self.engines = {}
        for part in ("encoder", "predictor", "rollout"):
            engine = load_engine(bundle, part, settings)
            defer(engine.close)
            self.engines[part] = engine
        self.building = building = build_in_background(bundle) if config.engine.tensorrt else None
        if building is not None:
            defer(building.close)
            self._observers.append(lambda tick: building.armed(tick.state in ARMED_STATES))
        intrinsics = Intrinsics.load(base / config.camera.intrinsics) if config.camera.intrinsics else None
        self.lens = taken_out(intrinsics)
        """The one that is taken out of the pictures."""
        encoder = FrameEncoder(self.engines["encoder"], bundle, clock, intrinsics)

        drive = ProcessController if config.bridge.own_process else make_controller
        self.controller: MotorController = drive(
            beside_port(base, config.bridge.port),
            tuple(axis.name for axis in axes),
            baud=config.bridge.baud,
            lease_s=config.bridge.lease_ms / 1000,
            settings=config.bridge.settings,
        )
        defer(self.controller.close)
        self.controller.connect()
        described = self.controller.describe()
        _check_units(config.bridge.port, axes, described)

        camera = open_camera(_where(base, config.camera.source), clock=clock)
        self.camera = Retina(camera, encoder.size, clock, intrinsics)
        defer(self.camera.close)
        self.camera.start()

        self.memory = Memory.open(
            base / config.memory.folder,
            bundle_sha256=bundle.sha256,
            tokens=shape.tokens,
            dim=shape.dim,
            actions=len(axes),
            clock=clock,
            max_episodes=config.memory.max_episodes,
            max_bytes=config.memory.max_megabytes << 20,
        )
        defer(self.memory.close)
        self.notes += self.memory.notes
        normal = None
        if config.calibration:
            normal = Normal.load(
                base / config.calibration,
                bundle_sha256=bundle.sha256,
                tokens=shape.tokens,
                dim=shape.dim,
                lens=self.lens,
            )
        concepts = self.memory.load_concepts() if normal is None else normal.concepts

        belief = BeliefFilter(self.engines["predictor"], clock)
        fingerprint = hashlib.sha256(self.camera.fingerprint.encode()).hexdigest()
        saved = self.memory.restore_belief(
            config.memory.belief_max_age_s, context=manifest.time.context, camera=fingerprint
        )
        if isinstance(saved, str):
            self.notes.append(f"cold start: {saved}")
        else:
            belief.restore(saved)
            self.notes.append(f"belief restored, {saved.age_s:.1f} s old")

        self.goal_source = _goal_source(base, config.goals.source)
        self.errands = Errands(self.goal_source, encoder, config.goals, manifest.goal.reached_cost, clock)
        defer(self.errands.close)
        self.supervisor = Supervisor(
            CalibratedMotors(self.controller, config.axes) if config.axes else self.controller,
            tuple(
                action_axis(axis.name, axis.low, axis.high, config.axes.get(axis.name), board if config.bridge.limits else None)
                for axis, board in zip(axes, described, strict=True)
            ),
            config.safety,
            clock,
            period_ns,
        )
        if normal is None:
            surprise = Surprise(None, concepts, shape.grid)
        else:
            surprise = Surprise(normal.calibration, concepts, shape.grid, normal.rule)
        chronicle = Chronicle(self.memory, concepts, clock, camera=fingerprint, learning=normal is None)
        defer(chronicle.close)
        if config.dashboard.enabled:
            self.dashboard: Dashboard | None = Dashboard(
                title=config.name,
                operator=_PageOperator(self.supervisor),
                host=config.dashboard.host,
                port=config.dashboard.port,
                token_path=base / config.memory.folder / "operator-token",
                axes=self.controller.axes,
                period_s=manifest.time.step_s,
                engines=building,
            )
            self.dashboard.start()
            defer(self.dashboard.close)
            self._observers.append(self.dashboard.observe)
        else:
            self.dashboard = None
        stages = Stages(
            self.camera,
            encoder,
            belief,
            surprise,
            self.errands,
            SamplingPlanner(self.engines["rollout"], clock, config.planner),
            self.supervisor,
            chronicle,
        )
        self.loop = Loop(
            stages,
            clock,
            period_ns=period_ns,
            max_age_ns=round(config.camera.max_age_ms * NS_PER_MS),
            budget_ns=round(config.planner.budget_ms * NS_PER_MS),
            axes=len(axes),
            observe=self._tell,
        )

    def run(self, stop: threading.Event) -> None:
        """Tick until ``stop`` is set; however it ends, the motors are disarmed before anything else is taken apart."""
        try:
            self.loop.run(stop)
        finally:
            self.supervisor.disarm()

    def close(self) -> None:
        """Disarm, then take everything apart in the reverse order. Safe to call twice."""
        self._parts.close()

    def __enter__(self) -> Robot:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _tell(self, tick: Tick) -> None:
        for observe in self._observers:
            observe(tick)


class _PageOperator:
    """The dashboard's four verbs, carried out by the supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self.disarm = supervisor.disarm
        self.emergency_stop = supervisor.emergency_stop

    def arm(self) -> None:
        try:
            self._supervisor.arm()
        except ArmRefused as error:
            raise Refused(str(error)) from None

    def clear_stop(self) -> None:
        try:
            self._supervisor.clear_stop()
        except ArmRefused as error:
            raise Refused(str(error)) from None


def _where(base: Path, text: str) -> str:
    """As :func:`~edge.config.beside`, also behind ``world:``."""
    return f"{WORLD}{base / text[len(WORLD):]}" if text.startswith(WORLD) else beside(base, text)


def _check_units(port: str, wanted: Sequence[Action], axes: Sequence[Axis]) -> None:
    """Raises ConfigError where a number of the bundle would mean something else to the motor."""
    for action, axis in zip(wanted, axes, strict=True):
        if action.unit == axis.unit:
            continue
        integrated = axis.mode is AxisMode.POSITION and action.unit == f"{axis.unit}/s"
        remedy = "add command=velocity to the port" if integrated else "use another bundle or controller"
        raise ConfigError(
            f"bridge.port {port!r} takes {axis.unit} for axis {axis.name} and the bundle gives {action.unit}: {remedy}"
        )


def _goal_source(base: Path, text: str) -> GoalSource:
    if not text:
        return NoGoals()
    if text.startswith(WORLD):
        return ArenaGuide(base / text[len(WORLD) :])
    return PictureGoals(base / text)
