"""A model behind an OpenAI-compatible server (vLLM, llama.cpp, Ollama, ``transformers serve``), measured as served.

One :class:`Endpoint` is an engine of :mod:`benchmark.measure` whose batch is the number of requests at once. All counts
are the server's own ``usage``; chunks are never counted as tokens, and a server without usage is refused.

A pass of prefill is ``batch`` requests for one token each, from the first byte sent to the last reply's end. A pass of
decoding is a wave of ``batch`` requests sent at once; what counts of it begins when the last request has its first
token and ends with the last token of the request that ends first. So nobody's prompt is read in it, the batch is full
all the while, and its tokens, seconds and joules belong together; reading prompts and the tail with fewer sequences
count in no window. A token under way at either edge counts by the share of its time. Where a chunk carries no count of
its own (vLLM's does), a reply's tokens are shared out evenly over its chunks.

Every prompt consists of words drawn anew, whatever the seed, so from its first words on no prefix cache has seen it, in
this trial or an earlier one. What a server says it had cached all the same is not counted as read.

Times are those at which bytes arrived here. While a wave runs, arriving bytes are only stamped and kept, and read
afterwards. Each request has a connection of its own: servers drop idle ones as they please. Even so a chunk takes a
tenth of a millisecond of one core: with many requests and short steps they queue up here, stamps come late, and the
time would be this client's and not the server's. What a pass says of the processor time spent on its stamps is
therefore gated (:data:`benchmark.measure.CLIENT_SHARE`). No least step time is, since that depends on this machine's
core and on how the server cuts its chunks.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import json
import random
import statistics
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import httpx

from benchmark.measure import Work
from benchmark.trial import TrialConfig, Weights
from ecoroute_mcp.sci import EcoRouteError

Result = TypeVar("Result")

PROBES = 8
"""How often the length of a prompt is adjusted to what the server counts."""
TOLERANCE = 0.02
"""How far a prompt may be from the length asked, or by two tokens; beyond, the trial would not be what it says."""
PATIENCE_S = 600.0
"""How long a reply may keep silent: a server may load the model at the first request."""
NOTICED_S = 0.5
"""How soon a signal is noticed that came just before the main thread began to wait."""

LENGTH_FIELDS: tuple[dict[str, Any], ...] = (
    {"ignore_eos": True, "min_tokens": 1},
    {"ignore_eos": True},
    {"generation_config": '{"eos_token_id": -1}'},
    {},
)
USAGE_FIELDS: tuple[dict[str, Any], ...] = (
    {"include_usage": True, "continuous_usage_stats": True},
    {"include_usage": True},
)
"""Offered in this order until the server takes one of each. ``min_tokens`` is then the length asked; the third, that no
token ends a sequence, is for ``transformers serve``."""

WORDS = """
time people year way day man thing woman life child world school state family student group country problem hand
part place case week company system program question work government number night point home water room mother
area money story fact month lot right study book eye job word business issue side kind head house service friend
father power hour game line end member law car city community name president team minute idea body information
back parent face others level office door health person art war history party result change reason research girl
moment air teacher force education
"""
"""Common enough to be one token each to almost every tokenizer."""


@dataclass(frozen=True)
class Chunk:
    """What arrived at once of a reply: when, and its tokens where the server counts them chunk by chunk."""

    at_s: float
    tokens: int | None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One streamed reply. ``generated`` and ``prompt`` are the server's usage; ``cached`` is the part of the prompt
    that it had read before."""

    begin_s: float
    end_s: float
    chunks: tuple[Chunk, ...]
    prompt: int
    generated: int
    cached: int

    @classmethod
    def parsed(cls, begin_s: float, end_s: float, pieces: Sequence[tuple[float, bytes]]) -> Reply:
        """From the bytes of a reply and when they arrived.

        Raises EcoRouteError for an error in the stream, for what is no stream of such events, or without usage."""
        chunks: list[Chunk] = []
        usage: dict[str, Any] = {}
        counted = 0
        for at_s, event in _events(pieces):
            if "error" in event:
                raise EcoRouteError(f"the server broke a reply off: {_message(event)}")
            given = _object(event.get("usage") or {}, "usage")
            so_far = _count(given, "completion_tokens")
            usage = usage if so_far is None else given
            choices = event.get("choices") or []
            if not isinstance(choices, list):
                raise _not_of_the_protocol("choices", choices, "a list")
            texts = [_text(_object(choice, "choice")) for choice in choices]
            if any(texts):
                chunks.append(Chunk(at_s, None if so_far is None else so_far - counted))
                counted = counted if so_far is None else so_far
        prompt, generated = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        if prompt is None or generated is None:
            raise EcoRouteError(
                "the server streams no usage, so its tokens cannot be counted: update it to a release that answers "
                'stream_options {"include_usage": true} (vLLM, llama.cpp, Ollama and transformers serve all do)'
            )
        details = _object(usage.get("prompt_tokens_details") or {}, "prompt_tokens_details")
        return cls(
            begin_s=begin_s,
            end_s=end_s,
            chunks=tuple(chunks),
            prompt=prompt,
            generated=generated,
            cached=_count(details, "cached_tokens") or 0,
        )

    def tokens_by(self, at_s: float) -> float:
        """Tokens generated by a moment between the first chunk and the last, the one under way by its share."""
        times = [chunk.at_s for chunk in self.chunks]
        known = [chunk.tokens for chunk in self.chunks if chunk.tokens is not None]
        even = [self.generated / len(times)] * len(times)
        totals = list(itertools.accumulate(known if len(known) == len(times) else even))
        after = min(max(bisect.bisect_left(times, at_s), 1), len(times) - 1)
        before = after - 1
        share = (at_s - times[before]) / (times[after] - times[before]) if times[after] > times[before] else 1.0
        return totals[before] + share * (totals[after] - totals[before])


def _events(pieces: Sequence[tuple[float, bytes]]) -> list[tuple[float, dict[str, Any]]]:
    """The events of a stream, each with the moment that its line was complete."""
    found = []
    rest = b""
    for at_s, piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            content = line.strip().removeprefix(b"data:").strip()
            if not line.startswith(b"data:") or content == b"[DONE]":
                continue
            try:
                event = json.loads(content)
            except ValueError as error:
                raise EcoRouteError(f"the server sent what is no JSON: {content[:80]!r}") from error
            found.append((at_s, _object(event, "event")))
    return found


def _not_of_the_protocol(name: str, found: Any, wanted: str) -> EcoRouteError:
    return EcoRouteError(
        f"the server streams {str(found)[:80]!r} as {name}, where the OpenAI protocol has {wanted}: give --endpoint "
        "the base URL of a server that keeps to it"
    )


def _object(found: Any, name: str) -> dict[str, Any]:
    """What was found, which must be a JSON object."""
    if not isinstance(found, dict):
        raise _not_of_the_protocol(name, found, "an object")
    return found


def _count(counts: dict[str, Any], name: str) -> int | None:
    """A number of tokens, None where it is not said."""
    found = counts.get(name)
    if found is not None and (not isinstance(found, int) or isinstance(found, bool) or found < 0):
        raise _not_of_the_protocol(name, found, "a number of tokens")
    return found


def _text(choice: dict[str, Any]) -> bool:
    """Whether a choice of a chunk carries generated text, thoughts included."""
    delta = _object(choice.get("delta") or {}, "delta")
    return any((choice.get("text"), *(delta.get(name) for name in ("content", "reasoning_content", "reasoning"))))


def _message(document: Any) -> str:
    """The words of an error, whose place differs between servers."""
    for name in ("error", "detail", "message"):
        if isinstance(document, dict) and name in document:
            return _message(document[name])
    return str(document)[:300]


class _Refused(EcoRouteError):
    """An answer other than 200."""

    def __init__(self, status: int, text: str) -> None:
        try:
            said = _message(json.loads(text))
        except ValueError:
            said = text.strip()[:300]
        super().__init__(f"HTTP {status}: {said}" if said else f"HTTP {status}")
        self.status = status


class Endpoint:
    """The model that a server serves. The base URL may end in /v1 or not; the model is named as the server names it.

    Raises EcoRouteError, naming the repair, where no server answers, it does not serve the model, or gives no usage."""

    def __init__(self, config: TrialConfig) -> None:
        if config.endpoint is None or not config.endpoint.startswith(("http://", "https://")):
            raise EcoRouteError(f"an endpoint is a base URL such as http://127.0.0.1:8000/v1; got {config.endpoint!r}")
        self._url = config.endpoint.rstrip("/").removesuffix("/v1")
        self._model = config.model
        self._words = self._batch = 0
        self._asked_prompt = self._asked = 0
        self._waves: list[tuple[Reply, ...]] = []
        self._spent: list[tuple[float, float]] = []
        self._random = random.Random()
        self._client = _client()
        self._loop = asyncio.new_event_loop()
        # in its own thread: a signal raises between any two lines of the main thread, and a loop loses a step by it
        self._requests = threading.Thread(target=self._loop.run_forever, name="requests", daemon=True)
        self._requests.start()
        with ExitStack() as unless_made:
            unless_made.callback(self.close)
            entry, names = self._listed()
            self._route, self._length, self._usage = self._agreed(names)
            self.software = self._versions(entry)
            unless_made.pop_all()
        meta = entry.get("meta")
        parameters = meta.get("n_params") if isinstance(meta, dict) else None
        self.weights = Weights(
            source="served",
            revision=str(entry.get("revision") or entry.get("root") or "not stated"),
            dtype="as the server says: not checked",
            parameters=parameters if isinstance(parameters, int) else None,
        )

    # -- what the server is

    def _listed(self) -> tuple[dict[str, Any], list[str]]:
        """The server's entry for the model, empty if it lists none, and the names of all models that it lists."""
        document = self._document("/v1/models") or {}
        listed = document.get("data")
        entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
        own = next((entry for entry in entries if entry.get("id") == self._model), {})
        return own, [str(entry.get("id")) for entry in entries]

    def _document(self, path: str) -> dict[str, Any] | None:
        """What a GET gives, if that is a JSON object."""
        response = self._run(self._client.get(self._url + path))
        try:
            document = response.json() if response.status_code == 200 else None
        except ValueError:
            return None
        return document if isinstance(document, dict) else None

    def _versions(self, entry: dict[str, Any]) -> dict[str, str]:
        """What serves, in the words of whichever route the server has for it."""
        for name, path, key in (
            ("vllm", "/version", "version"),
            ("ollama", "/api/version", "version"),
            ("llama.cpp", "/props", "build_info"),
        ):
            document = self._document(path)
            if document is not None and key in document:
                return {name: str(document[key])}
        return {"server": str(entry.get("owned_by") or "not stated")}

    def _agreed(self, names: Sequence[str]) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """The first route and fields that the server takes. Raises EcoRouteError where it takes none."""
        said = ""
        for route in ("/v1/completions", "/v1/chat/completions"):
            for length, usage in itertools.product(LENGTH_FIELDS, USAGE_FIELDS):
                self._route, self._length, self._usage = route, length, usage
                try:
                    self._wave([self._prompt(4)], 2)
                except _Refused as error:
                    said = said if error.status == 404 and said else str(error)
                    if error.status in (404, 405):
                        break
                    if error.status not in (400, 422, 501):
                        raise EcoRouteError(f"{self._url} cannot serve {self._model!r}: {error}") from error
                else:
                    return route, length, usage
        listed = f"; it lists {', '.join(names[:10])}" if names else ""
        raise EcoRouteError(
            f"{self._url} does not serve {self._model!r} ({said}){listed}: give --model as the server names it"
        )

    @property
    def step(self) -> str:
        """What serves, and where the last trial's replies were not what was asked or chunks not single tokens."""
        replies = [reply for wave in self._waves for reply in wave]
        said = remarks(replies, self._asked_prompt, self._asked) if replies else ()
        return "; ".join((f"served over {self._route}", *said))

    def step_bytes(self, length: float) -> None:
        """Not known: the weights are not seen."""

    def memory_used_gb(self) -> None:
        """Not known: what a server reserves is not what it uses."""

    # -- passes

    def prompts(self, batch: int, tokens: int, seed: int) -> tuple[int, int]:
        """How many prompts, and of how many words, come to ``tokens`` tokens by the server's count; each is drawn when
        it is sent, never twice, so the seed means nothing here.

        Raises EcoRouteError where no prompt comes near that length."""
        few, half = 2, max(4, tokens // 2)
        found = {words: self._counted(words) for words in (few, half)}
        each = (found[half] - found[few]) / (half - few)
        words = half
        for _ in range(PROBES):
            words = max(1, words + round((tokens - found[words]) / max(each, 0.1)))
            if words in found:
                break
            found[words] = self._counted(words)
        best = min(found, key=lambda count: abs(found[count] - tokens))
        if abs(found[best] - tokens) > max(2, TOLERANCE * tokens):
            raise EcoRouteError(
                f"no prompt of {tokens} tokens could be made: the nearest has {found[best]} by the server's count "
                "(a chat template has a least length): ask for a longer one"
            )
        self._asked_prompt = tokens
        return batch, best

    def _counted(self, words: int) -> int:
        (reply,) = self._wave([self._prompt(words)], 1)
        return reply.prompt

    def admit(self, batch: int, slots: int) -> None:
        """Forget the last trial's replies."""
        self._batch, self._waves = batch, []

    def prefill(self, prompts: tuple[int, int]) -> Work:
        """Have ``batch`` new prompts read, for one token each."""
        batch, self._words = prompts
        replies = self._wave([self._prompt(self._words) for _ in range(batch)], 1)
        span = (min(reply.begin_s for reply in replies), max(reply.end_s for reply in replies))
        tokens = sum(reply.prompt - reply.cached for reply in replies)
        return Work(tokens=tokens, span=span, client_s=self._client_s(*span))

    def capture(self) -> None:
        """Nothing: a server has warmed itself."""

    def decode(self, generated_tokens: int) -> Work:
        """One wave of the admitted batch, with new prompts as long as the last ones.

        Raises EcoRouteError where the requests never all generate at once."""
        replies = self._wave([self._prompt(self._words) for _ in range(self._batch)], generated_tokens)
        self._waves.append(replies)
        self._asked = generated_tokens
        work = decoded(replies)
        return replace(work, client_s=self._client_s(*work.span)) if work.span is not None else work

    def _client_s(self, begin: float, end: float) -> float:
        """The processor time that requests took in a stretch of the last wave, which begins and ends with stamps."""
        moments = [at_s for at_s, _ in self._spent]
        first, last = bisect.bisect_left(moments, begin), bisect.bisect_left(moments, end)
        return self._spent[last][1] - self._spent[first][1]

    def close(self) -> None:
        """Break off what runs and close the connections."""
        self._run(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._requests.join()
        self._loop.close()

    # -- requests

    def _prompt(self, words: int) -> str:
        return " ".join(self._random.choices(WORDS.split(), k=words))

    def _wave(self, prompts: Sequence[str], tokens: int) -> tuple[Reply, ...]:
        """The replies to requests sent at once, of up to so many tokens each."""
        length = {**self._length, "min_tokens": tokens} if "min_tokens" in self._length else self._length
        common = {
            "model": self._model,
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": self._usage,
            **length,
        }
        chat = self._route.endswith("chat/completions")
        bodies = [
            json.dumps(common | ({"messages": [{"role": "user", "content": text}]} if chat else {"prompt": text}))
            for text in prompts
        ]
        return tuple(Reply.parsed(*raw) for raw in self._run(self._together(bodies)))

    async def _together(self, bodies: Sequence[str]) -> list[tuple[float, float, list[tuple[float, bytes]]]]:
        self._spent = []
        tasks = [asyncio.create_task(self._ask(body)) for body in bodies]
        try:
            return await asyncio.gather(*tasks)
        finally:  # the others of a wave that failed or was interrupted
            await _cancelled(tasks)

    async def _ask(self, body: str) -> tuple[float, float, list[tuple[float, bytes]]]:
        """One request: when it was sent and answered, and the bytes of the reply as they arrived."""
        pieces: list[tuple[float, bytes]] = []
        begin_s = self._stamp()
        async with self._client.stream("POST", self._url + self._route, content=body) as response:
            if response.status_code != 200:
                raise _Refused(response.status_code, (await response.aread()).decode(errors="replace"))
            async for piece in response.aiter_raw():
                pieces.append((self._stamp(), piece))
        return begin_s, self._stamp(), pieces

    def _stamp(self) -> float:
        """Now; the processor time spent so far is kept with it."""
        at_s = time.perf_counter()
        self._spent.append((at_s, time.thread_time()))
        return at_s

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        try:
            answers: SimpleQueue[asyncio.Task[Result]] = SimpleQueue()  # no lock that a signal could leave taken
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(work).add_done_callback(answers.put))
            while True:
                with suppress(Empty):
                    return answers.get(timeout=NOTICED_S).result()
        except httpx.ConnectError as error:
            raise EcoRouteError(
                f"no server answers at {self._url} ({error}): start it, or give its base URL with --endpoint"
            ) from error
        except httpx.InvalidURL as error:
            raise EcoRouteError(
                f"{self._url} is no URL ({error}): give --endpoint a base URL such as http://127.0.0.1:8000/v1"
            ) from error
        except httpx.HTTPError as error:
            raise EcoRouteError(f"{self._url} failed: {type(error).__name__} {error}".rstrip()) from error

    async def _shut(self) -> None:
        await _cancelled(asyncio.all_tasks() - {asyncio.current_task()})
        await self._client.aclose()


def decoded(replies: Sequence[Reply]) -> Work:
    """What counts of a wave: from the last first token to the first last one.

    Raises EcoRouteError where there is no such time, or where a reply's chunks are too few to time a token."""
    if any(len(reply.chunks) < 2 for reply in replies):
        raise EcoRouteError(
            "a reply came in fewer than two pieces: it is not streamed, or its sequence ended at once; generate more "
            "tokens, or use a server that streams"
        )
    begin = max(reply.chunks[0].at_s for reply in replies)
    end = min(reply.chunks[-1].at_s for reply in replies)
    moments = [[chunk.at_s for chunk in reply.chunks if begin <= chunk.at_s <= end] for reply in replies]
    steps = tuple(after - before for times in moments for before, after in itertools.pairwise(times))
    if end <= begin or not steps:
        raise EcoRouteError(
            f"the server did not generate for {len(replies)} requests at once: the first was done before the last "
            "began. Let it run as many (vLLM --max-num-seqs, llama.cpp --parallel, OLLAMA_NUM_PARALLEL, transformers "
            "serve --continuous-batching), or generate more tokens"
        )
    tokens = round(sum(reply.tokens_by(end) - reply.tokens_by(begin) for reply in replies))
    return Work(tokens=tokens, steps=steps, span=(begin, end))


def remarks(replies: Sequence[Reply], prompt_tokens: int, generated_tokens: int) -> tuple[str, ...]:
    """Where replies were on average not what was asked, and chunks not single tokens, in words."""
    prompt = statistics.fmean(reply.prompt for reply in replies)
    generated = statistics.fmean(reply.generated for reply in replies)
    in_chunk = generated / statistics.fmean(len(reply.chunks) for reply in replies)
    said = []
    if prompt != prompt_tokens:
        said.append(f"prompts of {prompt:.1f} tokens, {prompt_tokens} asked")
    if generated != generated_tokens:
        said.append(f"{generated:.1f} tokens generated, {generated_tokens} asked")
    if in_chunk > 1.005:
        said.append(f"{in_chunk:.2f} tokens in a chunk: step_ms is from chunk to chunk")
    return tuple(said)


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(
        timeout=httpx.Timeout(PATIENCE_S, connect=10.0),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        headers={"content-type": "application/json", "accept-encoding": "identity"},
        trust_env=False,
    )


async def _cancelled(tasks: Any) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
