"""Servers that do not steer, and servers that must not start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Served
from models import EMBEDDED
from server import free_port, running, serving

from pasta_chains import SpanStr, connect
from pasta_chains.errors import PromptError, ServerError
from pasta_chains.profile import FILE_NAME


@pytest.mark.parametrize("served", ["off"], indirect=True)
def test_a_client_refuses_a_server_that_does_not_steer(served: Served) -> None:
    with pytest.raises(ServerError, match="does not steer, so it would lose all emphasis"):
        connect(served.server.url)


@pytest.mark.parametrize(
    ("steering", "options", "message"),
    [
        ({"profile": "no such file"}, (), "The head profile no such file cannot be read"),
        ({"profile": {"heads": {"0": [0]}, "model": "other"}}, (), "belongs to other"),
        ({"profile": {"99": [0]}}, (), "steers layer 99"),
        ({"profile": {"0": [0]}}, ("--kv-cache-dtype", "fp8"), "--kv-cache-dtype fp8"),
    ],
)
def test_a_server_that_cannot_steer_does_not_start(
    tmp_path: Path, steering: Mapping[str, Any], options: tuple[str, ...], message: str
) -> None:
    with (
        pytest.raises(RuntimeError) as ended,
        serving(EMBEDDED, tmp_path, "--enforce-eager", *options, steering=steering),
    ):
        pass
    assert message in str(ended.value)


def test_an_engine_without_the_plugin_is_noticed(tmp_path: Path) -> None:
    """On another machine an engine has a command line and an environment of its own."""
    spread = (
        *("--enforce-eager", "--kv-cache-memory-bytes", "200000000", "--data-parallel-size", "1"),
        *("--data-parallel-address", "127.0.0.1", "--data-parallel-rpc-port", str(free_port())),
    )
    steering = {"profile": str(EMBEDDED / FILE_NAME)}
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    engine = running(
        EMBEDDED, there, *spread, "--headless", "--data-parallel-size-local", "1",
        steering=steering, environment={"VLLM_PLUGINS": ""},
    )  # fmt: skip
    front = serving(EMBEDDED, here, *spread, "--data-parallel-size-local", "0", steering=steering)
    with engine, front as server:
        model = connect(server.url)
        text = "The mayor of Tarn is Ada Lowe."
        assert model.run(text, max_new_tokens=3)
        with pytest.raises(PromptError, match="An engine of this server does not steer"):
            model.generate(SpanStr(text, [(4, 9)]), max_new_tokens=3)
        model.close()
