"""What a server is told, which models and options are refused, and how it is started."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pasta_chains import HeadProfile, demo
from pasta_chains.errors import MissingExtraError, ProfileError, UnsupportedModelError
from pasta_chains.vllm.checks import check_steered, checked_settings
from pasta_chains.vllm.hooks import ENTRIES, Hook, install
from pasta_chains.vllm.serve import command, serve
from pasta_chains.vllm.settings import Settings
from pasta_chains.wire import KEY

PROFILE = HeadProfile({1: [0, 3]}, alpha=0.02, details={"large": [1] * 99})


def config(told: Any, **changed: Any) -> Any:
    """What `Settings` and the checks read of vLLM's configuration."""
    text = SimpleNamespace(num_attention_heads=4, model_type="llama")
    model = SimpleNamespace(
        model="some/model",
        hf_text_config=text,
        use_mla=False,
        runner_type="generate",
        get_total_num_hidden_layers=lambda: 6,
    )
    made = SimpleNamespace(
        model_config=model,
        cache_config=SimpleNamespace(cache_dtype="auto"),
        parallel_config=SimpleNamespace(
            decode_context_parallel_size=1, prefill_context_parallel_size=1, use_ubatching=False
        ),
        speculative_config=None,
        kv_transfer_config=None,
        additional_config={} if told is None else {KEY: told},
    )
    for path, value in changed.items():
        *owners, name = path.split("__")
        owner = made
        for one in owners:
            owner = getattr(owner, one)
        setattr(owner, name, value)
    return made


def test_settings_go_to_other_processes_without_the_profile_file(tmp_path: Path) -> None:
    PROFILE.save(tmp_path / "heads.json")
    settings = Settings.of(config({"profile": str(tmp_path / "heads.json")}))
    assert settings is not None
    (tmp_path / "heads.json").unlink()
    again = Settings.of(config(settings.dump()))
    assert again is not None
    assert again.profile == replace(PROFILE, details=None)
    assert again.digest == settings.digest != Settings(replace(PROFILE, alpha=0.5)).digest
    assert json.loads(json.dumps(settings.dump())) == settings.dump()


@pytest.mark.parametrize(
    "told", [None, {}, {"enabled": True}, {"profile": "no such file", "enabled": False}]
)
def test_a_server_without_a_profile_is_stock(told: Any) -> None:
    assert Settings.of(config(told)) is None
    assert Settings.of(SimpleNamespace(additional_config=object())) is None


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("heads.json", "it must be like"),
        ({"profil": "heads.json"}, "no setting 'profil'"),
        ({"profile": "heads.json", "enabled": 1}, "enabled of pasta_chains is 1"),
        ({"profile": "no such file"}, "no such file cannot be read"),
        ({"profile": {"heads": {"a": [1]}}}, "is no number"),
        ({"profile": 3}, "is a JSON object"),
        ({"profile": {"1": [0]}, "shifted": "no"}, "shifted of pasta_chains is 'no'"),
    ],
)
def test_a_setting_that_says_nothing_is_refused(told: Any, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        Settings.of(config(told))


def test_the_guess_is_one_for_this_model() -> None:
    settings = Settings.of(config({"profile": "default"}))
    assert settings is not None
    assert settings.profile.heads == {4: (0, 1, 2, 3), 5: (0, 1, 2, 3)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_config__use_mla": True}, "MLA"),
        ({"model_config__runner_type": "pooling"}, "writes no answers"),
        ({"model_config__hf_text_config__attn_logit_softcapping": 50.0}, "caps its attention"),
        ({"cache_config__cache_dtype": "fp8"}, "kv-cache-dtype fp8"),
        ({"parallel_config__decode_context_parallel_size": 2}, "context parallelism"),
        ({"parallel_config__prefill_context_parallel_size": 2}, "context parallelism"),
        ({"parallel_config__use_ubatching": True}, "dual-batch"),
        ({"kv_transfer_config": object()}, "KV connectors were not tried"),
        (
            {"speculative_config": SimpleNamespace(enable_adaptive_verification=True)},
            "adaptive verification",
        ),
    ],
)
def test_what_cannot_be_steered_exactly_is_refused(changed: dict[str, Any], message: str) -> None:
    told = {"profile": PROFILE.to_dict()}
    assert checked_settings(config(told)).shifted
    with pytest.raises(UnsupportedModelError, match=message) as error:
        checked_settings(config(told, **changed))
    assert "to serve without steering" in str(error.value)


def test_a_profile_of_another_model_is_refused() -> None:
    for wrong, message in (
        (replace(PROFILE, model="other/one"), "belongs to other/one, but the model is some/model"),
        (HeadProfile({6: [0]}), "steers layer 6"),
        (HeadProfile({0: [4]}), "steers head 4 of layer 0"),
    ):
        with pytest.raises(ProfileError, match=message):
            checked_settings(config({"profile": wrong.to_dict()}))


def test_models_with_attention_sinks_are_steered_without_a_shift() -> None:
    told = {"profile": PROFILE.to_dict()}
    found = checked_settings(config(told, model_config__hf_text_config__model_type="gpt_oss"))
    assert not found.shifted
    again = Settings.of(config(found.dump()))
    assert again is not None
    assert not again.shifted


def test_the_rust_front_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_USE_RUST_FRONTEND", "1")
    with pytest.raises(UnsupportedModelError, match="the Rust front end"):
        checked_settings(config({"profile": PROFILE.to_dict()}))


def test_workers_must_steer_all_heads_together() -> None:
    settings = Settings(PROFILE)
    own = settings.digest
    check_steered(settings, [(own, {1: [0]}), (own, {1: [3]}), (own, {})])
    with pytest.raises(UnsupportedModelError, match="A worker does not steer"):
        check_steered(settings, [(own, {1: [0, 3]}), None])
    with pytest.raises(ProfileError, match="head 3 of layer 1, and there is no such head"):
        check_steered(settings, [(own, {1: [0]}), (own, {})])
    with pytest.raises(ProfileError, match="head 0 of layer 1"):
        check_steered(settings, [(own, {})])
    for other in (Settings(PROFILE, shifted=False), Settings(HeadProfile({1: [0, 3], 2: [1]}))):
        with pytest.raises(ProfileError, match="started with another head profile"):
            check_steered(settings, [(own, {1: [0, 3]}), (other.digest, {1: [0, 3]})])


def test_a_function_that_is_another_one_is_told() -> None:
    known = Hook("textwrap", "dedent", "text", "hooks:worker")
    assert known.problem() is None
    for owner, name, parameters, message in (
        ("textwrap", "dedent", "text width", "takes 'text', not 'text width'"),
        ("textwrap", "nothing", "text", "has no nothing"),
        ("no_such_module:Class", "name", "text", "has no name"),
    ):
        told = Hook(owner, name, parameters, "hooks:worker").problem()
        assert told is not None
        assert message in told


def test_a_vllm_that_is_not_known_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped: list[Hook] = []

    def wrap(hook: Hook) -> None:
        wrapped.append(hook)

    monkeypatch.setattr(Hook, "wrap", wrap)
    monkeypatch.setattr(Hook, "problem", lambda hook: "another")
    install()
    assert wrapped == [ENTRIES[0]]  # which refuses to steer when it is asked to


def settings_in(started: list[str]) -> Any:
    return json.loads(started[started.index("--additional-config") + 1])[KEY]["profile"]


def test_serve_finds_the_profile(tmp_path: Path) -> None:
    started = command(str(demo.MODEL), None, ["--port", "8001"])
    assert started[:5] == [
        sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(demo.MODEL),
    ]  # fmt: skip
    assert started[-2:] == ["--port", "8001"]
    assert settings_in(started)["model"] == "pasta-reader"
    PROFILE.save(tmp_path / "heads.json")
    assert settings_in(command("some/model", str(tmp_path / "heads.json"), []))["alpha"] == 0.02
    assert settings_in(command("huggyllama/llama-7b", None, []))["model"] == "huggyllama/llama-7b"
    assert settings_in(command("some/model", "default", [])) == "default"
    own = command("some/model", "default", ["--structured-outputs-config", "{}"])
    assert own.count("--structured-outputs-config") == 1


def test_serve_refuses_what_it_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProfileError, match="No head profile is shipped for some/model"):
        serve("some/model", None, [])
    with pytest.raises(ProfileError, match="sets --additional-config itself"):
        serve("some/model", "default", ["--additional-config={}"])
    monkeypatch.setenv("VLLM_PLUGINS", "other")
    with pytest.raises(ProfileError, match="Add pasta_chains to it"):
        serve("some/model", "default", [])
    monkeypatch.setenv("VLLM_PLUGINS", "other,pasta_chains")
    monkeypatch.setattr("pasta_chains.vllm.serve.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pasta-chains\[vllm\]"):
        serve("some/model", "default", [])
