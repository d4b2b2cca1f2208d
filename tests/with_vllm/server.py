"""A `vllm serve` for a test: started, asked over HTTP, and killed with all that it started."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

DEADLINE = 240.0
"""Seconds in which a server must have started, or have answered."""

_METADATA = "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n"


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        url: Where it listens.
        log: What it has written.
    """

    url: str
    log: Path

    def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """Its answer to one request."""
        return httpx.post(f"{self.url}{path}", json=body, timeout=DEADLINE)

    def complete(self, bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Its answers to requests for completions, all sent at once."""

        async def answers() -> list[dict[str, Any]]:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(
                base_url=self.url, limits=limits, timeout=DEADLINE
            ) as client:
                posts = [client.post("/v1/completions", json=body) for body in bodies]
                responses = await asyncio.gather(*posts)
            return [_json(response) for response in responses]

        return asyncio.run(answers())

    def counter(self, name: str) -> float:
        """One of its counters at /metrics, summed over what it tells apart.

        Raises:
            KeyError: It has none of this name.
        """
        return self.gauge(f"{name}_total")

    def gauge(self, name: str) -> float:
        """One of its gauges at /metrics, as for `counter`."""
        lines = httpx.get(f"{self.url}/metrics", timeout=DEADLINE).text.splitlines()
        values = [
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.split("{")[0].split(" ")[0] == name
        ]
        if not values:
            raise KeyError(name)
        return sum(values)


def _json(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


@contextmanager
def serving(
    model: Path,
    folder: Path,
    *options: str,
    steering: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    path: Sequence[Path] = (),
) -> Iterator[Server]:
    """A server of a model in float32, until the block ends.

    Args:
        model: Its folder.
        folder: Where the log and what the server needs beside it is put.
        *options: Of `vllm serve`.
        steering: What `--additional-config` says of steering; None says nothing.
        environment: Variables for it.
        path: Where it finds further modules.

    Raises:
        RuntimeError: It ended, or did not start in time; with the end of its log.
    """
    port = free_port()
    served = ("--host", "127.0.0.1", "--port", str(port), "--served-model-name", "served")
    started = running(
        model, folder, *served, *options, steering=steering, environment=environment, path=path
    )
    with started as (process, log):
        server = Server(f"http://127.0.0.1:{port}", log)
        _wait(server, process)
        yield server


@contextmanager
def running(
    model: Path,
    folder: Path,
    *options: str,
    steering: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    path: Sequence[Path] = (),
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The process of `vllm serve` and its log, as for `serving`; not waited for."""
    config = json.dumps({} if steering is None else {"pasta_chains": steering})
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model)),
        *("--dtype", "float32", "--additional-config", config, *options),
    ]
    log = folder / "log.txt"
    with log.open("wb") as written:
        process = subprocess.Popen(
            command, stdout=written, stderr=written, start_new_session=True,
            env=_environment(folder, path) | dict(environment or {}),
        )  # fmt: skip
    try:
        yield process, log
    finally:
        _end(process)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _environment(folder: Path, path: Sequence[Path]) -> dict[str, str]:
    """VLLM counts threads itself, and runs only where pip knows a package of its name."""
    known = folder / "path" / "vllm-0.32.0+cpu.dist-info"
    known.mkdir(parents=True)
    (known / "METADATA").write_text(_METADATA, "utf-8")
    rest = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return rest | {
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(map(str, [known.parent, *path])),
        "VLLM_NO_USAGE_STATS": "1",
    }


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    last = time.monotonic() + DEADLINE
    while time.monotonic() < last:
        if process.poll() is not None:
            raise RuntimeError(f"vLLM ended: {_end_of(server.log)}")
        with suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/health", timeout=5).status_code == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(f"vLLM did not start in {DEADLINE} seconds: {_end_of(server.log)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends it, and whatever else of its group is left."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(30)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_of(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-6000:]
