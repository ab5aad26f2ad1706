"""What graphs are fed with to calibrate and to verify them: pictures, the predictor's own rollouts, plans.

Letters in shapes as in edge.messages; E is the number of runs of footage, each of T frames here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Part
from edge.engines.engine import Engine
from edge.messages import Floats
from export.sources.source import Feed

Plans = Callable[[np.random.Generator, int, int], Floats]
"""Draws N plans of K steps as planners try them, float32 (N, K, A) in -1 .. 1."""
Progress = Callable[[int, int], None]
"""Called with how many are done and how many there are."""
T = TypeVar("T")


def unwatched(done: int, total: int) -> None:
    """For nobody who looks."""


def counted(items: Sequence[T], progress: Progress) -> Iterator[T]:
    """The items, each reported once it is done with."""
    for done, item in enumerate(items, start=1):
        yield item
        progress(done, len(items))


def run(engine: Engine, feed: Feed) -> Floats:
    """One call of a graph with a single output, which is copied."""
    for name, values in feed.items():
        engine.input(name)[...] = values
    engine.enqueue()
    engine.wait()
    output: Floats = engine.output(next(iter(engine.outputs))).copy()
    return output


def clips(pictures: NDArray[np.uint8], frames: int, per_step: int) -> NDArray[np.uint8]:
    """Pictures (E, P, H, W, 3) -> what an encoder of video sees at each step, (E, T, F, H, W, 3), a view."""
    windows = np.lib.stride_tricks.sliding_window_view(pictures, frames, axis=1)
    return np.moveaxis(windows[:, ::per_step], -1, 2)


def clips_from_cold(pictures: NDArray[np.uint8], frames: int, per_step: int) -> NDArray[np.uint8]:
    """One recording (P, H, W, 3) -> what an encoder of video sees at each step from the first picture on, (T, F, H, W, 3), a
    view of a copy. As in the runtime, the world is taken to have stood still before the first picture."""
    still = np.repeat(pictures[:1], frames - 1, axis=0)
    seen: NDArray[np.uint8] = clips(np.concatenate([still, pictures])[None], frames, per_step)[0]
    return seen


def picture_feed(pictures: NDArray[np.uint8]) -> Feed:
    """Input of the encoder: a picture (H, W, 3) or a clip (F, H, W, 3)."""
    return {"picture": pictures if pictures.ndim == 4 else pictures[None]}


def encode(engine: Engine, pictures: NDArray[np.uint8], progress: Progress = unwatched) -> Floats:
    """Pictures (E, T, H, W, 3) or clips (E, T, F, H, W, 3) -> latents (E, T, tokens, D)."""
    e, t = pictures.shape[:2]
    flat = [run(engine, picture_feed(p))[0] for p in counted([p for episode in pictures for p in episode], progress)]
    return np.stack(flat).reshape(e, t, *flat[0].shape)


def window_feed(latents: Floats, actions: Floats) -> Feed:
    """Inputs of the predictor: latents (C, tokens, D), actions (C, A), A = 0 for a model without actions."""
    feed: Feed = {"context": latents[None]}
    return feed | ({"actions": actions[None]} if actions.shape[-1] else {})


def predictor_feeds(rng: np.random.Generator, predictor: Engine, latents: Floats, actions: Floats) -> Iterator[Feed]:
    """Inputs of the predictor. First every real window, as the runtime predicts one step ahead, every other one with its
    newest action at an extreme. Then its own rollout from the first window: ever more of its own predictions, and actions
    at their extremes once the recorded ones (E, T, A) are used up."""
    context, axes = predictor.inputs["context"].shape[1], actions.shape[-1]
    for seen, done in zip(latents, actions, strict=True):
        for start in range(len(seen) - context + 1):
            commanded = done[start : start + context].copy()
            if start % 2:
                commanded[-1] = np.sign(rng.uniform(-1, 1, axes))
            yield window_feed(seen[start : start + context], commanded)
        window, commanded = seen[:context], done[:context].copy()
        for step in range(context, 2 * len(seen)):
            feed = window_feed(window, commanded)
            yield feed
            window = np.concatenate([window[1:], run(predictor, feed)])
            upcoming = done[step] if step < len(done) else np.sign(rng.uniform(-1, 1, axes))
            commanded = np.concatenate([commanded[1:], upcoming[None]]).astype(np.float32)


def predictor_steps(length: int, context: int) -> int:
    """How many inputs predictor_feeds makes of a run of ``length`` frames."""
    return (length - context + 1) + (2 * length - context)


def rollout_feeds(
    rng: np.random.Generator,
    latents: Floats,
    actions: Floats,
    plans: Plans,
    shape: tuple[int, int],
    context: int,
    count: int,
) -> Iterator[Feed]:
    """States and goals from the footage with plans as planners try them. shape: (N, K)."""
    episodes, steps = latents.shape[:2]
    for _ in range(count):
        episode, start = int(rng.integers(episodes)), int(rng.integers(steps - context + 1))
        goal = latents[int(rng.integers(episodes)), int(rng.integers(steps))]
        past = {"past_actions": actions[episode, start : start + context - 1][None]} if context > 1 else {}
        yield {
            "context": latents[episode, start : start + context][None],
            **past,
            "actions": plans(rng, *shape),
            "goal": goal[None],
        }


def few_of_each(
    exact: Mapping[Part, Engine], pictures: NDArray[np.uint8], actions: Floats, plans: Plans, seed: int
) -> dict[Part, list[Feed]]:
    """One real input of every part per run of pictures (E, T, ...) as in encode, with actions (E, T, A); a few runs, please."""
    feeds: dict[Part, list[Feed]] = {"encoder": [picture_feed(seen[0]) for seen in pictures]}
    if "predictor" not in exact:
        return feeds
    context = exact["predictor"].inputs["context"].shape[1]
    latents = encode(exact["encoder"], pictures if "rollout" in exact else pictures[:, :context])
    feeds["predictor"] = [window_feed(z[:context], a[:context]) for z, a in zip(latents, actions, strict=True)]
    if "rollout" in exact:
        rng = np.random.default_rng(seed)
        candidates, horizon = exact["rollout"].outputs["distance"].shape
        feeds["rollout"] = list(rollout_feeds(rng, latents, actions, plans, (candidates, horizon), context, 1))
    return feeds


def imagine(predictor: Engine, latents: Floats, actions: Floats, progress: Progress = unwatched) -> Floats:
    """Open loop from every run's first frames to its end: (E, T - C, tokens, D)."""
    context = predictor.inputs["context"].shape[1]
    futures = []
    for seen, done in counted(list(zip(latents, actions, strict=True)), progress):
        window = seen[:context]
        future = []
        for step in range(context, len(seen)):
            future.append(run(predictor, window_feed(window, done[step - context : step]))[0])
            window = np.concatenate([window[1:], future[-1][None]])
        futures.append(future)
    return np.asarray(futures, dtype=np.float32)


def babbled_plans(rng: np.random.Generator, candidates: int, horizon: int, actions: int) -> Floats:
    """Plans for a model about whose actions nothing else is known: half held for a few steps, a quarter white noise, a
    quarter at the extremes. float32 (N, K, A)."""
    white = rng.uniform(-1.0, 1.0, (candidates, horizon, actions))
    held = white.copy()
    for step in range(1, horizon):
        keep = rng.random(candidates) < 0.7
        held[keep, step] = held[keep, step - 1]
    kind = rng.integers(0, 4, size=(candidates, 1, 1))
    return np.where(kind == 0, white, np.where(kind == 1, np.sign(held), held)).astype(np.float32)
