"""Servers that do not steer, and servers that must not start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Served
from models import EMBEDDED
from server import serving

from pasta_chains import connect
from pasta_chains.errors import ServerError


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
