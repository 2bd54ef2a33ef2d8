"""Kinds of work: training the weights that read them from text, and judging that reading against labelled turns.

Training: turns of developers labelled by two readers (data/kind_labels.csv; their texts are third parties' and lie in
the folder given, never here), turns written for the purpose (data/kind_turns.jsonl) and written sentences, many of them
with slots to fill (data/kind_phrases.tsv). A turn that the readers call by two kinds counts half for each. One
multinomial logistic regression over what ecoroute_mcp.kind sees. How often each kind comes differs between what was
written and what developers say: each sort of text has a constant of its own, and the reader uses that of the turns,
moved towards the rare kinds by LEAN. A word's weight is its own plus what the embedding of WordLlama gives it, so that
words never met in training count as well; both add up to one number a kind, and nothing of the embedding is needed
afterwards.

Judging: the turns marked ``evaluation`` touched no training; conversations are whole, in one part or the other. Those
that both readers give the same kind are the clear ones, which give the macro-F1 and the calibration error (expected
calibration error, ten equal bins of the likeliest kind's probability); all of them give Cohen's kappa, and the share
whose kind and bar survive slips of typing, another case and other whitespace.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import importlib
import importlib.util
import json
import random
import re
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.command_line import given_path
from ecoroute_mcp import kind, refresh
from ecoroute_mcp.kind import KINDS, Reader, Weights
from ecoroute_mcp.sci import EcoRouteError
from ecoroute_mcp.task import Tasks

UNCLEAR = "unclear"
TURNS = "devprompts_unlabelled.csv.gz"
VERSION = 2
SEED = 20261121
FOLDS = 5
TIMES = 2
STRENGTH = 0.25
LEAN = 0.4
COMMON_GROUPS = 3
TERM_GROUPS = 4
TURN_WEIGHT = 0.9
PHRASE_WEIGHT = 1.0
GRAMMAR_WEIGHT = 0.45
SIGNAL_SCALE, DEED_SCALE, WORD_SCALE, MEANING_SCALE, TERM_SCALE, SOURCE_SCALE = 0.24, 0.48, 4.0, 3.0, 1.8, 3.0
DEED_SIGNALS = ("deed", "first", "earliest")
NEAR_SHARE = 0.5
RUN_WORDS, NEAR_RUNS, NEAR_RUN_SHARE = 6, 2, 0.15
"""Texts are near where they share this of their runs of five letters, or this many runs of so many words and this of
the first one's."""

SOURCES = ("turn", "written turn", "sentence")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A labelled turn. ``labels`` by reading; a turn is clear where its readings agree on a kind."""

    id: str
    conversation: str
    text: str
    labels: tuple[str, ...]

    @property
    def clear(self) -> bool:
        return self.labels[0] != UNCLEAR and len(set(self.labels)) == 1


@dataclass(frozen=True)
class Example:
    """A text of a kind to learn from, from one of SOURCES. ``group`` must not be split between folds; None: learnt from
    in all of them."""

    text: str
    kind: str
    weight: float
    group: str | None
    source: str


def examples_of(labelled: Sequence[Turn]) -> list[Example]:
    """Each turn once for every kind a reader gave it, by the share of the readers; the clear ones first."""
    found = []
    for turn in sorted(labelled, key=lambda turn: not turn.clear):
        shares = Counter(turn.labels)
        found += [
            Example(turn.text, name, shares[name] / len(turn.labels), turn.conversation, "turn")
            for name in KINDS
            if name in shares
        ]
    return found


def written_turns(path: Path) -> list[Example]:
    """Turns written for training, a JSON object a line with ``kind``, ``language`` and ``text``; each a group."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Example(row["text"], row["kind"], TURN_WEIGHT, f"written {number}", "written turn")
        for number, row in enumerate(rows)
    ]


class Likeness:
    """Finds texts that say nearly the same as one of those given."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._sizes: list[int] = []
        self._letters: defaultdict[str, list[int]] = defaultdict(list)
        self._runs: defaultdict[str, list[int]] = defaultdict(list)
        for number, text in enumerate(texts):
            letters, runs = _pieces(text)
            self._sizes.append(len(letters))
            for piece in letters:
                self._letters[piece].append(number)
            for run in runs:
                self._runs[run].append(number)

    def near(self, text: str) -> bool:
        """Whether ``text`` shares NEAR_SHARE of all runs of letters, or too many runs of words, with one of them."""
        letters, runs = _pieces(text)
        shared = Counter(number for piece in letters for number in self._letters.get(piece, ()))
        if any(count >= NEAR_SHARE * (len(letters) + self._sizes[number] - count) for number, count in shared.items()):
            return True
        most = max(Counter(number for run in runs for number in self._runs.get(run, ())).values(), default=0)
        return most >= NEAR_RUNS and most >= NEAR_RUN_SHARE * len(runs)


def _pieces(text: str) -> tuple[set[str], set[str]]:
    words = re.findall(r"[^\W_]+", text[:3000].lower())
    plain = f" {' '.join(words)} "
    runs = {" ".join(words[start : start + RUN_WORDS]) for start in range(len(words) - RUN_WORDS + 1)}
    return {plain[start : start + 5] for start in range(max(1, len(plain) - 4))}, runs


def turns(folder: Path, labels: Path, part: str) -> list[Turn]:
    """The labelled turns of one part, in the order of their ids.

    Raises EcoRouteError where the folder lacks the texts, or a text is not the one that was labelled.
    """
    path = folder / TURNS
    if not path.is_file():
        raise EcoRouteError(f"{path} is missing: give with --data the folder that holds {TURNS}")
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = {row["pid"]: row for row in csv.DictReader(file)}
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise EcoRouteError(f"{path} is no gzipped table of turns ({error}): fetch it again") from error
    said: dict[str, dict[int, str]] = {}
    with labels.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["part"] != part:
                continue
            text = rows[row["turn"]]["text"] if row["turn"] in rows else ""
            if hashlib.sha256(text.encode()).hexdigest()[:16] != row["text_sha256"]:
                raise EcoRouteError(f"{path}: turn {row['turn']} is not the text that was labelled")
            said.setdefault(row["turn"], {})[int(row["reading"])] = row["label"]
    return [
        Turn(
            id=name,
            conversation=rows[name]["conversation_id"],
            text=rows[name]["text"],
            labels=tuple(label for _, label in sorted(said[name].items())),
        )
        for name in sorted(said)
    ]


def phrases(path: Path) -> list[Example]:
    """Written sentences with their slots filled, by a fixed seed: each twice, ``en*N`` patterns N times."""
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    slots = {
        name: [value.replace("\\n", "\n").replace("\\t", "\t") for value in values.split("|")]
        for sort, name, values in lines
        if sort == "slot"
    }
    chance = random.Random(SEED)
    found = []
    for sort, language, pattern in lines:
        if sort == "slot":
            continue
        times = int(language.partition("*")[2] or (TIMES if "{" in pattern else 1))
        weight = GRAMMAR_WEIGHT if "*" in language else PHRASE_WEIGHT / times
        found += [Example(_filled(pattern, slots, chance), sort, weight, None, "sentence") for _ in range(times)]
    return found


def _filled(pattern: str, slots: dict[str, list[str]], chance: random.Random) -> str:
    for _ in range(12):
        before, opened, rest = pattern.partition("{")
        name, closed, after = rest.partition("}")
        if not opened or not closed or name not in slots:
            break
        pattern = before + chance.choice(slots[name]) + after
    return pattern


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise EcoRouteError(f"training needs {name}: pip install {name}") from None


def embedding(words: Sequence[str]) -> tuple[Any, set[str]]:
    """WordLlama's vector for each word (mean of its tokens; float array of len(words) x 256), and all whole words its
    tokens know. Source: the two files in the PyPI package `wordllama` (MIT), which is not imported."""
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise EcoRouteError("training needs the embedding of wordllama: pip install wordllama tokenizers safetensors")
    home = Path(spec.origin).parent
    tokens = _library("tokenizers").Tokenizer.from_file(str(home / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    tokens.no_padding()
    tokens.no_truncation()
    table = next(
        iter(_library("safetensors.numpy").load_file(home / "weights" / "l2_supercat_256.safetensors").values())
    )
    whole = {token[1:].lower() for token in tokens.get_vocab() if token[0] == "\u2581" and token[1:].isalpha()}
    numpy = _library("numpy")
    if not words:
        return numpy.zeros((0, table.shape[1])), whole
    rows = [table[tokens.encode(word, add_special_tokens=False).ids].mean(axis=0) for word in words]
    return numpy.array(rows, dtype=float), whole


@dataclass(frozen=True)
class Seen:
    """What the reader sees of each example, as matrices with a row for each: its columns by name, and their scale."""

    signals: Any
    names: list[str]
    words: Any
    known: list[str]
    common: list[str]
    terms: Any
    pairs: list[str]


def seen(examples: Sequence[Example]) -> Seen:
    """The examples as kind.Reader sees them, with the vocabulary that they and the embedding give."""
    numpy, sparse = _library("numpy"), _library("scipy.sparse")
    stated = [kind.cleaned(example.text)[0] for example in examples]
    groups = [
        example.group if example.group and example.source == "turn" else f"written {number % 40}"
        for number, example in enumerate(examples)
    ]
    where = _spread((kind.words_of(text) for text in stated), groups)
    _, whole = embedding([])
    common = sorted(word for word, found in where.items() if len(found) >= COMMON_GROUPS)
    known = sorted(whole | {word for word, found in where.items() if len(found) >= 2})
    by_slip, lookup = kind.slips(frozenset(common)), dict.fromkeys(known)
    read = [kind.corrected(text, lookup, by_slip) for text in stated]
    term_lists = [sorted(kind.terms_of(words)) for _, words in read]
    pairs = sorted(term for term, found in _spread(term_lists, groups).items() if len(found) >= TERM_GROUPS)
    signals = [kind.signals(plain) for plain, _ in read]
    names = sorted({name for values in signals for name in values})
    columns = {name: number for number, name in enumerate(names)}
    matrix = sparse.lil_matrix((len(examples), len(names)))
    for row, values in enumerate(signals):
        for name, value in values.items():
            matrix[row, columns[name]] = value
    words = _shared([list(dict.fromkeys(words)) for _, words in read], known, kind.WORD_POWER)
    terms = _shared(term_lists, pairs, kind.TERM_POWER)
    assert numpy.isfinite(matrix.sum())
    return Seen(matrix.tocsr(), names, words, known, common, terms, pairs)


def _spread(lists: Any, groups: Sequence[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for items, group in zip(lists, groups, strict=True):
        for item in set(items):
            found.setdefault(item, set()).add(group)
    return found


def _shared(lists: Sequence[Sequence[str]], vocabulary: Sequence[str], power: float) -> Any:
    columns = {item: number for number, item in enumerate(vocabulary)}
    matrix = _library("scipy.sparse").lil_matrix((len(lists), len(vocabulary)))
    for row, items in enumerate(lists):
        inside = [columns[item] for item in items if item in columns]
        for column in inside:
            matrix[row, column] = len(inside) ** -power
    return matrix.tocsr()


class Model:
    """The regression over what is seen; ``weights()`` are its coefficients folded together for the reader.

    ``examples``: of which kind, weight and source the rows are. The weights hold every word and pair that was known in
    training, those that say nothing too, so that a served text shares its known words as a trained one did.
    """

    def __init__(self, what: Seen, examples: Sequence[Example]) -> None:
        numpy, sparse = _library("numpy"), _library("scipy.sparse")
        vectors, _ = embedding(what.known)
        self._vectors = vectors / numpy.linalg.norm(vectors, axis=1).mean()
        common = set(what.common)
        self._direct = [number for number, word in enumerate(what.known) if word in common]
        self._what = what
        self._examples = examples
        scales = [DEED_SCALE if name.startswith(DEED_SIGNALS) else SIGNAL_SCALE for name in what.names]
        self._scales = numpy.array(scales)
        self._matrix = sparse.hstack(
            [
                what.signals @ sparse.diags(self._scales),
                what.words[:, self._direct] * WORD_SCALE,
                sparse.csr_matrix(what.words @ self._vectors) * MEANING_SCALE,
                what.terms * TERM_SCALE,
            ]
        ).tocsr()
        others = [[SOURCE_SCALE * (example.source == name) for name in SOURCES[1:]] for example in examples]
        self._with_sources = sparse.hstack([self._matrix, sparse.csr_matrix(numpy.array(others))]).tocsr()
        self._of_turns = numpy.array([[float(example.source == SOURCES[0])] for example in examples])
        self.bias = numpy.zeros(len(KINDS))

    def lean(self, counts: Counter[str]) -> None:
        """Move towards rare kinds: LEAN of the logarithm of how rare each is, none rarer than one turn."""
        numpy = _library("numpy")
        self.bias = -LEAN * numpy.log([max(counts[name], 1) / counts.total() for name in KINDS])

    def fit(self, rows: Sequence[int]) -> Any:
        """The regression on some rows; each source has a constant of its own beside that of the turns."""
        numpy = _library("numpy")
        weights = numpy.array([self._examples[row].weight for row in rows])
        regression = _library("sklearn.linear_model").LogisticRegression(C=STRENGTH, max_iter=300, tol=1e-3)
        kinds = [self._examples[row].kind for row in rows]
        return regression.fit(self._with_sources[list(rows)], kinds, sample_weight=weights / weights.mean())

    def odds(self, regression: Any, rows: Sequence[int]) -> Any:
        """Log-odds of KINDS for some rows, each with the constant of its source, turns with the lean."""
        order = [list(regression.classes_).index(name) for name in KINDS]
        read = regression.decision_function(self._with_sources[list(rows)])[:, order]
        return read + self._of_turns[list(rows)] * self.bias

    def weights(self, regression: Any, temperature: float) -> Weights:
        """All coefficients over the temperature."""
        numpy = _library("numpy")
        order = [list(regression.classes_).index(name) for name in KINDS]
        table = regression.coef_[order].T[: self._matrix.shape[1]] / temperature
        table -= table.mean(axis=1, keepdims=True)
        bounds = numpy.cumsum([len(self._what.names), len(self._direct), self._vectors.shape[1]])
        signals, direct, meaning, terms = numpy.split(table, bounds)
        words = self._vectors @ (meaning * MEANING_SCALE)
        words[self._direct] += direct * WORD_SCALE
        bias = (regression.intercept_[order] + self.bias) / temperature
        return Weights(
            bias=_rounded(bias - bias.mean()),
            signals=_named(self._what.names, signals * self._scales[:, None]),
            words=_named(self._what.known, words),
            terms=_named(self._what.pairs, terms * TERM_SCALE),
            common=frozenset(self._what.common),
        )


def _named(names: Sequence[str], rows: Any) -> dict[str, tuple[int, ...]]:
    return {name: _rounded(row) for name, row in zip(names, rows, strict=True)}


def _rounded(row: Any) -> tuple[int, ...]:
    return tuple(round(kind.SCALE * float(value)) for value in row)


def train(folder: Path, data: Path) -> tuple[Weights, dict[str, Any]]:
    """Weights, and the report of their training: sizes, and what grouped folds say.

    Written texts that are near a turn of either part are left out. The temperature is the one that makes the folds'
    likelihood best on all turns with a kind, doubtful ones by the shares of their readers: the reader meets those too.
    ``half`` and ``no_written_turns`` are the same folds with half of the other folds' conversations, and without the
    written turns.
    """
    numpy = _library("numpy")
    labelled = turns(folder, data / "kind_labels.csv", "training")
    real = Likeness(turn.text for turn in [*labelled, *turns(folder, data / "kind_labels.csv", "evaluation")])
    written = [*written_turns(data / "kind_turns.jsonl"), *phrases(data / "kind_phrases.tsv")]
    apart = [example for example in written if not real.near(example.text)]
    examples = [*examples_of(labelled), *apart]
    clear = sum(turn.clear for turn in labelled)
    counts = Counter(example.kind for example in examples[:clear])
    model = Model(seen(examples), examples)
    model.lean(counts)
    groups = sorted({example.group for example in examples if example.group})
    random.Random(SEED).shuffle(groups)
    place = {name: number for number, name in enumerate(groups)}
    of = [place[example.group] % FOLDS if example.group else -1 for example in examples]
    judged = [row for row, example in enumerate(examples) if example.source != "sentence"]
    others = [row for row in judged if examples[row].source == "written turn"]
    asked = judged[: len(judged) - len(others)]

    def held_out(learnt_from: Callable[[Example], bool]) -> Any:
        odds = numpy.zeros((len(examples), len(KINDS)))
        for number in range(FOLDS):
            left = [row for row in judged if of[row] == number]
            rows = [row for row, example in enumerate(examples) if of[row] != number and learnt_from(example)]
            odds[left] = model.odds(model.fit(rows), left)
        return odds

    odds = held_out(lambda example: True)
    truth = numpy.array([KINDS.index(example.kind) for example in examples])
    temperatures = numpy.linspace(0.5, 2.0, 61)
    share = numpy.array([examples[row].weight for row in asked])
    losses = [_loss(odds[asked] / each, truth[asked], share) for each in temperatures]
    temperature = float(temperatures[int(numpy.argmin(losses))])

    def figures(odds: Any, rows: Any) -> dict[str, Any]:
        return _judged([KINDS[each] for each in truth[rows]], _softmax(odds[rows] / temperature))

    half = held_out(lambda example: example.source != "turn" or place[str(example.group)] // FOLDS % 2 == 0)
    alone = held_out(lambda example: example.source != "written turn")
    first = slice(0, clear)
    report = {
        "version": VERSION,
        "training_turns": len(labelled),
        "clear": clear,
        "written_turns": len(others),
        "written_sentences": len(apart) - len(others),
        "left_out_as_near_a_turn": len(written) - len(apart),
        "kinds": dict(counts),
        "kinds_of_written_turns": dict(Counter(examples[row].kind for row in others)),
        "temperature": round(temperature, 3),
        "log_loss": round(float(min(losses)), 3),
        "folds": figures(odds, first),
        "half": figures(half, first),
        "no_written_turns": figures(alone, first),
        "folds_of_written_turns": figures(odds, others),
    }
    return model.weights(model.fit(range(len(examples))), temperature), report


def _loss(odds: Any, truth: Any, share: Any) -> float:
    numpy = _library("numpy")
    likely = _softmax(odds)[numpy.arange(len(truth)), truth]
    return float(-numpy.log(likely) @ share / share.sum())


def _softmax(odds: Any) -> Any:
    numpy = _library("numpy")
    raised = numpy.exp(odds - odds.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def written(weights: Weights) -> str:
    """The weights as the text that kind.read_weights() reads."""
    lines = [
        f"# generated by `python -m benchmark kind-train`, version {VERSION}; hundredths of log-odds",
        ";".join(("sort", "name", *KINDS)),
        _line("bias", "", weights.bias),
    ]
    lines += [_line("signal", name, row) for name, row in sorted(weights.signals.items()) if any(row)]
    lines += [_line("term", name, row) for name, row in sorted(weights.terms.items())]
    lines += [
        _line("common" if name in weights.common else "word", name, row) for name, row in sorted(weights.words.items())
    ]
    return "\n".join(lines) + "\n"


def _line(sort: str, name: str, row: Sequence[int]) -> str:
    return ";".join((sort, name, *map(str, row)))


def f1(truth: Sequence[str], said: Sequence[str]) -> dict[str, float]:
    """F1 of each kind that occurs in ``truth``."""
    scores = {}
    for name in KINDS:
        both = sum(t == name == s for t, s in zip(truth, said, strict=True))
        if name in truth:
            scores[name] = 2 * both / (list(truth).count(name) + list(said).count(name))
    return scores


def calibration_error(right: Sequence[bool], probabilities: Sequence[float], bins: int = 10) -> float:
    """Expected calibration error: the mean distance of accuracy and probability over equal bins, by their size."""
    total = 0.0
    for number in range(bins):
        inside = [
            (is_right, share)
            for is_right, share in zip(right, probabilities, strict=True)
            if min(int(share * bins), bins - 1) == number
        ]
        total += abs(sum(is_right for is_right, _ in inside) - sum(share for _, share in inside))
    return total / len(right)


def kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Cohen's kappa of two readings of the same turns."""
    count = len(first)
    agreed = sum(a == b for a, b in zip(first, second, strict=True)) / count
    by_chance = sum(first.count(name) * second.count(name) for name in set(first) | set(second)) / count**2
    return (agreed - by_chance) / (1 - by_chance)


def _judged(truth: Sequence[str], probabilities: Any) -> dict[str, Any]:
    said = [KINDS[each] for each in probabilities.argmax(axis=1)]
    scores = f1(truth, said)
    return {
        "accuracy": round(sum(a == b for a, b in zip(truth, said, strict=True)) / len(truth), 3),
        "macro_f1": round(sum(scores.values()) / len(scores), 3),
        "f1": {name: round(score, 3) for name, score in scores.items()},
        "calibration_error": round(
            calibration_error(
                [a == b for a, b in zip(truth, said, strict=True)], [float(row.max()) for row in probabilities]
            ),
            3,
        ),
    }


def with_slips(text: str, chance: random.Random) -> str:
    """One word of four letters or more in twenty, and at least one, with a slip: two letters swapped, one lost,
    doubled, or another in its place."""
    words = text.split(" ")
    places = [place for place, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    if not places:
        return text
    for place in chance.sample(places, max(1, round(len(places) / 20))):
        word = words[place]
        at = chance.randrange(len(word) - 1)
        words[place] = chance.choice(
            [
                word[:at] + word[at + 1] + word[at] + word[at + 2 :],
                word[:at] + word[at + 1 :],
                word[:at] + word[at] + word[at:],
                word[:at] + chance.choice("abcdefghijklmnopqrstuvwxyz") + word[at + 1 :],
            ]
        )
    return " ".join(words)


def with_other_case(text: str, chance: random.Random) -> str:
    """All in capitals, all small, each word with a capital, or with both exchanged."""
    return chance.choice([str.upper, str.lower, str.title, str.swapcase])(text)


def with_other_whitespace(text: str, chance: random.Random) -> str:
    """Blanks doubled or turned into line breaks or tabs here and there, and some around the text."""
    return (
        " \n"
        + "".join(chance.choice([" ", "  ", "\n", "\t", " \n "]) if letter == " " else letter for letter in text)
        + "\n\n  "
    )


CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "slips": with_slips,
    "case": with_other_case,
    "whitespace": with_other_whitespace,
}


def evaluate(folder: Path, data: Path) -> dict[str, Any]:
    """The figures that judge the shipped weights, on the turns kept for it."""
    kept = turns(folder, data / "kind_labels.csv", "evaluation")
    reader = Reader(kind.read_weights(data / "kind_weights.csv"))
    clear = [turn for turn in kept if turn.clear]
    numpy = _library("numpy")
    probabilities = numpy.array([list(reader.read(turn.text).probabilities.values()) for turn in clear])
    truth = [turn.labels[0] for turn in clear]
    said = [KINDS[each] for each in probabilities.argmax(axis=1)]
    judged = _judged(truth, probabilities)
    often = [judged["f1"][name] for name, count in Counter(truth).items() if count >= 3]
    catalogue = refresh.read(data)
    tasks = Tasks(catalogue.task_kinds, catalogue.parameters)
    bars = [(_decision(tasks, turn.text)[1], tasks.kind(turn.labels[0]).min_tier) for turn in clear]
    same: Counter[str] = Counter()
    for turn in kept:
        before = _decision(tasks, turn.text)
        for name, change in CHANGES.items():
            chance = random.Random(f"{SEED} {turn.id} {name}")
            same[name] += _decision(tasks, change(turn.text, chance)) == before
    return {
        "turns": len(kept),
        "clear": len(clear),
        "kappa": round(kappa(*([turn.labels[number] for turn in kept] for number in (0, 1))), 3),
        **judged,
        "macro_f1_of_kinds_met_three_times": round(sum(often) / len(often), 3),
        "kinds": dict(Counter(truth)),
        "confusion": {
            name: dict(Counter(b for a, b in zip(truth, said, strict=True) if a == name))
            for name in KINDS
            if name in truth
        },
        "bar": {
            "as_labelled": round(sum(asked == due for asked, due in bars) / len(bars), 3),
            "above": round(sum(asked > due for asked, due in bars) / len(bars), 3),
            "below": round(sum(asked < due for asked, due in bars) / len(bars), 3),
        },
        "unchanged": {name: round(count / len(kept), 3) for name, count in same.items()},
    }


def _decision(tasks: Tasks, text: str) -> tuple[str, int]:
    demand = tasks.demand(text)
    tier = demand.requirement.min_tier
    assert tier is not None
    return demand.kind, tier


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=given_path, required=True, metavar="DIR", help=f"folder that holds {TURNS}")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")


def train_run(arguments: argparse.Namespace) -> int:
    data = refresh.packaged_data()
    if not (data / "upstream").is_dir():
        raise EcoRouteError(f"{data} belongs to an installed package: train in a checkout of the project")
    weights, report = train(arguments.data, data)
    (data / "kind_weights.csv").write_text(written(weights), encoding="utf-8")
    (data / "kind_report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2) if arguments.json else "\n".join(trained_lines(report)))
    print("wrote kind_weights.csv, kind_report.json", file=sys.stderr)
    return 0


def eval_run(arguments: argparse.Namespace) -> int:
    report = evaluate(arguments.data, refresh.packaged_data())
    print(json.dumps(report, indent=2) if arguments.json else "\n".join(_lines(report)))
    return 0


def trained_lines(report: dict[str, Any]) -> Iterator[str]:
    """The report of a training, for people."""
    yield f"{report['training_turns']} turns, {report['clear']} of them clear to both readers"
    yield (
        f"{report['written_turns']} turns and {report['written_sentences']} sentences written for it; "
        f"{report['left_out_as_near_a_turn']} more left out as near a turn"
    )
    yield f"temperature {report['temperature']}, log loss {report['log_loss']}"
    for name in ("folds", "half", "no_written_turns", "folds_of_written_turns"):
        figures = report[name]
        yield (
            f"{name.replace('_', ' ')}: macro-F1 {figures['macro_f1']}, accuracy {figures['accuracy']}, "
            f"calibration error {figures['calibration_error']}"
        )


def _lines(report: dict[str, Any]) -> Iterator[str]:
    yield f"{report['turns']} turns labelled twice, kappa {report['kappa']}; {report['clear']} are clear to both"
    yield f"macro-F1 {report['macro_f1']} over the kinds met, accuracy {report['accuracy']}"
    yield f"  of kinds met three times and more {report['macro_f1_of_kinds_met_three_times']}"
    for name, score in report["f1"].items():
        yield f"  {name:<14}{score:>6} of {report['kinds'][name]:>3}: {report['confusion'][name]}"
    yield f"calibration error {report['calibration_error']}"
    yield "bar against the labelled kind's: " + ", ".join(
        f"{name.replace('_', ' ')} {share:.1%}" for name, share in report["bar"].items()
    )
    for name, share in report["unchanged"].items():
        yield f"kind and bar unchanged by {name}: {share:.1%}"
