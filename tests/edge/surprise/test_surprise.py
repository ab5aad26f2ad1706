"""The whole assessment: what is surprising, what it is called, and who wins when a camera is broken."""

from __future__ import annotations

import numpy as np
import pytest

from edge.clock import NS_PER_S
from edge.memory import Concepts
from edge.messages import Assessment, Belief, CameraFault
from edge.surprise import AlarmCalibration, AlarmRule, Surprise
from edge.surprise.scores import Scores, places, pool
from edge.surprise.unforeseen import HELD_STEPS

DIM = 8
TOKENS = 12
GRID = (6, 8)
AT_ONCE = AlarmRule(on_s=0.0, min_frames=1)


class Scene:
    """A camera in latent space: every token wobbles around its own place."""

    def __init__(self, seed: int = 0, tokens: int = TOKENS) -> None:
        self.draw = np.random.default_rng(seed)
        self.places = np.random.default_rng(99).standard_normal((tokens, DIM)).astype(np.float32) * 3
        self.now_ns = NS_PER_S

    def latent(self) -> np.ndarray:
        return self.places + 0.1 * self.draw.standard_normal(self.places.shape).astype(np.float32)

    def belief(self, *, moved: float = 0.0, foreign: float = 0.0, predicted: bool = True) -> Belief:
        """moved: how far token 5 is from where it was expected; foreign: how far it looks from anything known."""
        self.now_ns += NS_PER_S // 10
        expected, latent = self.places.copy(), self.latent()
        latent[5 % len(latent)] += np.float32(foreign)
        expected[5 % len(latent)] += np.float32(foreign + moved)
        return Belief(
            latent, expected if predicted else None, latent[None], np.zeros((0, 0), np.float32), self.now_ns, 0
        )


class Patches(Scene):
    """A fixed camera: patches on a grid, of which 2x2 in the middle may change. The prediction is that nothing changes."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed, GRID[0] * GRID[1])
        self.before = self.latent()

    def belief(self, *, moved: float = 0.0, foreign: float = 0.0, predicted: bool = True) -> Belief:
        """moved: the middle looks like another known place. foreign: how far it looks from anything known."""
        self.now_ns += NS_PER_S // 10
        latent = self.latent().reshape(*GRID, DIM)
        if moved:
            latent[2:4, 3:5] = self.places.reshape(latent.shape)[0, 0] + 0.1 * self.draw.standard_normal((2, 2, DIM))
        latent[2:4, 3:5] += np.float32(foreign)
        expected, self.before = self.before, latent.reshape(-1, DIM)
        context = self.before[None]
        return Belief(
            self.before, expected if predicted else None, context, np.zeros((0, 0), np.float32), self.now_ns, 0
        )


def calibrated(scene: Scene, frames: int = 400, rule: AlarmRule | None = None) -> Surprise:
    concepts = Concepts(DIM)
    for _ in range(50):
        concepts.learn(scene.latent(), 0.0)
    grid = GRID if isinstance(scene, Patches) else None
    scores, errors, distances = Scores(grid), [], []
    for belief in (scene.belief() for _ in range(frames)):
        found, lasting = scores.errors(belief), scores.unfamiliarities(concepts.distance(belief.latent))
        if found is not None:
            errors.append(float(pool(places(found, grid))))
            distances.append(lasting)
    calibration = AlarmCalibration.fit(
        np.array(errors, np.float32), np.stack(distances), grid=grid, bundle_sha256="x", made_from="scene"
    )
    return Surprise(calibration, concepts, grid, rule or AlarmRule())


def test_normal_footage_is_no_alarm() -> None:
    scene = Scene()
    surprise = calibrated(scene)
    told = [surprise.assess(scene.belief()) for _ in range(2000)]
    assert surprise.calibrated
    assert not any(a.alarmed or a.onset or a.cause for a in told)
    assert np.mean([a.p_value <= 0.1 for a in told]) <= 0.12
    assert {a.alarm_p for a in told} == {1e-3}


@pytest.mark.parametrize(("change", "cause"), [({"moved": 4.0}, "unexpected"), ({"foreign": 4.0}, "unfamiliar")])
def test_an_anomaly_is_alarmed_within_its_delay_by_its_name_and_clears(change: dict[str, float], cause: str) -> None:
    scene = Scene()
    surprise = calibrated(scene)
    for _ in range(20):
        surprise.assess(scene.belief())
    odd = [surprise.assess(scene.belief(**change)) for _ in range(30)]
    assert [a.onset for a in odd].index(True) == 5, "0.5 s after the first anomalous frame at 10 Hz"
    assert sum(a.onset for a in odd) == 1
    assert {a.cause for a in odd[5:]} == {cause} and odd[4].cause == ""
    calm = [surprise.assess(scene.belief()) for _ in range(40)]
    assert calm[0].alarmed and not calm[-1].alarmed and calm[-1].cause == ""


@pytest.mark.parametrize(("change", "cause"), [({"moved": 1.0}, "unexpected"), ({"foreign": 4.0}, "unfamiliar")])
def test_what_appears_among_patches_alarms_once_it_has_lasted(change: dict[str, float], cause: str) -> None:
    scene = Patches()
    surprise = calibrated(scene, rule=AT_ONCE)
    told = [surprise.assess(scene.belief()) for _ in range(100)]
    assert not any(a.alarmed for a in told)
    odd = [surprise.assess(scene.belief(**change)) for _ in range(30)]
    assert [a.onset for a in odd].index(True) == HELD_STEPS - 1
    assert odd[HELD_STEPS - 1].cause in (cause, "unexpected")
    assert odd[-1].alarmed == (cause == "unfamiliar"), "what looks like nothing known lasts, what appeared is over"
    assert odd[-1].cause == (cause if cause == "unfamiliar" else "")


def test_where_little_was_learned_unfamiliarity_alone_is_no_alarm() -> None:
    scene = Patches()
    surprise = calibrated(scene, rule=AlarmRule(on_s=0.0, min_frames=1, unfamiliar=False))
    surprise.assess(scene.belief(predicted=False))
    odd = [surprise.assess(scene.belief(foreign=4.0)) for _ in range(30)]
    assert odd[-1].unfamiliarity > 5.0 and odd[-1].p_value > 1e-3
    assert odd[-1].heat is not None and odd[-1].heat.max() < 1.0
    assert not any(a.alarmed for a in odd)


def test_a_second_thing_alarms_while_the_first_lasts() -> None:
    scene = Scene()
    surprise = calibrated(scene)
    for _ in range(20):
        surprise.assess(scene.belief())
    first = [surprise.assess(scene.belief(foreign=4.0)) for _ in range(10)]
    assert first[-1].cause == "unfamiliar"
    both = [surprise.assess(scene.belief(foreign=4.0, moved=4.0)) for _ in range(10)]
    assert [a.onset for a in both].count(True) == 1 and both[-1].cause == "unexpected"
    after = [surprise.assess(scene.belief(foreign=4.0)) for _ in range(30)]
    assert after[-1].cause == "unfamiliar" and not any(a.onset for a in after)


def test_heat_shows_where_and_is_one_at_the_alarm() -> None:
    scene = Patches()
    surprise = calibrated(scene)
    calm = [surprise.assess(scene.belief()) for _ in range(20)][-1]
    assert calm.heat is not None and calm.heat.shape == GRID and calm.heat.dtype == np.float32
    assert calm.heat.max() < 1.0
    odd = [surprise.assess(scene.belief(foreign=4.0)) for _ in range(HELD_STEPS)][-1]
    assert odd.heat is not None
    assert {(2, 3), (2, 4), (3, 3), (3, 4)} <= set(map(tuple, np.argwhere(odd.heat > 1.0).tolist()))
    assert (odd.heat[:, 6:] < 1.0).all() and (odd.heat[5] < 1.0).all()


def test_a_camera_fault_wins_at_once_and_stops_the_statistics() -> None:
    scene = Scene()
    surprise = calibrated(scene)
    surprise.assess(scene.belief())
    told = [surprise.assess(scene.belief(foreign=9.0), (CameraFault.FROZEN, CameraFault.LATE)) for _ in range(30)]
    assert all(a.alarmed and a.cause == "frozen" for a in told)
    assert [a.onset for a in told] == [True] + [False] * 29
    other = surprise.assess(scene.belief(), (CameraFault.BLACK,))
    assert (other.onset, other.cause) == (True, "black")
    after = [surprise.assess(scene.belief()) for _ in range(5)]
    assert not any(a.alarmed for a in after), "30 anomalous frames during the fault must not have counted"
    again = surprise.assess(scene.belief(), (CameraFault.BLACK,))
    assert again.onset


def test_an_alarm_outlasts_a_camera_fault() -> None:
    scene = Scene()
    surprise = calibrated(scene)
    for _ in range(20):
        surprise.assess(scene.belief(foreign=4.0))
    assert surprise.assess(scene.belief(), (CameraFault.COVERED,)).cause == "covered"
    after = surprise.assess(scene.belief(foreign=4.0))
    assert (after.alarmed, after.onset, after.cause) == (True, False, "unfamiliar")


def test_a_cold_start_has_no_error_and_still_sees_the_unfamiliar() -> None:
    scene = Scene()
    surprise = calibrated(scene)
    calm = surprise.assess(scene.belief(predicted=False))
    assert calm.error == 0.0 and calm.p_value > 1e-3
    odd = surprise.assess(scene.belief(foreign=4.0, predicted=False))
    assert odd.p_value <= 1e-3
    nothing_known = Surprise(surprise._calibration, Concepts(DIM))
    assert nothing_known.assess(scene.belief(foreign=4.0, predicted=False)).p_value == 1.0


def test_without_a_calibration_it_scores_and_never_alarms() -> None:
    scene = Scene()
    concepts = Concepts(DIM)
    concepts.learn(scene.latent(), 0.0)
    surprise = Surprise(None, concepts)
    assert not surprise.calibrated
    told = [surprise.assess(scene.belief(moved=9.0, foreign=9.0)) for _ in range(100)]
    assert all(a.error > 1.0 and a.unfamiliarity > 1.0 for a in told)
    assert not any(a.alarmed or a.onset or a.cause for a in told)
    assert all(a.p_value == 1.0 and a.heat is None for a in told)
    assert surprise.assess(scene.belief(), (CameraFault.WHITE,)).cause == "white"


def test_a_global_latent_has_no_heat() -> None:
    scene = Scene(tokens=1)
    surprise = calibrated(scene)
    for _ in range(20):
        assert surprise.assess(scene.belief()).heat is None
    told: list[Assessment] = [surprise.assess(scene.belief(moved=4.0)) for _ in range(10)]
    assert [a.onset for a in told].index(True) == 5


@pytest.mark.parametrize("kind", [Scene, Patches])
def test_broken_numbers_are_anomalous_never_normal(kind: type[Scene]) -> None:
    scene = kind()
    surprise = calibrated(scene)
    for _ in range(2 * HELD_STEPS):
        belief = scene.belief()
        belief.latent[3] = np.nan
        found = surprise.assess(belief)
    assert found.p_value <= 1e-3
    assert np.isfinite([found.error, found.unfamiliarity]).all()
    assert found.heat is None or np.isfinite(found.heat).all()


def test_shapes_that_do_not_fit_the_calibration_are_refused() -> None:
    scene = Scene()
    surprise = calibrated(scene)
    with pytest.raises(ValueError, match="12 tokens and the grid is 2x4"):
        Surprise(surprise._calibration, Concepts(DIM), (2, 4))
    with pytest.raises(ValueError, match="12 tokens per frame and this belief has 5"):
        surprise.assess(Scene(tokens=5).belief())
