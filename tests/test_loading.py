"""Loading a model: from a folder, with its profile, and the models that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import (
    AutoModelForCausalLM,
    BertTokenizerLegacy,
    GPT2Config,
    GPTJConfig,
    MambaConfig,
    MistralConfig,
    OpenAIGPTConfig,
    PreTrainedConfig,
)

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import ProfileError, UnsupportedModelError
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr

TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"
SECOND = SpanStr(TEXT, [Span(31, 61)])
PROFILE = HeadProfile({0: [2], 1: [0, 3], 2: [0, 1, 2, 3]}, alpha=0.02, model="org/Tiny-1")
SIZES = {
    "vocab_size": 360, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny-1"
    tiny.llama().save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    PROFILE.save(path / "head_profile.json")
    return path


def test_a_folder_brings_its_own_profile(folder: Path) -> None:
    steered = SteeredModel.from_pretrained(folder)
    assert steered.profile == PROFILE
    assert steered.name == str(folder)
    made = SteeredModel(tiny.llama(), tiny.tokenizer(), PROFILE)
    assert steered.generate(SECOND, max_new_tokens=8) == made.generate(SECOND, max_new_tokens=8)
    assert made.name == ""


def test_a_given_profile_wins_over_the_folders(folder: Path, tmp_path: Path) -> None:
    other = HeadProfile({1: [1]}, alpha=0.5)
    assert SteeredModel.from_pretrained(folder, other).profile == other
    other.save(tmp_path / "other.json")
    for path in (tmp_path / "other.json", str(tmp_path / "other.json")):
        assert SteeredModel.from_pretrained(str(folder), profile=path).profile == other


def test_a_saved_steered_model_is_an_ordinary_model(folder: Path, tmp_path: Path) -> None:
    steered = SteeredModel.from_pretrained(folder)
    steered.generate(SECOND, max_new_tokens=2)
    steered.model.save_pretrained(tmp_path)
    assert "pasta" not in (tmp_path / "config.json").read_text()
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert plain.config._attn_implementation == "sdpa"
    inputs = steered.inputs(TEXT)
    assert torch.equal(plain(**inputs).logits, steered.model(**inputs).logits)


def test_bfloat16_runs_and_is_steered(folder: Path) -> None:
    steered = SteeredModel.from_pretrained(folder, dtype=torch.bfloat16)
    assert steered.model.dtype == torch.bfloat16
    (plain,), (marked,) = steered.score(TEXT, [" Bo"]), steered.score(SECOND, [" Bo"])
    (exact,) = SteeredModel.from_pretrained(folder).score(SECOND, [" Bo"])
    assert abs(marked - exact) < 0.3
    assert abs(marked - plain) > 0.01
    batch = [SECOND, "Tarn"]
    assert len(steered.generate(batch, max_new_tokens=4)) == 2


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (HeadProfile({3: [0]}), "steers layer 3, but .*tiny-1 has layers 0 to 2"),
        (HeadProfile({0: [4]}), "steers head 4 of layer 0, but .*tiny-1 has heads 0 to 3"),
        (HeadProfile({0: [0]}, model="org/other"), "belongs to org/other, but the model is"),
        ("missing.json", "The head profile missing.json cannot be read"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(folder: Path, profile: Any, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        SteeredModel.from_pretrained(folder, profile)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_any_kernel_is_steered_alike(folder: Path, implementation: str) -> None:
    steered = SteeredModel.from_pretrained(folder, attn_implementation=implementation)
    assert steered.model.config._attn_implementation == f"pasta_{implementation}"
    expected = SteeredModel.from_pretrained(folder).score(SECOND, [" Bo", " Ada"])
    assert steered.score(SECOND, [" Bo", " Ada"]) == pytest.approx(expected, abs=1e-4)


def test_a_kernel_that_is_not_installed_is_refused(folder: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"cannot be loaded: .*[Ff]lash"):
        SteeredModel.from_pretrained(folder, attn_implementation="flash_attention_2")


@pytest.mark.parametrize(
    "file", [None, "config.json", "model.safetensors", "tokenizer.json"], ids=str
)
def test_a_folder_that_is_no_model_is_refused_with_its_name(
    folder: Path, tmp_path: Path, file: str | None
) -> None:
    broken = tmp_path / "broken"
    if file:
        broken.mkdir()
        for source in folder.iterdir():
            (broken / source.name).write_bytes(source.read_bytes())
        (broken / file).write_bytes(b"{ broken")
    with pytest.raises(UnsupportedModelError, match=r"The model '.*broken' cannot be loaded: "):
        SteeredModel.from_pretrained(broken)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (OpenAIGPTConfig(vocab_size=360, n_embd=32, n_layer=2, n_head=4),
         "OpenAIGPTLMHeadModel cannot be steered: it has no cache"),
        (MambaConfig(vocab_size=360, hidden_size=32, num_hidden_layers=1, pad_token_id=0),
         "MambaForCausalLM do not pass the steering on"),
    ],
    ids=["GPT", "no attention"],
)  # fmt: skip
def test_a_model_that_cannot_be_steered_is_refused_when_loaded(
    config: PreTrainedConfig, message: str, tmp_path: Path
) -> None:
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match=message):
        SteeredModel.from_pretrained(tmp_path)


def test_full_attention_mistral_is_steered() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(MistralConfig(**SIZES, sliding_window=None))
    steered = SteeredModel(model, tiny.tokenizer(), HeadProfile({0: [0, 1, 2, 3]}, alpha=0.001))
    assert steered.score(SECOND, [" Bo"]) != steered.score(TEXT, [" Bo"])


def test_gpt_j_is_steered_from_a_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "initializer_range": 0.3}
    config = GPTJConfig(vocab_size=360, n_positions=64, bos_token_id=1, eos_token_id=2, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    steered = SteeredModel.from_pretrained(tmp_path, HeadProfile({0: [1], 1: [0, 3]}))
    assert steered.score(SECOND, [" Bo"]) != steered.score(TEXT, [" Bo"])
    steered.model.save_pretrained(tmp_path / "saved")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    inputs = steered.inputs(TEXT)
    assert torch.equal(saved(**inputs).logits, steered.model(**inputs).logits)


def test_a_slow_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n[SEP]\n[PAD]\n[CLS]\n[MASK]\na\n")
    slow = BertTokenizerLegacy(str(tmp_path / "vocab.txt"))
    with pytest.raises(UnsupportedModelError, match="is a slow tokenizer"):
        SteeredModel(tiny.llama(), slow)


def test_a_model_with_absolute_positions_scores_and_writes_in_a_batch_what_it_does_alone() -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=360, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    profile = HeadProfile({0: [0, 1], 1: [2]}, alpha=0.01)
    steered = SteeredModel(AutoModelForCausalLM.from_config(config), tiny.tokenizer(), profile)
    answers = [" Bo", " Ada Lowe. The mayor"]
    alone = [steered.score(SECOND, [answer])[0] for answer in answers]
    assert steered.score(SECOND, answers) == pytest.approx(alone, abs=1e-4)
    assert steered.score(TEXT, answers) != pytest.approx(alone, abs=1e-2)
    prompts = [SpanStr("Tarn is", [Span(0, 4)]), SECOND]
    written = [steered.generate(prompt, max_new_tokens=6) for prompt in prompts]
    assert steered.generate(prompts, max_new_tokens=6) == written
