"""Any spelling of a model id -> the one canonical id, or suggestions. Never a guess.

A spelling is a canonical id wrapped in parts that say who serves the model, not which model it is: a route
(``openrouter/anthropic/``), a cloud's prefix and revision (``us.anthropic.`` ... ``-v1:0``), the day of a snapshot
(``-20250929``), a tuning or number format (``-instruct``, ``-fp8``). :meth:`Identity.resolve` takes such parts off from
the outside in, looks the rest up after each step, and names everything it removed. Punctuation does not count
(``gpt-5.1`` = ``gpt-5-1`` = ``GPT 5.1``), and neither does a hyphen between a letter and a digit (``llama3.1`` =
``llama-3.1``).

What is never taken off: any word that may change the price or the energy (``pro``, ``fast``, ``batch``, ``mini``,
``highspeed``, ``codex-max``, a size). A spelling with such a word resolves only if the catalogue has that very model.
A reasoning effort (``-high``, ``:thinking``, ``(xhigh)``) is a setting of a model, not another model: it comes back as
``Match.effort``, unless the catalogue has a model of that name (``kimi-k2-thinking``) or the model does not reason.

A snapshot that is sold at a price of its own (``gpt-4o-2024-05-13``) is another product: the catalogue lists those, and
no day is taken off them.

A size after the name (``mistral-nemo:12b``) is accepted only where it is the published size of exactly that model.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ecoroute_mcp.catalogue import Alias, Effort, Model
from ecoroute_mcp.sci import EcoRouteError, shown

_LONGEST = 300  # characters; the longest id that any catalogue read so far has is under 120
_COMPLETIONS = 100
_SUGGESTIONS = 3
_SIZE_TOLERANCE = 0.03  # a tag says 671b where the model card counts 685: the same weights with and without one module

_ROUTE_NAMES = """
    @cf @hf @oi abacus accounts ai-gateway ai21 aiand aihubmix alibaba amazon amazon-bedrock amazon-nova anthropic apac
    ark azure azure-openai azure_ai azure_openai baichuan baidu bailian bartowski baseten bedrock bedrock_converse
    bedrock_mantle bigmodel bytedance bytedance-seed cerebras chat-completion chatgpt chutes chutesai claude_platform
    clf_ai_gateway cline cline-pass cloudflare cloudflare-ai-gateway cohere cohere_chat coherelabs completion copilot
    copilot_chat coralbricks cortecs crusoe cursor dashscope databricks deepinfra deepseek deepseek-ai edenai eu
    featherless fireworks fireworks-ai fireworks_ai flexai friendli friendliai gemini ggml-org github github-copilot
    github-models github_copilot global global-standard gmi google google-ai-studio google-vertex google_ai gradient_ai
    grok groq heroku hf hf.co hostinger_router huggingface huggingface.co hyperbolic ibm ibm-granite inception
    inclusionai inference inferenceapis ionos kilo kimi kyma lambda lambda_ai libertai litellm llamagate llmgateway
    lm-studio lm_studio lmstudio lmstudio-community meituan meituan-longcat merge-gateway meta meta-llama meta-models
    meta_llama microsoft mimo minimax minimaxai mistral mistralai mlx-community models modelscope moonshot moonshot-ai
    moonshotai nano-gpt nebius novita nscale nvidia nvidia_nim oci ofox ollama ollama_chat open_router openai
    openai_compatible openai_like opencode opencode_go openinfer openpipe openrouter oracle ovhcloud perplexity
    pinstripes poolside portkey prism pro ps public publishers qwen qwen_ai_platform qwencloud qwencoder qwenlm
    reflection replicate requesty routers sagemaker sail sambanova scaleway scx-ai siliconflow snowflake spacexai
    stepfun stepfun-ai streamlake tee tencent tensormesh tensorx thinkingmachines together together_ai togethercomputer
    unsloth us us-gov venice vercel vercel-ai-gateway vercel_ai_gateway vertex vertex_ai vllm volcengine wandb watsonx
    workers-ai x-ai x_ai xai xiaomi xiaomi_mimo xiaomimimo z-ai zai zai-org zed zed.dev zenmux zerogpu zhipu zhipuai
    zhipuai-org
"""
_ROUTES = frozenset(_ROUTE_NAMES.split())
"""Who may stand before a model's name with a slash: vendors, clouds, gateways, editors and weight mirrors."""

_VENDORS = (
    "ai21|amazon|anthropic|cohere|databricks|deepseek|google|meta|minimax|mistral|moonshotai|moonshot|nvidia|openai|qwen"
    "|xai|x-ai|zai"
)
_REGION = re.compile(r"[a-z]{2}(?:-gov)?-[a-z]+-[0-9]")
_CLOUD_PREFIX = re.compile(rf"(?:(?:us-gov|us|eu|apac|au|jp|ca|sa|me|af|il|global)\.)?(?:{_VENDORS})\.")
_CLOUD_RESOURCE = re.compile(
    r"arn:aws(?:-[a-z]+)*:bedrock:[a-z0-9-]*:[0-9]*:(?:foundation-model|inference-profile)/"
    r"|projects/[a-z0-9._:-]+/locations/[a-z0-9-]+/(?=publishers/)"
)
"""How Amazon Bedrock and Google Vertex write a model of one account: everything before the model's own name."""
_VENDOR_DASH = re.compile(rf"(?:{_VENDORS}|azure|vertex|bedrock)-")
_ALLOWED = re.compile(r"[a-z0-9._:@/-]+")
_PIECES = re.compile(r"[a-z]+|[0-9]+[a-z]*")
_DIGIT_P_DIGIT = re.compile(r"(?<=[0-9])p(?=[0-9])")
_TAG = re.compile(r"[:@]")
_BRACKETS = re.compile(r"[(\[]([^()\[\]]*)[)\]]")

_SUFFIXES = tuple(
    re.compile(pattern)
    for pattern in (
        r"[-@:]20[23][0-9]-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12][0-9]|3[01])$",  # the day of a snapshot
        r"(?:-v?[1-9])?:[01](?::[0-9]+k)?$|-v1$",  # a revision, as Amazon Bedrock writes it
        r"@(?:default|latest)$|[-@]00[1-9]$",  # a version, as Google Vertex writes it
        r"-latest$",
        r"[-:]free$",
        r"-preview(?:-[01][0-9]-(?:20[0-9]{2}|[0-3][0-9])|-[0-9]{4})?$",
        r"-(?:instruct|it|hf)$",
        r"-(?:maas|tee|cloud|versatile)$",  # how a host labels its own service of unchanged weights
        r"[-:](?:ud-)?i?q[2-8](?:-(?:[0-9]|k|[sml]|xs|xxs|nl))*$",  # number formats: GGUF, then the others
        r"[-:](?:fp|f|mxfp|nvfp)(?:4|8|16|32)(?:-dynamic)?$|[-:](?:bf16|int[48]|[3-8]-?bit|awq|gptq|gguf|mlx|qat|w[48]a(?:8|16))$",
    )
)
_MIDDLE = re.compile(r"-(instruct|thinking)(?=-[0-9]{4}$)")
_EFFORT = re.compile(
    r"[-:](?:adaptive-)?(?:"
    r"(?P<none>non?-?(?:think(?:ing)?|reasoning))"
    r"|(?P<thinking>(?:think(?:ing)?|reasoning)(?::[0-9]+|-[0-9]+k)?)"
    r"|(?P<level>minimal|low|medium|high|xhigh|(?<=:)max|max(?=-effort))(?:-effort)?)$"
)
_OLLAMA_DEFAULT = ":latest"  # what Ollama adds to a bare name; `deepseek-r1:latest` is an 8 B model, not DeepSeek R1
_SIZE = re.compile(r"[-:]([0-9]+(?:\.[0-9]+)?)([bt])$")
_DAY = re.compile(r"(20[0-9]{2})-([0-9]{2})-([0-9]{2})")
_LEVELS: dict[str, Effort] = {
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}


@dataclass(frozen=True, kw_only=True)
class Match:
    """The canonical id, the parts of the spelling that were taken off (in their order), and the effort it named."""

    model_id: str
    removed: tuple[str, ...] = ()
    effort: Effort | None = None


@dataclass(frozen=True)
class _Spelling:
    """A spelling part way: what is left, and what came off before and after it."""

    rest: str
    before: tuple[str, ...]
    after: tuple[str, ...] = ()
    efforts: tuple[Effort, ...] = ()


class Identity:
    """All spellings of the models of one catalogue. Building it takes a few milliseconds; it never changes."""

    def __init__(self, models: Sequence[Model], aliases: Sequence[Alias]) -> None:
        """Raises EcoRouteError where two models, or a model and an alias of another, share a spelling."""
        self._models = {model.id: model for model in models}
        self._ids: dict[str, str] = {}
        for spelling, model_id in [(model.id, model.id) for model in models] + [
            (alias.alias, alias.model) for alias in aliases if not alias.refused
        ]:
            other = self._ids.setdefault(_key(spelling), model_id)
            if other != model_id:
                raise EcoRouteError(f"{spelling!r} would name both {other} and {model_id}: remove one of the two")

        self._refused = {_undashed(_key(alias.alias)): alias for alias in aliases if alias.refused}
        for alias in self._refused.values():
            if _key(alias.alias) in self._ids:
                raise EcoRouteError(f"{alias.alias!r} would be a model and be refused: remove one of the two")

    def resolve(self, text: str) -> Match:
        """The model that ``text`` names.

        Raises EcoRouteError with up to three suggestions for anything that is not certain: a near miss is never routed.
        """
        if not text.strip():
            raise EcoRouteError("the model id is empty: give one such as 'claude-sonnet-4-5' or 'qwen3:8b'")
        if len(text) > _LONGEST:
            raise EcoRouteError(f"a model id has at most {_LONGEST} characters, not {len(text)}: {shown(text)!r}...")
        if not text.isprintable():
            raise EcoRouteError(f"{shown(text)!r} contains characters that no model id has: retype it")
        plain = _plain(text)
        match = self._find(plain)
        if match is None:
            raise self._unknown(text, plain)
        return match

    def complete(self, prefix: str) -> list[str]:
        """Up to 100 canonical ids for what was typed so far: those that start with it, then those that contain it."""
        if len(prefix) > _LONGEST:
            return []
        typed = _plain(prefix).rpartition("/")[2]
        starting = [model_id for model_id in self._models if model_id.startswith(typed)]
        containing = [model_id for model_id in self._models if typed in model_id and not model_id.startswith(typed)]
        return (sorted(starting) + sorted(containing))[:_COMPLETIONS]

    def _find(self, plain: str) -> Match | None:
        if not _ALLOWED.fullmatch(plain):
            return None
        return next((match for start in _without_route(plain) if (match := self._peeled(start))), None)

    def _peeled(self, spelling: _Spelling) -> Match | None:
        while True:
            apart = self._refused.get(_undashed(_key(spelling.rest)))
            if apart is not None:
                raise EcoRouteError(
                    f"{apart.alias!r} is {apart.refused}, so it was not taken for {apart.model!r}. If figures of that "
                    f"will do, say {apart.model!r}"
                )
            found = self._lookup(spelling)
            if found is not None:
                return found
            shorter = _peel(spelling)
            if shorter is None:
                return None
            spelling = shorter

    def _lookup(self, spelling: _Spelling) -> Match | None:
        after = spelling.after
        model_id = self._ids.get(_key(spelling.rest))
        if model_id is None:
            size = _SIZE.search(spelling.rest)
            if size is None:
                return None
            model_id = self._ids.get(_key(spelling.rest[: size.start()]))
            if model_id is None or not _has_size(self._models.get(model_id), size):
                return None
            after = (size.group(), *after)
        levels = set(spelling.efforts)
        if len(levels) > 1:
            levels.discard("thinking")
        if len(levels) > 1:
            raise EcoRouteError(f"{model_id!r} is given two efforts, {' and '.join(sorted(levels))}: keep one")
        effort = next(iter(levels), None)
        model = self._models.get(model_id)
        if effort not in (None, "none") and (model is None or not model.reasons):
            return None
        return Match(model_id=model_id, removed=spelling.before + after, effort=effort)

    def _unknown(self, text: str, plain: str) -> EcoRouteError:
        """The error for a spelling that names no model: what is in the way, and what was probably meant."""
        spelled = repr(shown(text))
        *route, name = plain.split("/")
        strange = next((part for part in route if not _is_route(part)), None)
        known = self._find(name)
        if strange is not None and known is not None:
            return EcoRouteError(
                f"{spelled}: {shown(strange)!r} is not a vendor or gateway we know, so this may be other weights. "
                f"If it serves the unchanged model, say {known.model_id!r}"
            )
        base, extra = self._longest_known(name)
        if base is not None and extra in ("", "latest"):
            return EcoRouteError(
                f"{spelled}: Ollama's default tag may be any size of the family. Name the size after the colon, "
                f"or say {base!r} if that is what runs"
            )
        suggestions = self._suggestions(name, base)
        meant = _listed(suggestions)
        if base is not None and extra:
            return EcoRouteError(
                f"{spelled}: {extra!r} is not part of any model we know and may change price or energy, "
                f"so it was not taken for {base!r}. Did you mean {meant}?"
            )
        if not suggestions:
            return EcoRouteError(f"no model is called {spelled}; `ecoroute models` lists those we know")
        return EcoRouteError(f"no model is called {spelled}. Did you mean {meant}?")

    def _longest_known(self, name: str) -> tuple[str | None, str]:
        """The known model with the longest name that begins this one, and the words that come after it.

        A bare number after the name is another version, and no reason to name this one.
        """
        for start in _without_route(name):
            pieces = _PIECES.findall(start.rest)[:40]
            for end in range(len(pieces), 0, -1):
                model_id = self._ids.get("-".join(pieces[:end]))
                if model_id is not None:
                    more = pieces[end:]
                    return (None, "") if more and more[0].isdigit() else (model_id, shown("-".join(more)))
        return None, ""

    def _suggestions(self, name: str, base: str | None) -> list[str]:
        """Up to three ids: the base, then what is spelled alike, then the newest of the family."""
        import difflib  # only a misspelt id needs it; it is a fifth of this module's import

        name = name[:60]
        bought = [model for model in self._models.values() if model.availability != "retired"]
        bought.sort(key=lambda model: (model.released_on or datetime.date.min, model.id), reverse=True)
        ids = [model.id for model in bought]
        stem = _TAG.split(name)[0]
        family = [model_id for model_id in ids if len(stem) > 1 and model_id.startswith(stem)]
        family.sort(key=lambda model_id: not model_id[len(stem) :].startswith("-"))
        near = difflib.get_close_matches(_TAG.sub("-", name), ids, n=_SUGGESTIONS, cutoff=0.6 if base is None else 0.8)
        found = [base] if base is not None else []
        found += near + family if _TAG.search(name) or not family else family + near
        return list(dict.fromkeys(found))[:_SUGGESTIONS]


def has_known_route(text: str) -> bool:
    """Whether all that stands before the last slash of ``text`` is a vendor, a gateway or a cloud region."""
    return bool(_without_route(_plain(text)))


def core(text: str) -> str:
    """What is left of a spelling when route and every certain suffix are off; levels of effort and ``-latest`` stay.

    This is the form in which another name of a model is best kept: each wrapped spelling of it then resolves too.
    """
    plain = _plain(text)
    starts = [start for start in _without_route(plain) if not start.before or start.before[-1][-1] != "-"]
    spelling = starts[-1] if starts else _Spelling(plain, ())
    while (shorter := _peel(spelling)) is not None:
        if (shorter.efforts and shorter.efforts[-1] in _LEVELS) or shorter.after[0] == "-latest":
            break
        spelling = shorter
    return spelling.rest


def _plain(text: str) -> str:
    """Lower case; spaces and underscores as hyphens; ``(high)`` as ``:high``; ``v3p2`` as ``v3.2``."""
    text = _BRACKETS.sub(r":\1", text.strip().lower())
    text = re.sub(r"[\s,]+", "-", text)
    head, slash, name = text.rpartition("/")
    name = re.sub(r"-*:-*", ":", name.replace("_", "-"))
    return head + slash + _DIGIT_P_DIGIT.sub(".", name)


def _key(text: str) -> str:
    return "-".join(_PIECES.findall(text))


def _undashed(key: str) -> str:
    """``2024-05-13`` as ``20240513``: both are written."""
    return _DAY.sub(r"\1\2\3", key)


def _without_route(plain: str) -> list[_Spelling]:
    """The spelling with its slashes' route off, then also with a cloud's or vendor's prefix off; [] if unknown."""
    whole = _CLOUD_RESOURCE.match(plain)
    if whole is not None:
        return [_Spelling(start.rest, (whole.group(), *start.before)) for start in _without_route(plain[whole.end() :])]
    *route, name = plain.split("/")
    if not all(map(_is_route, route)):
        return []
    if route and route[-1].startswith("ollama") and ":" not in name:
        name += _OLLAMA_DEFAULT
    before = ("/".join(route) + "/",) if route else ()
    head, colon, tail = name.partition(":")
    if colon and tail and (head in _ROUTES or head.replace("-", "_") in _ROUTES):
        before, name = (*before, head + ":"), tail
    starts = [_Spelling(name, before)]
    for prefix in (_CLOUD_PREFIX.match(name), _VENDOR_DASH.match(name)):
        if prefix is not None:
            starts.append(_Spelling(name[prefix.end() :], (*before, prefix.group())))
    return starts


def _is_route(part: str) -> bool:
    return part in _ROUTES or _REGION.fullmatch(part) is not None


def _peel(spelling: _Spelling) -> _Spelling | None:
    """One suffix less; None when nothing certain is left to take off."""
    rest, before, after, efforts = spelling.rest, spelling.before, spelling.after, spelling.efforts
    for pattern in _SUFFIXES:
        found = pattern.search(rest)
        if found is not None and found.start() > 0:
            return _Spelling(rest[: found.start()], before, (found.group(), *after), efforts)
    middle = _MIDDLE.search(rest)
    if middle is not None:
        thinking: tuple[Effort, ...] = ("thinking",) if middle.group(1) == "thinking" else ()
        return _Spelling(_MIDDLE.sub("", rest), before, (middle.group(), *after), efforts + thinking)
    effort = _EFFORT.search(rest)
    if effort is not None and effort.start() > 0:
        level: Effort = _LEVELS[effort["level"]] if effort["level"] else "none" if effort["none"] else "thinking"
        return _Spelling(rest[: effort.start()], before, (effort.group(), *after), (*efforts, level))
    return None


def _has_size(model: Model | None, size: re.Match[str]) -> bool:
    if model is None or not model.open_weights or model.params_total_b is None:
        return False
    said_b = float(size.group(1)) * (1000 if size.group(2) == "t" else 1)
    return abs(said_b / model.params_total_b.mid - 1) <= _SIZE_TOLERANCE


def _listed(names: Sequence[str]) -> str:
    quoted = [repr(name) for name in names]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
