"""Servers of vLLM for benchmarks: started on a free port, and ended with all they started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

START_SECONDS = 300


@contextmanager
def vllm_server(model: Path, log: Path, *options: str, profile: Path | None) -> Iterator[str]:
    """Start a server.

    Args:
        model: Folder of the model.
        log: Where it writes what it says.
        *options: Of `vllm serve`.
        profile: The heads that it steers; None for stock vLLM.

    Yields:
        Its address.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {} if profile is None else {"pasta_chains": {"profile": str(profile)}}
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "served"]
    command += ["--additional-config", json.dumps(told), *options]
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as written:
        process = subprocess.Popen(
            command, stdout=written, stderr=written, start_new_session=True, env=_environment()
        )
    try:
        _wait(url, process, log)
        yield url
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return kept | {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    last = time.monotonic() + START_SECONDS
    while time.monotonic() < last and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise RuntimeError(f"vLLM did not start: {log.read_text('utf-8', 'replace')[-3000:]}")
