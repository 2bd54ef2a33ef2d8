"""Endpoints: replies by hand, servers that replay what real ones said, and a real ``transformers serve``."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmark import measure as measuring
from benchmark.endpoint import WORDS, Chunk, Endpoint, Reply, decoded, remarks
from benchmark.interruption import Interruption
from benchmark.measure import measure
from benchmark.meter import Recording, ReplayMeter
from benchmark.thermal import Guard
from benchmark.trial import TrialConfig
from ecoroute_mcp.sci import EcoRouteError

RECORDING = Recording.load(Path(__file__).parent / "recordings" / "h100-idle-load-idle.jsonl")
CONFIG = TrialConfig(
    model="a model",
    precision="as-served",
    batch=2,
    prompt_tokens=32,
    generated_tokens=16,
    repeats=2,
    window_s=0.5,
    device="cpu",
    endpoint="http://127.0.0.1:9/v1",
)

# -- replies


def reply(*at_s: float, generated: int | None = None, tokens: tuple[int, ...] | None = None) -> Reply:
    counts = tokens or (None,) * len(at_s)
    chunks = tuple(Chunk(moment, count) for moment, count in zip(at_s, counts, strict=True))
    total = sum(tokens) if tokens else len(at_s)
    return Reply(begin_s=0.0, end_s=99.0, chunks=chunks, prompt=7, generated=generated or total, cached=0)


def test_a_single_request_counts_all_but_its_first_token() -> None:
    work = decoded([reply(1.0, 1.5, 2.0, 3.0)])
    assert (work.tokens, work.span, work.steps) == (3, (1.0, 3.0), (0.5, 0.5, 1.0))


def test_a_wave_counts_from_the_last_first_token_to_the_first_end() -> None:
    early = reply(1.0, 2.0, 3.0, 4.0, 5.0)
    late = reply(3.0, 4.0, 5.0, 6.0, 7.0)
    work = decoded([early, late])
    assert (work.tokens, work.span, work.steps) == (4, (3.0, 5.0), (1.0, 1.0, 1.0, 1.0))


def test_a_token_under_way_at_an_edge_counts_by_its_share() -> None:
    first = reply(1.0, 2.0, 3.0, 4.0)
    second = reply(1.5, 2.5, 3.5, 4.5)  # half a step later all along
    assert first.tokens_by(1.5) == 1.5
    assert second.tokens_by(4.0) == 3.5
    work = decoded([first, second])
    assert (work.tokens, work.span) == (5, (1.5, 4.0))  # 2.5 s for two sequences at a token a second
    jitter = decoded([reply(1.0, 2.0, 3.0, 4.0), reply(1.001, 2.001, 3.001, 4.001)])
    assert jitter.tokens == 6  # as if in step


def test_tokens_are_the_servers_count_not_the_chunks() -> None:
    pairs = reply(1.0, 2.0, 3.0, 4.0, generated=8)
    assert decoded([pairs]).tokens == 6
    uneven = reply(1.0, 2.0, 3.0, 4.0, tokens=(1, 3, 1, 2))
    assert decoded([uneven]).tokens == 6
    assert decoded([uneven]).steps == (1.0, 1.0, 1.0)


def test_a_sequence_that_ends_early_ends_the_stretch() -> None:
    assert decoded([reply(1.0, 2.0, 3.0, 4.0, 5.0), reply(1.0, 2.0, 3.0)]).span == (1.0, 3.0)


def test_what_was_not_as_asked_is_remarked() -> None:
    assert remarks([reply(1.0, 2.0, 3.0, 4.0)], 7, 4) == ()
    assert remarks([reply(1.0, 2.0, 3.0, 4.0, generated=8), reply(1.0, 2.0)], 8, 8) == (
        "prompts of 7.0 tokens, 8 asked",
        "5.0 tokens generated, 8 asked",
        "1.67 tokens in a chunk: step_ms is from chunk to chunk",
    )


def test_a_server_that_takes_one_request_at_a_time_is_refused() -> None:
    with pytest.raises(EcoRouteError, match=r"for 2 requests at once.*OLLAMA_NUM_PARALLEL"):
        decoded([reply(1.0, 2.0, 3.0), reply(4.0, 5.0, 6.0)])
    with pytest.raises(EcoRouteError, match="fewer than two pieces: it is not streamed"):
        decoded([reply(1.0, 2.0), reply(3.0)])


def sse(*events: Any) -> bytes:
    return b"".join(b"data: " + (b"[DONE]" if e is None else json.dumps(e).encode()) + b"\n\n" for e in events)


def text(piece: str, **more: Any) -> dict[str, Any]:
    return {"object": "text_completion", "choices": [{"index": 0, "text": piece, "finish_reason": None}], **more}


def usage(prompt: int, generated: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated, **more}


def test_an_event_has_the_time_at_which_its_line_was_complete() -> None:
    whole = sse(text(" one"), text(" two"), {"choices": [], "usage": usage(5, 2)}, None)
    cut = whole.index(b" two")
    got = Reply.parsed(0.5, 9.0, [(1.0, whole[:cut]), (2.0, whole[cut:])])
    assert [chunk.at_s for chunk in got.chunks] == [1.0, 2.0]
    assert (got.prompt, got.generated, got.cached, got.begin_s, got.end_s) == (5, 2, 0, 0.5, 9.0)


def test_usage_in_every_chunk_counts_each_chunks_tokens() -> None:
    stream = sse(
        text(" one", usage=usage(5, 1)),
        text(" two three", usage=usage(5, 3)),
        {"choices": [], "usage": usage(5, 3, prompt_tokens_details={"cached_tokens": 4})},
        None,
    )
    got = Reply.parsed(0.0, 3.0, [(1.0, stream)])
    assert [chunk.tokens for chunk in got.chunks] == [1, 2]
    assert got.cached == 4


def test_chat_chunks_and_thoughts_carry_tokens_and_a_role_alone_does_not() -> None:
    deltas: tuple[dict[str, Any], ...] = (
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"content": "yes"},
        {},
    )
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    got = Reply.parsed(0.0, 3.0, [(1.0, sse(*events, {"choices": [], "usage": usage(5, 2)}))])
    assert len(got.chunks) == 2


def test_a_stream_without_usage_or_with_an_error_is_refused() -> None:
    with pytest.raises(EcoRouteError, match=r"streams no usage.*update it to a release"):
        Reply.parsed(0.0, 1.0, [(0.5, sse(text(" one"), None))])
    with pytest.raises(EcoRouteError, match="broke a reply off: out of memory"):
        Reply.parsed(0.0, 1.0, [(0.5, sse(text(" one"), {"error": {"message": "out of memory"}}))])
    with pytest.raises(EcoRouteError, match="what is no JSON"):
        Reply.parsed(0.0, 1.0, [(0.5, b"data: <html>\n\n")])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"data: 5", "'5' as event, where the OpenAI protocol has an object"),
        (b"data: null", "'None' as event, where the OpenAI protocol has an object"),
        (b'data: ["error"]', "as event, where the OpenAI protocol has an object"),
        (b'data: {"choices": [null]}', "'None' as choice, where the OpenAI protocol has an object"),
        (b'data: {"choices": [{"text": "a"}, 7]}', "'7' as choice, where the OpenAI protocol has an object"),
        (b'data: {"choices": 5}', "'5' as choices, where the OpenAI protocol has a list"),
        (b'data: {"choices": [{"delta": "a"}]}', "'a' as delta, where the OpenAI protocol has an object"),
        (b'data: {"usage": 5}', "'5' as usage, where the OpenAI protocol has an object"),
        (b'data: {"usage": {"completion_tokens": "2"}}', "'2' as completion_tokens, where .* a number of tokens"),
        (b'data: {"usage": {"completion_tokens": true}}', "'True' as completion_tokens, where .* a number of tokens"),
        (b'data: {"usage": {"completion_tokens": 2, "prompt_tokens": -1}}', "'-1' as prompt_tokens"),
        (
            b'data: {"usage": {"completion_tokens": 2, "prompt_tokens": 1, "prompt_tokens_details": 3}}',
            "'3' as prompt_tokens_details",
        ),
        (
            b'data: {"usage": {"completion_tokens": 2, "prompt_tokens": 1, "prompt_tokens_details": '
            b'{"cached_tokens": 0.5}}}',
            "'0.5' as cached_tokens",
        ),
    ],
)
def test_events_of_another_form_are_refused(line: bytes, said: str) -> None:
    with pytest.raises(EcoRouteError, match=f"^the server streams .*{said}.*: give --endpoint the base URL"):
        Reply.parsed(0.0, 1.0, [(0.5, line + b"\n\n")])


# -- servers that replay

Answer = tuple[int, bytes]


@contextmanager
def server(answer: Callable[[str, dict[str, Any]], Answer]) -> Iterator[str]:
    """A server on a free port that answers requests by a function of path and body; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(*answer(self.path, {}))

        def do_POST(self) -> None:
            self._send(*answer(self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = False  # so that closing waits for them

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that broke off is part of a test."""

    with Server(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


def words_of(body: dict[str, Any]) -> list[str]:
    prompt: str = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
    return prompt.split()


def obliging(path: str, body: dict[str, Any], template: int = 0) -> Answer:
    """Counts one token a word and some for a template, and generates what is asked."""
    if not body:
        return 404, b"{}"
    prompt, generated = len(words_of(body)) + template, body["max_tokens"]
    return 200, sse(
        *(text(" word") for _ in range(generated)), {"choices": [], "usage": usage(prompt, generated)}, None
    )


def at(url: str, **changes: Any) -> TrialConfig:
    return replace(CONFIG, endpoint=url, **changes)


def test_no_server_is_told_with_its_repair() -> None:
    with socket.socket() as probe:  # a port that nobody listens on
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(EcoRouteError, match=f"no server answers at {url} .*start it, or give its base URL"):
        Endpoint(at(url + "/v1"))
    with pytest.raises(EcoRouteError, match="a base URL such as"):
        Endpoint(at("localhost:8000"))
    with pytest.raises(EcoRouteError, match=r"http://127\.0\.0\.1:x is no URL .*: give --endpoint a base URL such as"):
        Endpoint(at("http://127.0.0.1:x"))


def test_an_unknown_model_is_told_with_the_servers_words_and_models() -> None:
    def vllm(path: str, body: dict[str, Any]) -> Answer:
        if path == "/v1/models":
            return 200, json.dumps({"object": "list", "data": [{"id": "Qwen/Qwen3-8B"}, {"id": "lora"}]}).encode()
        error = {"message": "The model `a model` does not exist.", "type": "NotFoundError", "code": 404}
        return 404, json.dumps({"error": error}).encode()

    with server(vllm) as url, pytest.raises(EcoRouteError) as told:
        Endpoint(at(url))
    assert str(told.value) == (
        f"{url} does not serve 'a model' (HTTP 404: The model `a model` does not exist.); it lists Qwen/Qwen3-8B, "
        "lora: give --model as the server names it"
    )


@pytest.mark.parametrize("listed", [b"5", b"null", b'{"data": 5}', b'{"data": [5, {"id": "a model", "meta": 5}]}'])
def test_a_list_of_models_of_another_form_says_nothing_of_the_model(listed: bytes) -> None:
    def odd(path: str, body: dict[str, Any]) -> Answer:
        return (200, listed) if path == "/v1/models" else obliging(path, body)

    with server(odd) as url, closing(Endpoint(at(url))) as endpoint:
        assert (endpoint.weights.revision, endpoint.weights.parameters) == ("not stated", None)


def test_a_server_without_usage_is_refused() -> None:
    def silent(path: str, body: dict[str, Any]) -> Answer:
        return (200, sse(text(" one"), text(" two"), None)) if body else (404, b"")

    with server(silent) as url, pytest.raises(EcoRouteError, match="streams no usage"):
        Endpoint(at(url))


def test_a_failing_server_is_told_in_its_own_words() -> None:
    def broken(path: str, body: dict[str, Any]) -> Answer:
        return (500, b"Internal Server Error") if body else (500, b"")

    with server(broken) as url, pytest.raises(EcoRouteError, match="cannot serve 'a model': HTTP 500: Internal Server"):
        Endpoint(at(url + "/v1/"))


def test_fields_that_a_server_refuses_are_left_out_and_the_length_is_meant_where_it_can_be() -> None:
    bodies: list[dict[str, Any]] = []

    def strict(path: str, body: dict[str, Any]) -> Answer:
        if "min_tokens" in body or "continuous_usage_stats" in body.get("stream_options", {}):
            return 422, json.dumps({"detail": "Unexpected fields in the request"}).encode()
        bodies.append(body)
        return obliging(path, body)

    with server(strict) as url, closing(Endpoint(at(url))) as endpoint:
        endpoint.admit(1, 48)
        assert endpoint.prefill(endpoint.prompts(1, 32, 0)).tokens == 32
    (last,) = bodies[-1:]
    assert {name: value for name, value in last.items() if name != "prompt"} == {
        "model": "a model",
        "max_tokens": 1,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }


def test_a_server_with_chat_alone_is_asked_by_chat_and_its_template_counted() -> None:
    def chat(path: str, body: dict[str, Any]) -> Answer:
        return obliging(path, body, template=29) if path == "/v1/chat/completions" else (404, b"404 page not found")

    with server(chat) as url, closing(Endpoint(at(url))) as endpoint:
        assert endpoint.prompts(2, 32, 0) == (2, 3)
        assert endpoint.prompts(4, 256, 0) == (4, 227)
        with pytest.raises(EcoRouteError, match=r"no prompt of 16 tokens could be made: the nearest has 30"):
            endpoint.prompts(1, 16, 0)
        assert endpoint.step == "served over /v1/chat/completions"


def test_prompts_come_near_the_length_also_where_words_are_several_tokens() -> None:
    def thrice(path: str, body: dict[str, Any]) -> Answer:
        return (
            (200, sse(text("a"), {"choices": [], "usage": usage(3 * len(words_of(body)) + 1, 1)}))
            if body
            else (404, b"")
        )

    with server(thrice) as url, closing(Endpoint(at(url))) as endpoint:
        assert endpoint.prompts(1, 256, 0) == (1, 85)


def test_no_two_prompts_begin_alike_and_cached_tokens_are_not_read() -> None:
    seen: list[tuple[str, ...]] = []

    def caching(path: str, body: dict[str, Any]) -> Answer:
        if not body:
            return 404, b""
        seen.append(tuple(words_of(body)[:8]))
        final = usage(len(words_of(body)), 1, prompt_tokens_details={"cached_tokens": 1})
        return 200, sse(text("a"), {"choices": [], "usage": final})

    with server(caching) as url:
        for _ in range(2):  # a second trial of the same configuration
            with closing(Endpoint(at(url))) as endpoint:
                endpoint.admit(16, 48)
                prompts = endpoint.prompts(16, 32, 0)
                for _ in range(3):
                    work = endpoint.prefill(prompts)
                    assert work.tokens == 16 * 31
                    assert work.span is not None
                    assert 0 < work.span[1] - work.span[0] < 5
    long = [words for words in seen if len(words) == 8]
    assert len(long) > 96
    assert len(set(long)) == len(long)
    assert len(WORDS.split()) == 97


def test_what_the_server_lists_of_itself_is_kept() -> None:
    def llama(path: str, body: dict[str, Any]) -> Answer:
        if path == "/props":
            return 200, b'{"build_info": "b6100-abc"}'
        if path == "/v1/models":
            entry = {"id": "a model", "owned_by": "llamacpp", "meta": {"n_params": 134515008}}
            return 200, json.dumps({"data": [entry]}).encode()
        return obliging(path, body)

    with server(llama) as url, closing(Endpoint(at(url))) as endpoint:
        assert endpoint.software == {"llama.cpp": "b6100-abc"}
        assert endpoint.weights.parameters == 134515008
        assert (endpoint.weights.source, endpoint.weights.revision) == ("served", "not stated")
        assert endpoint.weights.dtype == "as the server says: not checked"


def test_an_interrupt_breaks_the_wave_off_and_leaves_nothing() -> None:
    held, release = threading.Event(), threading.Event()

    def holding(path: str, body: dict[str, Any]) -> Answer:
        if body and body["max_tokens"] == 16:
            held.set()
            release.wait(30)
        return obliging(path, body)

    def press() -> None:
        assert held.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    threads = set(threading.enumerate())
    with server(holding) as url, closing(Endpoint(at(url))) as endpoint:
        endpoint.admit(4, 48)
        endpoint.prefill(endpoint.prompts(4, 32, 0))
        presser = threading.Thread(target=press)
        presser.start()
        begin = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            endpoint.decode(16)
        assert time.perf_counter() - begin < 5
        release.set()
        presser.join()
    signal.signal(signal.SIGINT, before)
    assert set(threading.enumerate()) <= threads


PRESSER = """
import os, random, signal, socket, time
drawn = random.Random(1)
with socket.create_server(("127.0.0.1", 0)) as listening:
    print(listening.getsockname()[1], flush=True)
    while True:
        connection, _ = listening.accept()
        until = time.perf_counter() + drawn.uniform(0, 0.001)
        while time.perf_counter() < until:
            pass
        os.kill(os.getppid(), signal.SIGTERM)
"""
"""A process that interrupts whoever connects to it, in that moment or within a millisecond; it answers nobody."""


def test_an_interrupt_is_never_lost_while_a_connection_is_made() -> None:
    threads = set(threading.enumerate())
    with subprocess.Popen([sys.executable, "-c", PRESSER], stdout=subprocess.PIPE, text=True) as presser:
        assert presser.stdout is not None
        url = f"http://127.0.0.1:{int(presser.stdout.readline())}"
        try:
            for _ in range(150):
                with Interruption() as asked, pytest.raises(KeyboardInterrupt), asked.admitted():
                    Endpoint(at(url))
        finally:
            presser.kill()
    assert set(threading.enumerate()) <= threads


# -- a real server


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """``transformers serve`` with SmolLM2 on a free port: its base URL and the model's name."""
    for needed in ("torch", "transformers", "fastapi", "uvicorn", "openai"):
        pytest.importorskip(needed, reason="needs transformers serve: pip install '.[benchmark,test]'")
    folder = request.getfixturevalue("smollm2_folder")
    log = tmp_path_factory.mktemp("served") / "log"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--continuous-batching", "--cb-num-blocks", "64", "--device", "cpu", "--host", "127.0.0.1"]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), *options]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--port", str(port)], env=environment, stdout=output, stderr=output)
        url = f"http://127.0.0.1:{port}"
        try:
            until = time.monotonic() + 240
            while not _healthy(url):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                threading.Event().wait(0.2)
            yield f"{url}/v1", str(folder)
        finally:
            process.kill()
            process.wait()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def endpoint(served: tuple[str, str]) -> Iterator[Endpoint]:
    url, model = served
    engine = Endpoint(at(url, model=model))
    yield engine
    engine.close()


def test_a_real_servers_tokens_are_its_usage(endpoint: Endpoint) -> None:
    endpoint.admit(2, 48)
    prompts = endpoint.prompts(2, 32, 0)
    read = endpoint.prefill(prompts)
    assert abs(read.tokens - 64) <= 4
    begin = time.perf_counter()
    work = endpoint.decode(16)
    seconds = time.perf_counter() - begin
    (replies,) = endpoint._waves
    assert [reply.generated for reply in replies] == [16, 16]
    assert work.span is not None
    assert begin < work.span[0] < work.span[1] < begin + seconds
    assert 20 <= work.tokens <= 30
    assert all(0 < step < seconds for step in work.steps)
    assert endpoint.software == {"server": "not stated"}


@pytest.mark.parametrize("metered", [False, True])
def test_a_real_server_goes_through_a_whole_trial(
    served: tuple[str, str], endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, metered: bool
) -> None:
    for name in ("IDLE_S", "IDLE_SETTLE_S", "WARM_S"):
        monkeypatch.setattr(measuring, name, 0.5)
    url, model = served
    begin = time.perf_counter()
    trial = measure(
        at(url, model=model),
        endpoint,
        meter=ReplayMeter(RECORDING) if metered else None,
        guard=Guard(zones=tmp_path),
        software=endpoint.software,
        copy_gb_per_s=None,
        quality=None,
        no_energy="no RAPL on this machine",
    )
    seconds = time.perf_counter() - begin
    for phase in (trial.prefill, trial.decode):
        assert len(phase.windows) == 2
        for window in phase.windows:
            assert 0.5 <= window.seconds < seconds
            assert (window.energy_j is not None) == metered
            if window.energy_j is not None:
                assert 60 < window.energy_j / window.seconds < 750  # the recording's watts
    counted = sum(window.seconds for phase in (trial.prefill, trial.decode) for window in phase.windows)
    assert counted < seconds
    waves = endpoint._waves
    assert sum(window.tokens for window in trial.decode.windows) <= sum(r.generated for wave in waves for r in wave)
    slowest, fastest = trial.step_ms["max"] / 1e3, trial.step_ms["p50"] / 1e3
    assert 2 / slowest < trial.decode.tokens_per_s.mean < 2 * 2 / fastest  # two sequences, a token a step each
    assert trial.energy_source == ("counter" if metered else "none")
    assert trial.unavailable.get("energy") == (None if metered else "no RAPL on this machine")
    assert trial.unavailable["bandwidth_fraction"] == "the bytes that a step must move are not known"
    assert trial.unavailable["memory_used_gb"] == "what a server reserves is not what it uses"
    assert (trial.weights.source, trial.weights.parameters, trial.quality) == ("served", None, None)
    assert trial.step.startswith("served over /v1/completions")


def test_a_real_server_refuses_another_model(served: tuple[str, str]) -> None:
    url, _ = served
    with pytest.raises(EcoRouteError, match=r"does not serve 'gpt-5' .*pinned to.*give --model as the server names it"):
        Endpoint(at(url, model="gpt-5"))
