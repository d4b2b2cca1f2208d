"""A stand-in for a vLLM server that steers: the same routes, answered by a `SteeredModel`.

It shows that the client says what it means, without vLLM; `tests/with_vllm` asks the real one.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from pasta_chains import HeadProfile, SpanStr, SteeredModel
from pasta_chains.errors import PastaError
from pasta_chains.prompts import TokenizedPrompt
from pasta_chains.streaming import StopStrings
from pasta_chains.vllm.reading import weights_of
from pasta_chains.vllm.settings import Settings
from pasta_chains.wire import KEY, Emphasis


@dataclass
class FakeServer:
    """What a test may look at and change.

    Attributes:
        model: Answers.
        url: Where it is.
        asked: The bodies of all requests for answers.
        refuse: A status and an error for all further requests, if there is one.
        about: What it says of itself instead of the truth.
        wait: What each answer waits for.
        reason: Why each answer ended, instead of the truth.
        steers: Whether it has the routes of a server that steers.
        gone: Requests whose client went away.
    """

    model: SteeredModel
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    refuse: tuple[int, str] | None = None
    about: dict[str, Any] = field(default_factory=dict)
    wait: threading.Event | None = None
    reason: str | None = "true"
    steers: bool = True
    gone: threading.Event = field(default_factory=threading.Event)

    def describe(self) -> dict[str, Any]:
        profile = self.model.profile or HeadProfile({})
        told = {
            "version": "0.0",
            "schema": 1,
            "model": "served",
            "context_length": self.model.context_length,
            "layers": len(self.model.head_counts),
            "heads": max(self.model.head_counts.values()),
            "generation": {"eos_token_id": self.model.model.generation_config.eos_token_id},
            "digest": Settings(profile).digest,
            "profile": profile.to_dict(),
        }
        return told | self.about

    def tokenizer(self) -> dict[str, str]:
        with tempfile.TemporaryDirectory() as folder:
            self.model.tokenizer.save_pretrained(folder)
            return {file.name: file.read_text("utf-8") for file in Path(folder).iterdir()}

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = TokenizedPrompt(SpanStr(), body["prompt"], self._bias(body))
        inputs = self.model.inputs_of([prompt], left=True)
        width = len(prompt.ids)
        stop = StopStrings(self.model.tokenizer, body.get("stop") or [], width)
        output = self.model.model.generate(
            **inputs,
            max_new_tokens=body["max_tokens"],
            do_sample=False,
            stopping_criteria=[stop],
            output_logits=True,
            return_dict_in_generate=True,
        )
        ids = output.sequences[0, width:].tolist()
        ended = ids[-1] == self.model.model.generation_config.eos_token_id
        ended = ended or stop.length(ids) is not None
        logs = torch.stack(output.logits)[:, 0].log_softmax(-1)
        choice = {
            "index": 0,
            "text": "",
            "token_ids": ids,
            "finish_reason": ("stop" if ended else "length")
            if self.reason == "true"
            else self.reason,
            "logprobs": _logprobs(ids, logs, body.get("logprobs")),
            "prompt_logprobs": self._prompt_logprobs(prompt) if "prompt_logprobs" in body else None,
        }
        return {
            "id": "1", "object": "text_completion", "created": 1, "model": "served",
            "choices": [{**choice, "index": number} for number in range(body.get("n") or 1)],
        }  # fmt: skip

    def _bias(self, body: dict[str, Any]) -> list[float]:
        ids = body["prompt"]
        told = (body.get("vllm_xargs") or {}).get(KEY)
        if told is None:
            return [0.0] * len(ids)
        settings = Settings(self.model.profile or HeadProfile({}))
        weights = weights_of(settings, Emphasis.parse(told), len(ids))
        logs = [0.0] * len(ids)
        if weights is None:
            return logs
        for start, end, log in weights.runs:
            logs[start:end] = [log] * (end - start)
        return [log - weights.generated for log in logs]

    def _prompt_logprobs(self, prompt: TokenizedPrompt) -> list[dict[str, Any] | None]:
        with torch.no_grad():
            logits = self.model.model(**self.model.inputs_of([prompt], left=True)).logits[0]
        logs = logits.log_softmax(-1)
        told = [
            {str(token): {"logprob": float(log[token])}}
            for log, token in zip(logs, prompt.ids[1:], strict=False)
        ]
        return [None, *told]


def _logprobs(ids: list[int], logs: torch.Tensor, wanted: int | None) -> dict[str, Any] | None:
    if wanted is None:
        return None
    tops = [log.topk(max(wanted, 1)) for log in logs]
    return {
        "tokens": [f"token_id:{token}" for token in ids],
        "token_logprobs": [float(log[token]) for log, token in zip(logs, ids, strict=True)],
        "top_logprobs": [
            {
                f"token_id:{token}": value
                for value, token in zip(*map(list, _lists(top)), strict=True)
            }
            for top in tops
        ],
    }


def _lists(top: Any) -> tuple[list[float], list[int]]:
    return top.values.tolist(), top.indices.tolist()


def _chunks(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """An answer token by token, as vLLM streams it."""
    (choice,) = answer["choices"]
    for place, token in enumerate(choice["token_ids"]):
        last = place == len(choice["token_ids"]) - 1
        told = choice["logprobs"] and {
            name: values[place : place + 1] for name, values in choice["logprobs"].items()
        }
        reason = choice["finish_reason"] if last else None
        piece = {**choice, "token_ids": [token], "finish_reason": reason, "logprobs": told}
        yield {**answer, "choices": [piece]}


@contextmanager
def fake_server(model: SteeredModel) -> Iterator[FakeServer]:
    """Serve a model on a free port of this machine."""
    server = FakeServer(model)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            if server.refuse or not server.steers:
                self._send(*(server.refuse or (404, "Not Found")))
            elif self.path.endswith("/tokenizer"):
                self._send(200, server.tokenizer())
            else:
                self._send(200, server.describe())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.asked.append(body)
            if server.refuse or (self.path != "/v1/completions" and not server.steers):
                return self._send(*(server.refuse or (404, "Not Found")))
            try:
                answer = server.complete(body)
            except PastaError as error:
                return self._send(400, str(error))
            return self._stream(answer) if body.get("stream") else self._send(200, answer)

        def _send(self, status: int, told: Any) -> None:
            if server.wait:
                server.wait.wait()
            data = {"error": {"message": told}} if isinstance(told, str) else told
            text = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _stream(self, answer: dict[str, Any]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            try:
                for chunk in _chunks(answer):
                    self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                    if server.wait:
                        server.wait.wait(0.1)
                self.wfile.write(b"data: [DONE]\n\n")
            except (BrokenPipeError, ConnectionResetError):
                server.gone.set()

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
