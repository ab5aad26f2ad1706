"""Published state dictionaries of the V-JEPA 2 family, renamed and reordered to those of vjepa_model.

Each function takes a state dictionary of its family and returns ours, float32, or raises SourceError for a key it cannot place.
What is missing, left over or of a wrong shape afterwards is found by export.sources.weights.fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from export.sources.source import SourceError
from export.sources.vjepa_rope import channel_order

State = dict[str, Tensor]

_HF_ENCODER = (
    ("embeddings.patch_embeddings.proj.", "patch_embed.proj."),
    ("layernorm.", "norm."),
    ("layer.", "blocks."),
)
_HF_PREDICTOR = (
    ("embeddings.predictor_embeddings.", "predictor_embed."),
    ("layernorm.", "predictor_norm."),
    ("proj.", "predictor_proj."),
    ("layer.", "predictor_blocks."),
)
UNUSED = ("pos_embed", "predictor_pos_embed")
"""Position tables that V-JEPA 2 checkpoints still carry; their models turn queries and keys instead."""


def from_hugging_face(state: Mapping[str, Tensor]) -> tuple[State, State]:
    """Encoder and predictor of a ``VJEPA2Model``, or of the backbone of a classifier."""
    encoder, predictor = State(), State()
    for key, value in state.items():
        key = key.removeprefix("vjepa2.")
        if key.startswith("encoder."):
            encoder[_renamed(key.removeprefix("encoder."), _HF_ENCODER)] = value
        elif key == "predictor.embeddings.mask_tokens":
            predictor |= {f"mask_tokens.{i}": token for i, token in enumerate(value.reshape(len(value), 1, 1, -1))}
        elif key.startswith("predictor."):
            predictor[_renamed(key.removeprefix("predictor."), _HF_PREDICTOR)] = value
        elif not key.startswith(("pooler.", "classifier.")):
            encoder[key] = value  # unknown: to be named by whoever fits it
    return _joined(encoder), _joined(predictor)


def hugging_face_name(part: str, key: str) -> str:
    """What Hugging Face calls our ``key`` of a part; queries stand for queries, keys and values."""
    for theirs, ours in _HF_ENCODER if part == "encoder" else _HF_PREDICTOR:
        if key.startswith(ours):
            key = theirs + key.removeprefix(ours)
            break
    return f"{part}." + key.replace(".attn.qkv.", ".attention.query.").replace(".attn.proj.", ".attention.proj.")


def from_facebookresearch(state: Mapping[str, Tensor]) -> State:
    """One part of a facebookresearch checkpoint, as the training wrapped it."""
    plain = {key.replace("module.", "").replace("backbone.", ""): value for key, value in state.items()}
    return {key: value for key, value in plain.items() if key not in UNUSED}


def one_tokenizer(state: State, *, single: bool, path: Path) -> State:
    """A V-JEPA 2.1 encoder's state with the one tokenizer that is used, of pictures (``single``) or of clips, in which the
    embedding that tells them apart is a bias; and with the one norm that inference reads."""
    used, other = ("patch_embed_img", "patch_embed") if single else ("patch_embed", "patch_embed_img")
    mode = "img_mod_embed" if single else "video_mod_embed"
    last = max((int(key.split(".")[1]) for key in state if key.startswith("norms_block.")), default=-1)
    for key in (f"{used}.proj.bias", mode):
        if key not in state:
            raise SourceError(f"{path} lacks {key!r}, which an encoder of V-JEPA 2.1 has: take the published checkpoint")
    placed = State()
    for key, value in state.items():
        if key.startswith(f"{used}."):
            placed["patch_embed" + key.removeprefix(used)] = value
        elif key.startswith(f"norms_block.{last}."):
            placed["norm" + key.removeprefix(f"norms_block.{last}")] = value
        elif not key.startswith((f"{other}.", "norms_block.", "img_mod_embed", "video_mod_embed")):
            placed[key] = value
    placed["patch_embed.proj.bias"] = placed["patch_embed.proj.bias"] + state[mode].flatten()
    return placed


def arranged(state: Mapping[str, Tensor], heads: int) -> State:
    """The state with queries and keys in the order of channels that vjepa_rope turns, the attention scale in the queries."""
    done = State()
    for key, value in state.items():
        if re.search(r"\.attn\.qkv\.(weight|bias)$", key) and len(value) % (3 * heads) == 0:
            parts = value.float().reshape(3, heads, len(value) // (3 * heads), -1)
            head = parts.shape[2]
            turned = parts[:2, :, channel_order(head)]
            turned[0] *= head**-0.5
            value = torch.cat([turned, parts[2:]]).reshape(value.shape)
        done[key] = value.float()
    return done


def _renamed(key: str, names: tuple[tuple[str, str], ...]) -> str:
    for theirs, ours in names:
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def _joined(state: State) -> State:
    """Queries, keys and values of Hugging Face as one Linear."""
    joined = State()
    for key, value in state.items():
        found = re.fullmatch(r"(.+)\.attention\.(query|key|value|proj)\.(weight|bias)", key)
        if found is None:
            joined[key] = value
        elif found[2] == "proj":
            joined[f"{found[1]}.attn.proj.{found[3]}"] = value
        elif found[2] == "query":
            parts = [state.get(f"{found[1]}.attention.{name}.{found[3]}") for name in ("query", "key", "value")]
            if any(part is None for part in parts):
                joined[key] = value  # left as it is, so that what is missing gets named
            else:
                joined[f"{found[1]}.attn.qkv.{found[3]}"] = torch.cat([part for part in parts if part is not None])
        elif f"{found[1]}.attention.query.{found[3]}" not in state:
            joined[key] = value
    return joined
