"""What appears and stays scores high, once; what moves in from beside, passes through or happens in a restless place does not."""

from __future__ import annotations

import numpy as np
import pytest

from edge.messages import Belief, Floats
from edge.surprise.unforeseen import HELD_STEPS, RECENT_STEPS, Lasting, Unforeseen, largest_around

GRID, DIM = (8, 10), 16
COLD = RECENT_STEPS + HELD_STEPS - 1
THING = np.random.default_rng(7).standard_normal(DIM).astype(np.float32)


def scores(pictures: list[Floats]) -> list[Floats | None]:
    """pictures: float32 (gh, gw, D) each. The prediction is that nothing changes."""
    unforeseen = Unforeseen(GRID)
    found: list[Floats | None] = []
    for number, now in enumerate(pictures):
        before = pictures[max(0, number - 1)]
        latent, predicted = now.reshape(-1, DIM), before.reshape(-1, DIM)
        context = np.stack([predicted, latent])
        belief = Belief(latent, predicted, context, np.zeros((1, 0), np.float32), number * 100_000_000, 0)
        errors = unforeseen.update(belief)
        found.append(None if errors is None else errors.reshape(GRID))
    return found


def scenes(count: int) -> list[Floats]:
    """One background with a little noise in every frame."""
    draw = np.random.default_rng(0)
    background = 0.3 * draw.standard_normal((*GRID, DIM)).astype(np.float32)
    return [background + 0.02 * draw.standard_normal(background.shape).astype(np.float32) for _ in range(count)]


def with_thing(first: int, *places: tuple[int, int], last: int = 1000, count: int = 40) -> list[Floats]:
    pictures = scenes(count)
    for number, picture in enumerate(pictures):
        if first <= number < last:
            for place in places:
                picture[place] = THING
    return pictures


def highest(found: list[Floats | None]) -> list[float]:
    return [0.0 if errors is None else float(errors.max()) for errors in found]


def test_a_quiet_scene_scores_low_once_the_start_is_over() -> None:
    found = scores(scenes(40))
    assert [errors is None for errors in found] == [True] * COLD + [False] * (40 - COLD)
    assert max(highest(found)) < 0.05


def test_what_appears_and_stays_scores_once_half_a_second_later_where_it_is() -> None:
    found = scores(with_thing(20, (4, 5)))
    peak = 20 + HELD_STEPS - 1
    errors = found[peak]
    assert errors is not None
    assert np.unravel_index(int(errors.argmax()), GRID) == (4, 5)
    assert errors[4, 5] > 0.5
    assert max(highest(found)[:peak]) < 0.1 and max(highest(found)[peak + 1 :]) < 0.1


def test_what_passes_through_leaves_no_trace() -> None:
    assert max(highest(scores(with_thing(20, (4, 5), last=22)))) < 0.15


@pytest.mark.parametrize("frames_per_patch", [1, 2, 4])
def test_what_moves_in_from_beside_is_foreseen(frames_per_patch: int) -> None:
    pictures = scenes(60)
    for number, picture in enumerate(pictures):
        for column in range(min(5, max(0, (number - 20) // frames_per_patch))):  # a snake from the edge to the middle
            picture[4, column] = THING
    inside = [0.0 if errors is None else float(errors[1:-1, 1:-1].max()) for errors in scores(pictures)]
    assert max(inside) < 0.1


def test_a_thing_that_appears_may_move_by_a_patch_meanwhile() -> None:
    pictures = scenes(40)
    for number, picture in enumerate(pictures[20:]):
        picture[4, 5 if number < 3 else 6] = THING
    assert max(highest(scores(pictures))) > 0.5


def test_where_predictions_just_failed_an_error_says_less() -> None:
    restless = with_thing(20, (4, 5))
    for number in range(12, 20):
        restless[number][4, 7] = THING * (-1) ** number
    peak = 20 + HELD_STEPS - 1
    assert highest(scores(restless))[peak] < 0.5 * highest(scores(with_thing(20, (4, 5))))[peak]


def test_at_the_edge_anything_may_come_in() -> None:
    assert max(highest(scores(with_thing(20, (0, 5))))) < 0.5 * max(highest(scores(with_thing(20, (4, 5)))))


def test_a_cold_start_forgets() -> None:
    unforeseen = Unforeseen(GRID)
    latent = scenes(1)[0].reshape(-1, DIM)
    known = Belief(latent, latent, latent[None], np.zeros((0, 0), np.float32), 0, 0)
    for _ in range(COLD + 1):
        found = unforeseen.update(known)
    assert found is not None
    assert unforeseen.update(Belief(latent, None, latent[None], np.zeros((0, 0), np.float32), 0, 0)) is None
    assert unforeseen.update(known) is None


def test_only_what_lasts_counts() -> None:
    lasting = Lasting(3)
    seen = [np.array(values, np.float32) for values in ([5, 1], [4, 9], [3, 9], [6, 9], [6, 9])]
    assert [lasting.update(values).tolist() for values in seen] == [[0, 0], [0, 0], [3, 1], [3, 9], [3, 9]]
    lasting.forget()
    assert lasting.update(seen[0]).tolist() == [0, 0]


def test_the_largest_around() -> None:
    scores_ = np.zeros((4, 5), np.float32)
    scores_[1, 1] = 2.0
    assert np.argwhere(largest_around(scores_, 1) == 2.0).tolist() == [[r, c] for r in range(3) for c in range(3)]
    assert (largest_around(scores_, 2)[:, :4] == 2.0).all()
