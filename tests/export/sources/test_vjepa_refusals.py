"""What is said about broken checkpoints of the V-JEPA 2 family: one sentence with file and remedy, before anything is traced."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from export.sources.source import SourceError
from export.sources.vjepa2 import open_vjepa2
from export.sources.vjepa2_official import open_official
from tests.export.sources import vjepa_checkpoints as made

WEIGHTS, TOML, CONFIG = "model.safetensors", "latentloop.toml", "config.json"
LAYER = "encoder.layer.1"


def config(**changes):
    return lambda folder: (folder / CONFIG).write_text(json.dumps(made.CONFIG | changes))


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def remove(name):
    return lambda folder: (folder / name).unlink()


def truncate(name):
    def spoil(folder):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])

    return spoil


def weights(change):
    def spoil(folder):
        state = made.hugging_face_state()
        change(state)
        save_file({key: value.contiguous() for key, value in state.items()}, folder / WEIGHTS)

    return spoil


def set_to(key, value):
    return weights(lambda state: state.__setitem__(key, value))


def without(key):
    return weights(lambda state: state.pop(key))


def not_a_number(key):
    return weights(lambda state: state[key].view(-1).__setitem__(5, float("nan")))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (truncate(WEIGHTS), "model.safetensors is no whole file"),
        (remove(WEIGHTS), "has no model.safetensors: give the folder of a VJEPA2Model"),
        (remove(CONFIG), "config.json cannot be read"),
        (text(CONFIG, "{"), "config.json is not the configuration of a VJEPA2Model"),
        (config(model_type="vit"), "model_type 'vit' and it must be 'vjepa2'"),
        (config(hidden_act="silu"), "hidden_act 'silu' and only 'gelu' is known"),
        (config(qkv_bias=False), "qkv_bias False and only True is known"),
        (config(hidden_size="wide"), "hidden_size"),
        (config(num_attention_heads=0), "num_attention_heads 0 and it must be above 0"),
        (config(num_attention_heads=3), "hidden_size 128 and num_attention_heads 3, which does not divide it"),
        (config(crop_size=50), "a picture of 50 pixels and patches of 16, which do not divide it"),
        (config(num_hidden_layers=3), r"lacks 'encoder.layer.2.norm1.weight' \(\d+ of \d+ keys are missing"),
        (config(num_hidden_layers=1), f"has '{LAYER}.attention.proj.bias', which this model does not know"),
        (config(mlp_ratio=4.0), r"layer.0.mlp.fc1.bias' of shape \(256,\) and config.json makes it \(512,\)"),
        (config(pred_num_mask_tokens=4), "lacks 'predictor.mask_tokens.3'"),
        (without(f"{LAYER}.attention.key.weight"), f"lacks '{LAYER}.attention.query.weight'"),
        (without("predictor.layernorm.bias"), "lacks 'predictor.layernorm.bias'"),
        (set_to("head.weight", torch.zeros(2)), "head.weight', which this model does not know"),
        (not_a_number(f"{LAYER}.attention.value.weight"), "attention.query.weight' with values that are not finite"),
        (not_a_number("predictor.proj.weight"), "'predictor.proj.weight' with values that are not finite"),
        (text(TOML, "frame = 4"), "latentloop.toml is not valid: .*`frame`"),
        (text(TOML, "frames = 5"), "frames 5 and tubelets of 2, which do not divide it"),
        (text(TOML, "frames = 0"), "none may be below 1"),
        (text(TOML, "step_s = nan"), "step_s nan and it must be above 0"),
        (text(TOML, "size = 64"), "size 64 and .*crop_size 48"),
    ],
)
def test_a_broken_folder_of_hugging_face_is_named_in_one_sentence(tmp_path, spoil, said):
    folder = made.write_hugging_face(tmp_path / "copy")
    spoil(folder)
    with pytest.raises(SourceError, match=said) as caught:
        open_vjepa2(folder)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def parts(**changes):
    """A checkpoint of V-JEPA 2 with changed sections."""
    return {"encoder": made.encoder_state(), "predictor": made.masked_state()} | changes


def lacking(state, key):
    return {name: value for name, value in state.items() if name != key}


BIG = torch.zeros(7, 7)
UP = "blocks.1.mlp.fc1.weight"


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"predictor": made.masked_state()}, "has none of target_encoder, ema_encoder, encoder"),
        ({"target_encoder": made.encoder_state(), "predictor": made.acting_state()}, "has none of encoder: take"),
        (parts(encoder={}), "no patch_embed.proj.weight of five dimensions"),
        (parts(encoder=lacking(made.encoder_state(), "norm.bias")), "lacks 'norm.bias'"),
        (parts(encoder=made.encoder_state() | {"cls_token": BIG}), "has 'cls_token', which this model does not know"),
        (parts(encoder=made.encoder_state() | {UP: BIG}), r"\(7, 7\) and the rest of it makes it \(256, 128\)"),
        (parts(encoder=made.encoder_state() | {"blocks.0.mlp.fc1.weight": BIG}), r"\(7, 7\), which 2 heads do not divide"),
        (parts(encoder=made.encoder_state() | {"norm.bias": torch.full((128,), torch.inf)}), "'norm.bias' with values"),
        (parts(predictor={}), "predictor_blocks.0.mlp.fc1.weight is missing"),
        (parts(predictor=lacking(made.masked_state(), "predictor_proj.bias")), "lacks 'predictor_proj.bias'"),
        ({"ema_encoder": lacking(made.second_state(), "video_mod_embed")}, "lacks 'video_mod_embed'"),
        ({"ema_encoder": lacking(made.second_state(), "norms_block.3.bias")}, "lacks 'norm.bias'"),
        (parts(predictor=lacking(made.acting_state(), "state_encoder.bias")), "lacks 'state_encoder.bias'"),
    ],
)
def test_a_broken_file_of_facebookresearch_is_named_in_one_sentence(tmp_path, sections, said):
    file = made.write_official(tmp_path / "weights.pt", sections)
    (tmp_path / TOML).write_text("size = 48\n")
    with pytest.raises(SourceError, match=said) as caught:
        open_official(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("deployment", "said"),
    [
        ("pose = [1.0, 2.0]", r"pose \[1.0, 2.0\]: give 7 numbers"),
        ("candidates = 0", "candidates 0 and it must be above 0"),
        ("actions = []", "has no actions"),
        ('actions = [{ name = "yaw", unit = "rad", low = -1, high = 1 }]', "'yaw' is none of x, y, z, gripper"),
        ('actions = [{ name = "x", unit = "m", low = 1, high = 1 }]', "low must be below high"),
        ("size = 50", "a picture of 50 pixels"),
        ("frames = 4", "is not valid: .*`frames`"),
    ],
)
def test_a_wrong_description_of_an_arm_is_named(tmp_path, deployment, said):
    file = made.write_official(tmp_path / "weights.pt", {"encoder": made.encoder_state(), "predictor": made.acting_state()})
    (tmp_path / TOML).write_text(deployment)
    with pytest.raises(SourceError, match=said) as caught:
        open_official(file)
    assert TOML in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        (torch.nn.Linear(2, 2), "if it is a pickled module save its state_dict"),
        ([1, 2], "has none of target_encoder, ema_encoder, encoder"),
        ({"encoder": {"a": 3}}, "something else than tensors under 'encoder'"),
    ],
)
def test_other_files_are_told_apart(tmp_path, saved, said):
    torch.save(saved, tmp_path / "weights.pt")
    with pytest.raises(SourceError, match=said):
        open_official(tmp_path / "weights.pt")


def test_a_cut_off_file_and_a_missing_one_are_named(tmp_path):
    file = made.write_official(tmp_path / "weights.pt", parts())
    truncate(file.name)(tmp_path)
    with pytest.raises(SourceError, match=r"weights\.pt is no whole file"):
        open_official(file)
    with pytest.raises(SourceError, match=r"nothing\.pt cannot be read \(No such file"):
        open_official(tmp_path / "nothing.pt")
