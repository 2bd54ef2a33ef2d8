"""Timing a server by a client that is itself too busy: what a pass says of it, and the gate."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmark.endpoint import Endpoint
from benchmark.measure import CLIENT_SHARE, Work, measure
from benchmark.thermal import Guard
from benchmark.trial import TrialConfig
from tests.benchmark.test_endpoint import sse, text, usage
from tests.benchmark.test_measure import METRONOMIC, Metronome


@contextmanager
def streaming(pace_s: float) -> Iterator[str]:
    """A server that streams a token to each request every so often; yields its base URL."""
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()
            for _ in range(body["max_tokens"]):
                done.wait(pace_s)
                self.wfile.write(sse(text(" word")))
            final = usage(len(body["prompt"].split()), body["max_tokens"])
            self.wfile.write(sse({"choices": [], "usage": final}, None))

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64
        daemon_threads = False

    with Server(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            done.set()
            http.shutdown()
            thread.join()


def decoded(pace_s: float, batch: int) -> tuple[Work, float]:
    """A wave of 24 tokens, and the processor time that all of it took the thread of the requests."""
    with streaming(pace_s) as url:
        config = TrialConfig(
            model="a model", precision="as-served", batch=batch, prompt_tokens=8, generated_tokens=24, endpoint=url
        )
        with closing(Endpoint(config)) as endpoint:
            endpoint.admit(batch, 32)
            read = endpoint.prefill(endpoint.prompts(batch, 8, 0))
            assert read.span is not None
            assert 0 < read.client_s <= read.span[1] - read.span[0]
            (requests,) = (thread.ident for thread in threading.enumerate() if thread.name == "requests")
            assert requests is not None
            clock = time.pthread_getcpuclockid(requests)
            before_s = time.clock_gettime(clock)
            work = endpoint.decode(24)
            return work, time.clock_gettime(clock) - before_s


def test_a_pass_says_what_processor_time_its_stamps_took() -> None:
    calm, all_of_it_s = decoded(0.02, 1)
    assert calm.span is not None
    assert calm.span[1] - calm.span[0] >= 23 * 0.02
    assert 0 < calm.client_s < all_of_it_s  # connecting, sending and parsing are not in the stretch
    many, all_of_many_s = decoded(0.02, 8)
    assert calm.client_s < many.client_s < all_of_many_s


@pytest.mark.parametrize(
    ("client_s", "gates"),
    [(0.0029, ()), (0.0071, ("decode was timed by a client busy for 71% > 30% of the time",))],
)
def test_a_client_that_was_too_busy_is_a_gate(tmp_path: Path, client_s: float, gates: tuple[str, ...]) -> None:
    class Served(Metronome):
        def decode(self, generated_tokens: int) -> Work:
            begin = float(len(self.counted))
            self.counted.append((begin, begin + 0.01))
            return Work(tokens=5, steps=(0.002,) * 5, span=(begin, begin + 0.01), client_s=client_s)

    assert CLIENT_SHARE == 0.3
    trial = measure(
        METRONOMIC,
        Served(),
        meter=None,
        guard=Guard(zones=tmp_path),
        software={},
        copy_gb_per_s=None,
        quality=None,
    )
    assert tuple(gate for gate in trial.gates_failed if "client" in gate) == gates
