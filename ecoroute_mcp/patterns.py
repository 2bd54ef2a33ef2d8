"""Many regular expressions looked for in one short text at once, each tried only where it can begin.

A pattern is taken apart at its bars. An alternative that begins with one of certain words is tried where such a word
stands; one that holds such a word, or certain letters, further on is searched for in a text that has them; any other is
always searched for. So the answer is that of `re`, at a fraction of the work where most of the patterns are absent.

Understood are bars, plain groups, classes, lookarounds and quantifiers; not flags, captures or references.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

PREFIX_CHARACTERS = 3
"""By so many first letters the longer beginnings of words are kept."""

_PART = re.compile(r"\\(?:x..|u....|.)|\[\^?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_INNER_PART = re.compile(r"[^\\\[()]+|" + _PART.pattern, re.DOTALL)
_QUANTIFIER = re.compile(r"(?:[?*+]|\{\d+(?:,\d*)?\}|\{,\d+\})[?+]?")
_TOKEN = re.compile(r"\w+")
T = TypeVar("T")
_ANY_DIGIT = "0"
"""How a word is kept that begins with any digit."""


class _Atom(NamedTuple):
    """A letter, escape, class, group or bar as written; and its quantifier, or nothing."""

    written: str
    quantifier: str = ""

    @property
    def may_lack(self) -> bool:
        return self.quantifier[:1] in ("?", "*") or self.quantifier[:2] in ("{0", "{,")

    @property
    def one_of(self) -> str:
        """The characters that it may stand for; none where they are too many to tell, or it is no character."""
        if len(self.written) == 1:
            return "" if self.written in "^$." else self.written
        if self.written[0] == "\\":
            return "" if self.written[1].isalnum() else self.written[1]
        inner = self.written[1:-1]
        return "" if self.written[0] != "[" or inner[0] == "^" or "\\" in inner or "-" in inner[1:-1] else inner


_WORD_START = _Atom(r"(?<!\w)")
_WORD_END = (_Atom(r"(?!\w)"), _Atom(r"\b"))


class _Beginning(NamedTuple):
    """``letters`` with which a word begins; ``whole``: it has no more of them."""

    letters: str
    whole: bool


class Text:
    """A text; its words (runs of letters, digits and underscores) with the places where they begin."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.places: dict[str, list[int]] = {}
        for token in _TOKEN.finditer(text):
            self.places.setdefault(token[0], []).append(token.start())

    @functools.cached_property
    def by_beginning(self) -> dict[str, list[str]]:
        """The words by their first letter, and by their first PREFIX_CHARACTERS; a digit beyond ASCII is a 0."""
        words: dict[str, list[str]] = {}
        for word in self.places:
            words.setdefault(word[:PREFIX_CHARACTERS], []).append(word)
            if len(word) > 1:
                words.setdefault(word[0], []).append(word)
            if not word.isascii() and word[0].isdecimal():
                words.setdefault(_ANY_DIGIT, []).append(word)
        return words


def _in_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


class _Index(Generic[T]):
    """Things by the words with which they begin."""

    def __init__(self) -> None:
        self._whole: dict[str, list[T]] = {}
        self._begun: dict[str, list[tuple[str, T]]] = {}

    def add(self, thing: T, beginnings: Iterable[_Beginning]) -> None:
        for letters, whole in beginnings:
            if whole:
                self._whole.setdefault(letters, []).append(thing)
            elif letters == _ANY_DIGIT:
                for digit in "0123456789":
                    self._begun.setdefault(digit, []).append(("", thing))
            else:
                length = PREFIX_CHARACTERS if len(letters) >= PREFIX_CHARACTERS else 1
                self._begun.setdefault(letters[:length], []).append((letters, thing))

    def within(self, text: Text) -> Iterator[tuple[T, list[int]]]:
        """What may begin with words of the text, and at what places; a thing may come more than once."""
        for word in self._whole.keys() & text.places.keys():
            places = text.places[word]
            for thing in self._whole[word]:
                yield thing, places
        if self._begun:
            for key in self._begun.keys() & text.by_beginning.keys():
                for letters, thing in self._begun[key]:
                    for word in text.by_beginning[key]:
                        if word.startswith(letters):
                            yield thing, text.places[word]


class WordPattern:
    """A pattern that is only where a word begins: it is written with (?<!\\w) before anything else."""

    def __init__(self, pattern: str) -> None:
        """Raises ValueError for a pattern that may be where no word begins."""
        (atoms, *others) = _alternatives(_atoms(pattern))
        words = _checked(_beginnings(atoms[1:])) if atoms[:1] == [_WORD_START] and not others else []
        if not words:
            raise ValueError(f"the words with which it begins cannot be told: {pattern[:60]!r}")
        self._match = re.compile(pattern).match
        self._index = _Index[bool]()
        self._index.add(True, words)

    def spans(self, text: Text) -> list[tuple[int, int]]:
        """Where it begins and ends, from left to right, none within another: as re.finditer finds it."""
        spans = []
        end = 0
        for start in sorted({place for _, places in self._index.within(text) for place in places}):
            if start >= end:
                match = self._match(text.text, start)
                if match:
                    end = match.end()
                    spans.append((start, end))
        return spans


@dataclass(frozen=True, eq=False)
class _Piece:
    """One alternative of the pattern ``owner``. ``match``: the regular expression at one place, if it begins with
    the text or is one ``at_words``, else anywhere. ``needs``: what holds it has one of each of these choices."""

    owner: str
    match: Callable[[str, int], re.Match[str] | None]
    at_words: bool
    needs: tuple[tuple[str, ...], ...]

    def start(self, text: str) -> int | None:
        for choice in self.needs:
            for need in choice:
                if need in text:
                    break
            else:
                return None
        match = self.match(text, 0)
        return match and match.start()


class Patterns:
    """Patterns by name."""

    def __init__(self, patterns: Mapping[str, str]) -> None:
        """Raises re.error for what is no regular expression."""
        self._index = _Index[_Piece]()
        self._free: list[_Piece] = []
        self._by_letter: dict[str, list[_Piece]] = {}
        for name, pattern in patterns.items():
            for atoms in _alternatives(_atoms(pattern)):
                self._add(name, atoms)

    def _add(self, owner: str, atoms: list[_Atom]) -> None:
        begins = atoms.index(_WORD_START) if _WORD_START in atoms else None
        words = [] if begins is None else _checked(_beginnings(atoms[begins + 1 :]))
        if begins == 0 and not words and (parts := _parted(atoms)):
            for part in parts:
                self._add(owner, part)
            return
        at_words, at_start = bool(words) and begins == 0, atoms[:1] == [_Atom("^")]
        regex = re.compile(_written(atoms))
        piece = _Piece(
            owner=owner,
            match=regex.match if at_words or at_start else regex.search,
            at_words=at_words,
            needs=() if words or at_start else tuple(_needed(atoms)),
        )
        if words:
            self._index.add(piece, words)
        elif piece.needs:
            for need in piece.needs[0]:
                self._by_letter.setdefault(min(need, key=_commonness), []).append(piece)
        else:
            self._free.append(piece)

    def starts(self, text: Text, but: Collection[str] = ()) -> dict[str, int]:
        """Where each pattern that is in the text begins there first, by name; those in ``but`` are not looked for."""
        starts: dict[str, int] = {}
        searched = dict.fromkeys(self._free)
        for letter in self._by_letter.keys() & set(text.text):
            searched.update(dict.fromkeys(self._by_letter[letter]))
        for piece, places in self._index.within(text):
            if not piece.at_words:
                searched[piece] = None
            elif piece.owner not in but:
                first = starts.get(piece.owner, len(text.text))
                for place in places:
                    if place >= first:
                        break
                    if piece.match(text.text, place):
                        starts[piece.owner] = place
                        break
        for piece in searched:
            if piece.owner not in but:
                first = starts.get(piece.owner, len(text.text) + 1)
                found = piece.start(text.text) if first else None
                if found is not None and found < first:
                    starts[piece.owner] = found
        return starts


def _commonness(letter: str) -> int:
    """The higher, the more texts have the letter."""
    if letter.isascii():
        return 3 if letter in " aeinorst" else 2 if letter.isalnum() else 1
    return 0


def _atoms(pattern: str) -> list[_Atom]:
    atoms = []
    place = 0
    while place < len(pattern):
        begin, depth = place, 0
        while place == begin or depth:
            part = (_INNER_PART if depth else _PART).match(pattern, place)
            if part is None:
                raise re.error("missing ), unterminated group", pattern, begin)
            depth += (part.group() == "(") - (part.group() == ")")
            place = part.end()
        quantifier = _QUANTIFIER.match(pattern, place)
        atoms.append(_Atom(pattern[begin:place], quantifier.group() if quantifier else ""))
        place += len(atoms[-1].quantifier)
    return atoms


def _alternatives(atoms: Iterable[_Atom]) -> list[list[_Atom]]:
    alternatives: list[list[_Atom]] = [[]]
    for atom in atoms:
        if atom.written == "|":
            alternatives.append([])
        else:
            alternatives[-1].append(atom)
    return alternatives


def _written(atoms: Iterable[_Atom]) -> str:
    return "".join(atom.written + atom.quantifier for atom in atoms)


def _grouped(atom: _Atom) -> list[list[_Atom]]:
    """The alternatives of a plain group; nothing of any other atom."""
    return _alternatives(_atoms(atom.written[3:-1])) if atom.written[:3] == "(?:" else []


def _parted(atoms: list[_Atom]) -> list[list[_Atom]]:
    """Of a choice at a word's start: what begins with words that can be told, and what does not. Nothing if not so."""
    if len(atoms) < 2 or atoms[1].quantifier:
        return []
    telling: list[str] = []
    others: list[str] = []
    for alternative in _grouped(atoms[1]):
        (telling if _checked(_beginnings([*alternative, *atoms[2:]])) else others).append(_written(alternative))
    if not telling or not others:
        return []
    return [[_WORD_START, _Atom(f"(?:{'|'.join(each)})"), *atoms[2:]] for each in (telling, others)]


def _checked(beginnings: Iterable[_Beginning]) -> list[_Beginning]:
    """The beginnings, each once; none where any of them says nothing."""
    words = list(dict.fromkeys(beginnings))
    return words if all(word.letters for word in words) else []


def _beginnings(atoms: list[_Atom], letters: str = "") -> list[_Beginning]:
    """The beginnings of the words with which ``atoms`` may begin, after some letters."""
    for place, atom in enumerate(atoms):
        rest = atoms[place + 1 :] if atom.quantifier in ("", "?") else []
        found = _beginnings(atoms[place + 1 :], letters) if atom.may_lack else []
        if letters and atom in _WORD_END:
            return [_Beginning(letters, True)]
        if atom.written in ("^", r"\b") or atom.written[:3] in ("(?=", "(?!", "(?<"):
            continue
        characters = atom.one_of
        if len(characters) == 1 and characters.isalnum() and not atom.quantifier:
            letters += characters
            continue
        if atom.written == r"\d" and not letters:
            return [*found, _Beginning(_ANY_DIGIT, False)]
        if atom.written == r"\s" and letters:
            return [*found, _Beginning(letters, True)]
        for character in characters:
            if _in_word(character):
                found += _beginnings(rest, letters + character)
            else:
                found.append(_Beginning(letters, bool(letters)))
        alternatives = [] if characters else _grouped(atom)
        for alternative in alternatives:
            found += _beginnings([*alternative, *rest], letters)
        return found if characters or alternatives else [*found, _Beginning(letters, False)]
    return [_Beginning(letters, False)]


def _needed(atoms: Iterable[_Atom]) -> list[tuple[str, ...]]:
    """Choices of strings: a text that the pattern is in has at least one of each. The longest strings first."""
    choices: list[tuple[str, ...]] = []
    run = ""
    for atom in atoms:
        characters = "" if atom.may_lack else atom.one_of
        if len(characters) == 1:
            run += characters
        if len(characters) != 1 or atom.quantifier:
            choices.append((run,))
            run = ""
        if len(characters) > 1:
            choices.append(tuple(characters))
        alternatives = [] if atom.may_lack else [_needed(alternative) for alternative in _grouped(atom)]
        if len(alternatives) == 1:
            choices += alternatives[0]
        elif alternatives and all(alternatives):
            choices.append(tuple(need for needs in alternatives for need in needs[0]))
    choices = [choice for choice in dict.fromkeys([*choices, (run,)]) if all(choice)]
    return sorted(choices, key=lambda choice: (-min(map(len, choice)), len(choice)))
