"""Learning what is normal: no frame judges itself, short or uniform footage is refused, thresholds follow the evidence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.bundle import Bundle
from edge.learn_normal import BLOCK, MAX_FRAMES, NormalLearner
from edge.messages import Belief
from edge.normal import ALARMS, CONCEPTS, INDEX, UNFAMILIAR_FROM_S, Normal, NormalError
from edge.surprise import Surprise
from edge.surprise.unforeseen import HELD_STEPS, RECENT_STEPS

TOKENS, DIM = 6, 4
COLD = RECENT_STEPS + HELD_STEPS - 1


def belief(number: int, rng: np.random.Generator, step_ns: int = 100_000_000) -> Belief:
    latent = rng.normal(size=(TOKENS, DIM)).astype(np.float32)
    context = np.stack([latent, latent])
    return Belief(latent, latent * np.float32(0.9), context, np.zeros((1, 0), np.float32), number * step_ns, 0)


def learner_after(count: int) -> NormalLearner:
    rng = np.random.default_rng(0)
    learner = NormalLearner(TOKENS, DIM, None)
    for number in range(count):
        learner.observe(belief(number, rng))
    return learner


def test_evidence_says_what_was_judged(normal: Normal) -> None:
    evidence = normal.evidence
    assert evidence.frames == 150 - 3 - COLD  # the first predictions need a full context, what lasts needs half a second
    assert 14.0 < evidence.seconds <= 15.0
    assert evidence.onsets == 0
    assert evidence.per_hour_below >= 3 * 3600 / 15
    assert len(normal.concepts) > 0


@pytest.mark.parametrize("count", [0, 1, 99])
def test_too_little_footage_is_refused_in_one_sentence(count: int) -> None:
    with pytest.raises(NormalError, match=r"^yard gave \d+\.\d s of normal footage .* steps are needed"):
        learner_after(count).learn(bundle_sha256="b", made_from="yard", wall_s=0.0)


def test_footage_in_which_nothing_changes_is_refused() -> None:
    rng = np.random.default_rng(0)
    still = belief(0, rng)
    learner = NormalLearner(TOKENS, DIM, None)
    for number in range(150):
        learner.observe(Belief(still.latent, still.predicted, still.context, still.actions, number * 100_000_000, 0))
    with pytest.raises(NormalError, match="nothing at all changes"):
        learner.learn(bundle_sha256="b", made_from="yard", wall_s=0.0)


def test_latents_that_are_not_finite_are_refused() -> None:
    learner = learner_after(120)
    rng = np.random.default_rng(1)
    broken = belief(120, rng)
    broken.latent[0, 0] = np.nan
    for number in range(120, 140):
        learner.observe(Belief(broken.latent, broken.predicted, broken.context, broken.actions, number * 100_000_000, 0))
    with pytest.raises(NormalError, match="not finite"):
        learner.learn(bundle_sha256="b", made_from="yard", wall_s=0.0)


def test_long_footage_is_bounded_and_still_spans_all_of_it() -> None:
    learner = learner_after(MAX_FRAMES + 10 * BLOCK)
    normal_times = learner._times_ns
    assert len(normal_times) < MAX_FRAMES
    assert normal_times[0] == 0
    assert normal_times[-1] >= (MAX_FRAMES + 8 * BLOCK) * 100_000_000
    assert normal_times == sorted(set(normal_times))


def test_every_error_is_judged_however_long_the_footage() -> None:
    count = MAX_FRAMES + 10 * BLOCK
    learner = learner_after(count)
    assert len(learner._errors) == count
    assert learner.seconds == pytest.approx((count - 1) / 10)


def test_the_threshold_lies_above_all_that_was_judged(normal: Normal) -> None:
    error = normal.calibration.error
    assert error.score_at(normal.evidence.alarm_p / 2.0) >= 1.24 * error.scores[-1]


def test_memory_alone_learns_and_alarms_without_a_predictor() -> None:
    rng = np.random.default_rng(0)
    learner = NormalLearner(TOKENS, DIM, (2, 3), predicts=False)
    for number in range(200):
        before = belief(number, rng)
        learner.observe(Belief(before.latent, None, before.latent[None], np.zeros((0, 0), np.float32), before.captured_ns, 0))
    normal = learner.learn(bundle_sha256="b", made_from="yard", wall_s=0.0)
    assert normal.calibration.error is None and normal.evidence.frames == 200 and normal.evidence.onsets == 0
    assert normal.rule.unfamiliar  # however short the footage: there is nothing else to alarm by
    surprise = Surprise(normal.calibration, normal.concepts, (2, 3), normal.rule)
    onsets = []
    for number in range(20):
        latent = rng.normal(size=(TOKENS, DIM)).astype(np.float32) + np.float32(40.0 if number >= 10 else 0.0)
        seen = Belief(latent, None, latent[None], np.zeros((0, 0), np.float32), number * 100_000_000, 0)
        assessed = surprise.assess(seen)
        assert assessed.error == 0.0
        if assessed.onset:
            onsets.append((number, assessed.cause))
    assert [cause for _, cause in onsets] == ["unfamiliar"]
    assert 10 < onsets[0][0] < 10 + HELD_STEPS  # once it has lasted


@pytest.mark.parametrize(("seconds", "alone"), [(60, False), (UNFAMILIAR_FROM_S, True)])
def test_unfamiliarity_alone_alarms_only_after_minutes_of_footage(normal: Normal, seconds: float, alone: bool) -> None:
    learned = replace(normal, evidence=msgspec.structs.replace(normal.evidence, seconds=seconds))
    assert learned.rule.unfamiliar == alone
    assert (learned.rule.on_s, learned.rule.min_frames) == (0.0, 1)


def test_comes_back_as_it_was_saved(normal: Normal, bundle: Bundle, tmp_path: Path) -> None:
    shape = bundle.manifest.latent
    normal.save(tmp_path / "yard")
    again = Normal.load(tmp_path / "yard", bundle_sha256=bundle.sha256, tokens=shape.tokens, dim=shape.dim)
    assert again.evidence == normal.evidence
    assert again.calibration == normal.calibration
    np.testing.assert_array_equal(again.concepts.latents, normal.concepts.latents)


@pytest.mark.parametrize("name", [INDEX, ALARMS, CONCEPTS])
@pytest.mark.parametrize("harm", ["missing", "cut", "garbage"])
def test_a_damaged_folder_is_refused_and_says_what_to_run(
    normal: Normal, bundle: Bundle, tmp_path: Path, name: str, harm: str
) -> None:
    shape = bundle.manifest.latent
    normal.save(tmp_path)
    content = (tmp_path / name).read_bytes()
    if harm == "missing":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content[: len(content) // 2] if harm == "cut" else b"\x00" * 40)
    with pytest.raises(NormalError, match="run 'latentloop calibrate alarms' again"):
        Normal.load(tmp_path, bundle_sha256=bundle.sha256, tokens=shape.tokens, dim=shape.dim)


def test_another_bundles_calibration_is_refused(normal: Normal, bundle: Bundle, tmp_path: Path) -> None:
    shape = bundle.manifest.latent
    normal.save(tmp_path)
    with pytest.raises(NormalError, match="made for bundle"):
        Normal.load(tmp_path, bundle_sha256="0" * 64, tokens=shape.tokens, dim=shape.dim)
