"""Which kind of work a text asks for, with calibrated probabilities: what a linear model makes of its cues and words.

A text is read by its beginning and its end (what is wanted stands there), without case, layout, invisible characters,
long blobs and names of models; words that miss a common word by one slip count as it. Three things are weighed: cues
(patterns such as “how to”, an error's name, “make it”), which of them comes first, and the words themselves, each
counted once however often it stands there. The weights are data/kind_weights.csv, made by `python -m benchmark
kind-train`; applying them needs neither numpy nor scikit-learn.

What speaks to the router instead of stating a task (“ignore your rules”, “this is easy”, “always use gpt-4”), and what
drowns a task in repetition, is left out of the reading, and makes it careful: the first and last sentences and lines of
such a text are then read by themselves as well, of few sentences the halves too, and what spoke to the router as it
stands, and any kind that any of these makes plausible, by less than usual, counts as plausible. So it raises the bar or
leaves it. What is left: an order that no stop or line sets apart from the task may go unnoticed, and other talk in the
same sentence as a task dilutes it.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ecoroute_mcp.patterns import Patterns, Text, WordPattern
from ecoroute_mcp.sci import EcoRouteError
from ecoroute_mcp.wording import WORD

KINDS = (
    "autocomplete",
    "chat",
    "explain",
    "generate",
    "refactor",
    "debug",
    "test",
    "review",
    "documentation",
    "agentic",
)
SOURCES = ("kind-weights-v2", "codechat", "wordllama-0.4.0")
"""Whence the weights, by ids of data/sources.csv."""
SCALE = 100
SURE_PROBABILITY = 0.5
PLAUSIBLE_SHARE, GUARDED_SHARE = 0.5, 0.2
"""A kind is plausible with so much of the likeliest one's probability; with less where a text is guarded."""
HEAD_CHARACTERS = 1_000
TAIL_CHARACTERS = 300
CLOSE_CHARACTERS = 4 * (HEAD_CHARACTERS + TAIL_CHARACTERS)
"""So much of either end is looked at for what is read: blanks and what is invisible do not count there."""
CUE_HEAD_CHARACTERS = 360
CUE_TAIL_CHARACTERS = 200
OPENING_CHARACTERS = 60
CORRECTED_WORDS = 60
PARTS = 4
PART_CHARACTERS = 300
WORD_POWER = 0.75
TERM_POWER = 0.5
"""A text's known words and terms add up, and are shared by this power of how many they are."""

_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]+")  # fmt: skip # noqa: E501
_ASCII_WORD = re.compile("[A-Za-z0-9]+")
_APART = re.compile(f"({WORD.pattern})")
_ASCII_APART = re.compile(f"({_ASCII_WORD.pattern})")
BLOB_CHARACTERS = 60
_BLOB = re.compile(rf"[\w+/=-]{{{BLOB_CHARACTERS},}}")
_FAMILY = (
    r"gpt|chatgpt|claude|opus|sonnet|haiku|gemini|gemma|llama|mistral|mixtral|ministral|codestral|devstral|magistral|"
    r"qwen|qwq|deepseek|grok|phi|kimi|glm|minimax|nova|command-r|jamba|nemotron|granite|olmo|falcon|ernie|hunyuan|"
    r"doubao|palmyra|reka|exaone|smollm"
)
_FAMILIES = tuple(_FAMILY.split("|"))
_NUMBERED = ("o1", "o3", "o4")
_FAMILY_STARTS = frozenset(name[:3] for name in (*_FAMILIES, *_NUMBERED))
_ALONE = "chatgpt|claude|gemini|deepseek|mixtral|qwen|grok|gpt|llama|mistral|kimi"
_NAMED = rf"(?:(?:\w+/)?(?:{_FAMILY})(?:-[\w.:]+|[\w.:]*\d[\w.:]*)+|(?:{_ALONE})(?: \d[\w.]*)?|o[134](?:-\w+)*)"
_MODEL = re.compile(rf"(?<![\w/.-]){_NAMED}(?![\w-])")
_EASY = r"easy|trivial|simple|simplest|basic|harmless|low[ -]tier|tier (?:\d+|one|two|three)"
_KIND = "autocomplete|chat|chatting|small talk|explain|generate|refactor|debug|test|review|documentation|agentic"
_THIS = r"(?:this|it|that|the task|my task|everything)"
_OF_ITSELF = rf"{_THIS}(?: (?:is|was|counts as|should be|must be)|'s)"
_MARKS = re.compile(r"^[\W_]+")
_ENDS = r"(?= ?(?:[.,;:!)]|$)| (?:and|so|any|use|choose|take|then|that is all)(?!\w))"
_OR = rf"(?: or (?:an? )?(?:{_EASY}|{_KIND})(?!\w))*"
_FIRST = r"(?:only |always |just |never anything but |the )*"
_STOPS = (
    r"(?= ?(?:[.,;:!)]|$)| (?:first|instead|always|only|please|now|and|so|then|for (?:this|that|it|me|every\w*))(?!\w))"
)
# What does not follow an order's words: it would make them an ordinary task about models, rules or routers elsewhere.
_MINE = r"(?:my|our|an?)(?!\w)"
_OURS = (
    r"(?:above|answer|bar|catalogu?e?|chat|conversation|job|message|prompt|question|request|rest|rout|system|task|text|"
    r"tier)"
)
_NO_THING = r"(?! (?:files?|class|column|section|field|engine)(?!\w))"
_OF_OTHERS = rf"(?! (?:of|in|on) (?:my|our|an?|the) (?!{_OURS})\w)"
_OF_A_KIND = r"(?! (?:of|in|from|on|as|with|by|that|which|whose) (?!you|all|any|are|exist|is|there|will|works|the (?:catalogue?|list|ranking)(?= ?(?:[.,;:!)]|$)))\w)"  # noqa: E501
_ELSEWHERE_USED = rf"(?! for (?:the|an?|my|our|this) (?!{_OURS})\w)"
_DIRECTIVE = (
    r"(?<!\w)(?:"
    rf"(?:ignore|disregard|forget|bypass|override) (?:(?:all|any|every|of|the|your|these|those|previous|prior|above|earlier|system|routing|router's) ){{1,4}}(?:(?:rules?|instructions?|prompts?|guidelines|polic(?:y|ies)){_OF_OTHERS}|bars?|requirements?|tiers?)(?!\w){_NO_THING}(?: and| but)?"  # noqa: E501
    rf"|(?:recommend|choose|prefer|favou?r|route (?:this |it )?to|promote|answer with|respond with) {_FIRST}{_NAMED}(?![\w-])(?! (?:api|sdk|client|library|to|for|in|from|via|with|as)(?!\w))(?: first| instead| always)?"  # noqa: E501
    rf"|(?:pick|select|rank|use|return) {_FIRST}{_NAMED}(?![\w-])(?: first| instead| always)?{_STOPS}"
    rf"|(?:recommend|route (?:this |it )?to|promote|(?:always|only|just) (?:use|choose|pick|select|prefer)) {_FIRST}model [^\s.,;:!)]+(?:\.[^\s.,;:!)]+)*(?: first| instead| always| to the top)?{_STOPS}"  # noqa: E501
    rf"|(?:(?:^|(?<=[.!?;:,(] )|(?<=because )|(?<=since )|(?<=and )|(?<=as )){_OF_ITSELF}) (?:only |just |really |merely |very |a |an |so )*(?:{_EASY}|chat|autocomplete|small talk)(?: task| question| request| thing| chat)?{_OR}{_ENDS}"  # noqa: E501
    rf"|(?:treat|classify|label|count|read|score|consider) {_THIS}(?: \w+)? as (?:only |just |a |an )*(?:{_EASY})(?: task| question| request)?{_OR}{_ENDS}"  # noqa: E501
    rf"|(?:treat|classify|score) {_THIS}(?: \w+)? as (?:only |just |a |an )*(?:{_KIND})(?: task| question| request)?{_OR}"  # noqa: E501
    r"|set (?:the |your )?(?:min_?tier|tier)(?:(?: to| =)? (?:\d+|one|two|three|low\w*|the lowest|minimum)|(?: to| =) \w+(?= ?(?:[.,;:!)]|$))|(?= ?(?:[.,;:!)]|$)))"  # noqa: E501
    rf"|(?:lower|reduce|drop|decrease) (?:the |your )?(?:min_?tier|bar|requirements?|tier)(?:(?: to (?:tier )?\d+)|(?= ?(?:[.,;:!]|$| for (?:this|me)(?! (?:in|on) (?:my|the|an?) (?!{_OURS})\w))))"  # noqa: E501
    rf"|task[_ ]type ?[:=] ?(?:{_KIND}|{_EASY})|min_tier ?[:=] ?\d+|kind ?[:=] ?(?:{_KIND})|tier ?[:=] ?\d+"
    rf"|any (?:small|smaller|cheap|tiny|weak|green) (?:model|llm)(?!\w)(?:(?: will do| is enough| suffices){_ELSEWHERE_USED}|(?! (?:will do|is enough|suffices)))"  # noqa: E501
    rf"|(?:a|the) (?:small|smallest|cheap|cheapest|tiny|tiniest|weak|weakest|greenest) (?:model|llm) (?:will do|is enough|suffices){_ELSEWHERE_USED}"  # noqa: E501
    rf"|(?:use|choose|pick|take|recommend) (?:the|a) (?:cheap|cheapest|tiniest|smallest|weakest|greenest) (?:model|llm)(?!\w){_OF_A_KIND}"  # noqa: E501
    rf"|you are (?:now )?(?:the|my) (?:model )?router(?! (?:of|in|for) {_MINE}| (?:class|component|module)(?!\w))"
    r"|note to (?:the )?router|dear router"
    r")(?!\w)"
)
_SMALL_WORDS = re.compile(
    "an?|the|and|or|of|to|in|on|at|for|with|by|from|as|is|are|be|it|its|this|that|these|those|my|your|i|you|we|me|do|"
    "does|did|have|has|can|could|would|should|so|not?|but|if|then|than|about|into|out|up|all|any|some"
)
_SENTENCE = re.compile(r"(?<=[.!?;:\u3002\uff01\uff1f\uff1b])\s+|\s*[\u3002\uff01\uff1f\uff1b]\s*")
_ASCII_SENTENCE = re.compile(r"\s(?<=[.!?;:]\s)\s*")


def _w(words: str) -> str:
    """A pattern for whole words or phrases: alternatives at bars, in which groups may hold bars of their own.

    They are gathered by their first letter, so that trying a word looks at few of them.
    """
    by_letter: dict[str, list[str]] = {}
    others = []
    for word in _alternatives(words):
        if word[0].isalpha() and word[1:2] not in ("?", "*", "+", "{"):
            by_letter.setdefault(word[0], []).append(word[1:])
        else:
            others.append(word)
    gathered = [f"{letter}(?:{'|'.join(rests)})" for letter, rests in by_letter.items()]
    return rf"(?<!\w)(?:{'|'.join([*gathered, *others])})(?!\w)"


def _alternatives(words: str) -> list[str]:
    parts, depth, start, escaped = [], 0, 0, False
    for place, letter in enumerate(words):
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter in "()":
            depth += 1 if letter == "(" else -1
        elif letter == "|" and depth == 0:
            parts.append(words[start:place])
            start = place + 1
    return [*parts, words[start:]]


# The openings people put before what they want.
_POLITE = (
    r"(?:please |pls |plz |kindly |hi[ ,!]+|hello[ ,!]+|hey[ ,!]+|ok[ay]*[ ,.]+|now |and |but |so |then |also |"
    r"great[ ,.!]+|thanks?[ ,.!]+|thank you[ ,.!]+|yes[ ,.!]+|no[ ,.!]+|good[ ,.!]+|perfect[ ,.!]+|"
    r"can (?:you|u|i) |could (?:you|u|i) |would you |will you |i want (?:you )?(?:to )?|i need (?:you )?(?:to )?|"
    r"i would like (?:you )?to |i'd like (?:you )?to |help me (?:to )?(?:with )?|let'?s |try to |"
    r"you (?:have to|must|need to|should) )*"
)
_MAKE = (
    "write|create|creat|make|build|implement|develop|generate|code|program|design|give|show|provide|need|want|send|"
    "produce|solve|draw|plot"
)
_CHANGE = (
    "add|change|remove|delete|replace|rename|convert|modify|update|edit|rewrite|move|set|put|use|fix|adjust|improve|"
    "optimi[sz]e|simplify|refactor|extend|expand|regenerate|reformat|format|translate|port|migrate|upgrade|extract|"
    "split|merge|combine|alter|speed up|accelerate|clean up|redesign|restyle|include|integrate|turn|switch|transform|"
    "shorten|reduce|increase|account for|make it|make this|make the|make them"
)
_LANGUAGE = (
    r"python|javascript|java|kotlin|c\+\+|cpp|c#|golang|rust|php|sql|bash|vba|html|css|matlab|typescript|js|node|react|"
    r"vue|r|lua|pine"
)
_SOFTWARE = (
    r"code|script|program|function|class|method|api|app|application|bot|game|html|css|javascript|js|typescript|ts|"
    r"python|java|kotlin|swift|c\+\+|cpp|c#|csharp|golang|go|rust|ruby|php|perl|sql|mysql|postgres\w*|oracle|sqlite|"
    r"mongodb|query|database|table|bash|shell|powershell|linux|windows|ubuntu|docker|kubernetes|git|github|json|xml|"
    r"yaml|csv|regex|regexp|algorithm|array|list|string|integer|loop|variable|pointer|server|client|website|webpage|"
    r"web page|page|button|form|react|vue|angular|node|nodejs|express|django|flask|spring|flutter|android|ios|unity|"
    r"unreal|godot|excel|vba|macro|matlab|pandas|numpy|dataframe|tensorflow|pytorch|keras|model|neural|network|arduino|"
    r"fpga|verilog|plugin|module|library|package|framework|command|terminal|file|folder|url|http|tcp|endpoint|backend|"
    r"frontend|front-end|back-end|browser|selenium|scrap\w+|crawler|discord|telegram|webhook|pine ?script|tradingview|"
    r"mt4|mt5|mql\w*|indicator|latex|r code|rstudio|ggplot|matplotlib|opencv|cuda|gpu|ffmpeg|nginx|maven|gradle|npm|"
    r"pip|ide|vscode|compiler|compile|debug|dom|jquery|bootstrap|tailwind|lua|haskell|scala|julia|dart|solidity|"
    r"assembly|wpf|winforms|qt|tkinter|pygame|spreadsheet|formula|robot|ea|expert advisor|sed|awk|grep|curl|ssh|vim|"
    r"bios|wifi|cpu|ram|kernel|driver|dll|token|jwt|oauth|login|authentication|xgboost|lstm|cnn|classifier|dataset|"
    r"data set|tensor|plot|graph|chart|cell|sheet|column|row|matrix|dictionary|tuple|object|instance|constructor|"
    r"inheritance|interface|struct|enum|buffer|thread|mutex|async|await|promise|callback|event|listener|handler|"
    r"component|hook|state|props|route|router|controller|middleware|service|container|pod|cluster|deploy|deployment|"
    r"pipeline|ci|branch|commit|merge|repo|repository|localhost|ip|socket|packet|protocol|dns|proxy|vpn|cache|redis|"
    r"kafka|rabbitmq|hadoop|spark|airflow|etl|dbms|schema|primary key|foreign key|index|view|materialized|trigger|"
    r"cursor|procedure|pl/sql|uml|syntax|runtime|debugger|breakpoint|unit test|automation|screen|window|menu|popup|"
    r"modal|navbar|div|span|tag|attribute|selector|animation|pixel|svg|png|image|canvas|shader|texture|sprite|"
    r"gameobject|prefab|mouse|keyboard|enter key|checkbox|dropdown|textbox|label|widget|layout|responsive|software|"
    r"hardware|computer|operating system|interrupt|register|microcontroller|adc|i2c|spi|uart|gpio|usb|bluetooth|"
    r"encryption|decrypt|hash|md5|sha|base64|utf-?8|unicode|ascii|binary|bytes?|bit|float|double|boolean|bool|int|char|"
    r"null|none|recursion|recursive|iterate|sort|sorting|search|parse|parser|format|import|export|install|run|execute|"
    r"print|prime|palindrome|fibonacci|factorial"
)
_ELSEWHERE = (
    r"essay|article|blog|story|poem|song|lyrics|letter|email|e-mail|resume|cv|cover letter|linkedin|business|marketing|"
    r"money|stock|stocks|invest\w*|portfolio|trading|forex|crypto\w*|market|finance|financial|company|"
    r"customer|strategy|"
    r"audience|campaign|health\w*|diet|weight|travel|trip|resort|hotel|restaurant|history|war|religion|philosophy|"
    r"biology|chemistry|physics|economic\w*|management|paragraph|sentence|words|translate|translation|summar\w+|"
    r"rephrase|reword|paraphrase|grammar|professional|seo|meta description|title|course|student|teacher|university|"
    r"exam|research|proposal|literature|book|movie|film|character|astrology|zodiac|moon|pluto|gatsby|novel|"
    r"speech|quote|"
    r"slogan|recipe|team|leader\w*|organi[sz]ation|project management|quality|sigma|calculate|probability|theorem|"
    r"equation|triangle|angle|titrat\w+|discount|advice|idea|ideas|opportunit\w+|compet\w+|coupon|question"
)
_WRONG = (
    r"error|errors|erorr\w*|exception|traceback|not found|failed|fails|failing|fail|failure|crash\w*|segfault|"
    r"segmentation|doesn'?t work|does not work|not work\w*|don'?t work|didn'?t work|isn'?t working|"
    r"undefined|unexpected|"
    r"invalid|cannot|can ?not|can'?t|couldn'?t|could not|unable|wrong|incorrect|problem|issue|issues|bug|bugs|broken|"
    r"stuck|hangs?|freez\w+|no such|denied|refused|missing|null|nan|warning|unrecogni[sz]ed|unresolved|"
    r"nothing happens?|blank|black screen|not defined|undeclared|leak\w*|deadlock|throws?|stack overflow|does not|"
    r"not take effect|insufficient|exit code"
)

_CUES = {
    "opens how": f"^{_POLITE}{_w('how|how to|ho do')}",
    "how to": _w("how (?:to|do|can|could|would|should|does|is|are|did|i)"),
    "opens what": f"^{_POLITE}{_w(r'what|what.s|whats')}",
    "opens why": f"^{_POLITE}{_w('why')}",
    "opens which": f"^{_POLITE}{_w('which|where|when|who|whom|whose')}",
    "opens be": f"^{_POLITE}{_w('is|are|was|were|am')}",
    "opens do": f"^{_POLITE}{_w('does|do|did|has|have|if')}",
    "opens can it": r"^(?:so |but |and |then |ok |hi )*(?:can|could|should|would|will|may) (?!you|u\b|i get|i have)",
    "opens explain": f"^{_POLITE}{_w('explain|describe|define|walk me through|tell me|elaborate|clarify|understand|list|name|mention|discuss|analy[sz]e|compare')}",  # noqa: E501
    "explain": _w(
        "explain|explanation|meaning|mean|means|difference|differences|understand|what does|what is|what are|purpose|"
        "definition|advantages|disadvantages|step by step"
    ),
    "opens change": f"^{_POLITE}{_w(_CHANGE)}",
    "change": _w(_CHANGE),
    "change it": _w(_CHANGE) + r" (?:it|this|that|these|those|them|my|your|above|the above|same)(?!\w)",
    "the code": _w(
        r"(?:the|this|my|your|above|following|that|previous|last|current|existing|below|given|full|whole|entire|same) "
        r"(?:\w+ )?(?:code|script|function|program|query|answer|file|app|class|trigger|method|version|one|table|page|"
        r"bot|style|css)"
    ),
    "opens it": r"^(?:and |but |ok |so |no |now |then )*" + _w("it|this|that|these|there|they|the|i"),
    "now also": _w("also|now|again|instead|rather|same|too|another|more|still|only|additionally|without"),
    "opens reply": r"^(?:no|not|nope|sorry|great|good|perfect|nice|works|yes|ok|okay|thanks|thank you|now)(?!\w)",
    "so that": _w(
        "so that|such that|to be|should be|instead of|i want the|i want it|i want to|make it|make them|let it"
    ),
    "opens make": f"^{_POLITE}{_w(_MAKE)}",
    "make": _w(_MAKE),
    "make software": _w(_MAKE) + r" (?:\S+ ){0,5}" + _w(_SOFTWARE),
    "make other": _w(_MAKE) + r" (?:\S+ ){0,5}" + _w(_ELSEWHERE),
    "code for": _w("(?:code|script|program|query|function|command|formula) (?:for|to|that|which|in|of|with|using)"),
    "in language": _w(f"(?:in|using|with|use|on|into|to) (?:the )?(?:{_LANGUAGE})"),
    "opens language": "^(?:in )?"
    + _w(
        _LANGUAGE + "|android|flutter|excel|git|linux|pandas|numpy|jetpack|tkinter|uniapp|qstring|nestjs|spring|ffmpeg|"
        "django|laravel|unity|jquery|vuejs|oracle|mysql"
    ),
    "contest": _w(
        r"time limit|memory limit|constraints|test case|input|output|sample|example \d|standard input|leetcode|"
        r"given an?|return (?:the|a|an)|task \d+|exercise"
    ),
    "wrong": _w(_WRONG),
    "wrong:": r"(?:error|exception|warning|fatal|traceback|err!)[\w\]\)]{0,8}\s?[:!\[(\"]",
    "trace": r"traceback|file \"|line \d+|\bat [\w.$]+\(|\.py:\d|\.js:\d|\.java:\d|:\d+:\d+|stack trace",
    "fix": _w(
        r"fix|solve|resolve|debug|troubleshoot|correct|repair|figure out|what'?s wrong|what is wrong|"
        r"why (?:is|are|does|do|isn'?t|doesn'?t|don'?t|am i|i get)|get(?:ting)? (?:this |an |the )?error|"
        r"gives? (?:me )?(?:this |an |the )?error|should i do|overcome|deal with|what to do"
    ),
    "you": _w(
        "are you|do you|your (?:model|context|opinion|name|version|maximum)|you are an?|act as|behave as|acts as|"
        "pretend|imagine"
    ),
    "advice": _w(
        r"recommend\w*|suggest\w*|best|better|advice|opinion|ideas?|think|should i|brainstorm|worth|options|tips|"
        "what else"
    ),
    "rephrase": _w(
        r"translate|translation|translator|rephrase|reword|paraphrase|summari[sz]e|summary|"
        r"rewrite (?:it|this|the) (?:message|text|sentence|email|paragraph)|professional|in \d+ words|\d+ words|words"
    ),
    "check": _w(
        r"review|check|audit|critique|feedback|evaluate|assess|verify|validate|proofread|flaws?|improvements?|"
        r"best practices?|vulnerabilit\w+|double check|rate"
    ),
    "tests": _w(
        r"unit[- ]?tests?|tests?|testing|test cases?|test data|test suite|pytest|junit|jest|mocha|mock\w*|coverage|tdd|"
        "assertions?"
    ),
    "documents": _w(
        r"document\w*|docstrings?|readme|comment|comments|commented|manual|guide|tutorial|specifications?|"
        r"requirements?|"
        r"changelog|release notes|jsdoc|javadoc|commit message|ticket|user stor(?:y|ies)|acceptance criteria|report|"
        r"case study|assumptions?|deliverables?|proposal|design document|system design"
    ),
    "complete": _w("complete|finish|continue|fill in|fill|autocomplete|carry on|go on|next line|rest of"),
    "call": r"[\w.]+\([^)]{0,80}\)",
    "definition": r"(?<!\w)(?:def|class|function|import|#include|public|private|void|int|var|let|const|using|select|"
    r"create table|<\?php|<html|<div|<script|return|println|std::)(?!\w)",
    "assignment": r"\w ?[+-]?= ?\w",
    "arrow": "=>|->|::|&&|; ",
    "question": r"[?\uff1f]",
    "ends question": r"[?\uff1f]\W*$",
    "opens code": r"^[<{(#/@\[$>]|^(?:import|from|def|class|public|using|function|const|let|var|void|int|"
    r"package|select)\s",
    "ends unfinished": r"(?:return|[=({,+*]|\"\"\"|->|:|in|on)\s*$",
    "dots": r"\.\.\.|…",
    "based on": _w("based on|according to|following"),
    "assistant": _w(
        r"your (?:maximum|max|context|tokens?|output|knowledge|training|capabilit\w+)|max(?:imum)? tokens?|"
        r"token (?:limit|output)|(?:do|are|can|did) (?:you|u) (?:know|able|trained|there|an? ai|free|speak|remember)|"
        r"cut-?off|openai|anthropic|trained on"
    ),
    "school": _w(
        r"deduce|prove that|theorem|derivatives?|integrals?|covariance|hypothes[ie]s|variance|expected return|"
        r"how many (?:years|people|members|grams|days)|coupon|credits|phrase|seo|industr\w+|salary|profits?|revenue|"
        r"sales|papers?|legal|law|rights?|council|monetiz\w+|investors?|customers?|brand\w*"
    ),
    "quiz": r"(?<!\w)a[.)] .{1,80}(?<!\w)b[.)] |is called ?[.…:?]|_{4,}|"
    + _w(r"true or false|which of the following|select one|question \d+|multiple choice"),
    "as format": _w(
        rf"(?:as|in|into|to) (?:a |an )?(?:{_LANGUAGE}|markdown|table|json|list|report|chinese|english|german|french|"
        r"spanish|russian|bullet points|one line|one file|separate files?)(?: code| format| instead)?"
    ),
    "opens use": f"^{_POLITE}{_w('use|using|based on|with|given')}",
    "opens not": f"^{_POLITE}{_w('do not|don.t|dont|without|no|not|only|just|never|instead')}",
    "same": _w("the same|same for|do that|like this|this one|other one|as before|like before"),
    "shaped error": r"expected .{1,20}(?:after|before|but got)|(?<!\w)(?:msg|e|c|cs|ts|lnk|ora-|err)[- ]?\d{3,}|"
    r"is not an? (?:\w+ ){0,2}(?:function|type|member|module|command|name)|"
    r"no (?:\w+ )?(?:matching|conversion|overload|module|viable|candidate) |(?:at [\w.<>$]+\(.{0,80}\) ){2}",
    "letter": _w(r"subject ?:|dear (?:\w+|\(|\[)|best regards|kind regards|sincerely|yours|hello \("),
    "in the end": _w(
        r"core classes|names of the|all (?:the )?(?:files|necessary)|every file|file structure|clarif\w+|long answer|"
        "entrypoint|folder structure|step by step plan|the entire|the whole|everything"
    ),
    "look like": _w("look like|looks like|would look|will look|need to (?:look|seem|be)|be like"),
    "mine": _w("i want to|i need to|i would like|i'm trying|i am trying|i have|i wrote|i made"),
    "judge": r"^.{0,40}"
    + _w(
        "flaws?|feedback|critique|review|rate|correct|right|good|better|ok|okay|fine|mistakes?|improve|improvements?|"
        "thoughts|opinion|check|evaluate|assess|judge|proofread|audit"
    )
    + r".{0,30}[?:\"]",
}

_SAID = r"(?:^|[.!?:;,] |\b(?:and|then|to|you|please|pls|i|me) )"
_DEEDS = {
    "debug": r"(?:error|exception|traceback|warning|fatal|errno|undefined reference|not found|no such)\b.{0,4}[:\[(]|"
    r"[a-z]{3,}(?:error|exception)(?!\w)|"
    + _w(
        r"error|errors|bug|bugs|crash\w*|not working|doesn'?t work|does not work|don'?t work|didn'?t work|"
        r"isn'?t working|not work|failing|fails|failed|wrong (?:answer|answers|result|results|output)|"
        r"incorrect (?:answer|result|output)|what'?s wrong|what is wrong|whats wrong|not found|exit code|black screen|"
        r"nothing happens|not defined|undefined|unexpected|segfault|null pointer|stuck|hangs|cannot find|"
        r"can'?t (?:find|import|connect|open|run|see)|could not|unable to|"
        r"does not (?:change|take|appear|show|respond|start|load|update|exist)|"
        r"doesn'?t (?:change|take|appear|show|respond|start|load|update|exist)|"
        r"there is (?:still )?(?:a|an) (?:problem|error|issue)|fix(?:e|ed)?(?: the| this| that| my| it)|"
        r"solve (?:this|the) (?:error|problem|issue)|figure out why|"
        r"why (?:is|are|does|do|am|isn'?t|doesn'?t|don'?t) (?:my|i|it|this|the)|overcome|not recogni[sz]ed|invalid|"
        r"insufficient|giv(?:es|ing) me only|app doing nothing|not responding|misbehav\w+|cannot|"
        r"correct (?:the|this|my) \w+|(?:how (?:to|do i|can i)|to) (?:correct|fix|solve|resolve|avoid)|fix this|"
        r"needs to be fixed|has (?:an error|a bug)|not finished"
    ),
    "test": _w(
        "write|create|add|generate|make|need|give|implement|insert\\w*|design|provide|more|increase|prepare|propose"
    )
    + r" (?:\S+ ){0,4}"
    + _w(
        r"(?:unit |integration |e2e |end-to-end |single |automated )*(?:tests?|test cases?|test data|test suites?|"
        "test framework|test plan|test scenarios|test scripts?|coverage)"
    )
    + "|"
    + _w("unit tests? (?:for|of)|test cases? (?:for|of)|inserting test data|which technique will you use to test"),
    "review": _w(
        r"review (?:this|my|the|it|of|please)|code review|feedback|critique|audit|flaws?|double check|best practices?|"
        r"rate (?:my|this)|is (?:it|this|that|my|the)(?: \w+){0,4} (?:correct|right|ok|okay)|"
        r"is it (?:better|correct|ok|good|right)|am i (?:doing|right|correct)|what about this|how would you feel|"
        r"check (?:my|this|if my|the following|whether my)|evaluate (?:my|this|the)|"
        r"what do you think (?:of|about) (?:my|this)|improvements?|vulnerabilities|"
        r"my (?:logic|code|solution|answer) (?:is )?(?:correct|right)|would this (?:code |approach )?work|"
        r"can this (?:\w+ ){1,4}work"
    ),
    "documentation": _w(
        r"document\w*|docstrings?|readme|comments? (?:to|in|on|for)|commented|(?:user|instruction|friendly) manual|"
        r"manual|specification|requirements? (?:document|specification|of the)|functional requirements|changelog|"
        r"release notes|jsdoc|javadoc|commit message|jira ticket|user stor(?:y|ies)|case study|uml|er diagram|erd|"
        r"dfd'?s?|diagrams?|flow ?charts?|plant ?uml|draw\.?io|data dictionary|system design|software architecture|"
        "installation guide|tutorial on"
    ),
    "autocomplete": _w(
        r"(?:complete|finish|continue) (?:this|the|my|it|with this|writing)(?: \w+){0,2} ?(?:code|function|"
        r"method|class|"
        r"script|program|line|snippet|implementation|query)|fill in the (?:blanks?|missing|gaps?|middle)|"
        r"can you continue this|continue this|next line|complete the (?:body|rest|line|code|following code)|"
        r"autocomplete"
    ),
    "agentic": _w(
        r"all (?:the )?(?:files|scripts|modules|necessary scripts)|"
        r"entire (?:repo\w*|code ?base|app\w*|system|project|platform)|whole (?:repo\w*|code ?base|project)|"
        r"full[- ]stack|autonomous\w*|lay out|core classes|pull request|folder structure|run the tests|"
        r"complete and fully functional|fully functional|complete (?:application|project|system|software)|every file|"
        "each file|across the|must have sqlite|step and execute"
    ),
    "refactor": r"(?:^|[.!?:;,] |\b(?:and|then|to|you|please|pls|now|also|i want|no) )"
    + _w(_CHANGE)
    + "(?= )|"
    + _w(
        "instead|make it|make them|make this|the same|do the same|so that|modify|refactor|rewrite|convert|alter|"
        "edit this|change the|update the|can you make|without changing|i want the|should be|regenerate|"
        "translate (?:this|the) code"
    ),
    "generate": _SAID
    + _w(_MAKE)
    + r" (?:\S+ ){0,6}?"
    + _w(_SOFTWARE)
    + "|"
    + _w(
        r"code (?:for|to|that|which|please)|script (?:for|to|that|which)|program (?:for|to|that|which)|query to|"
        r"query for|function (?:that|to|which)|write the code|write code|time limit|memory limit|implement\w*|"
        r"implementation|macro|formula (?:for|to)|command to|given an? (?:array|string|list|integer|matrix|number)|"
        r"solve (?:it )?in|task \d+"
    ),
    "explain": f"^{_POLITE}"
    + _w(
        r"how|how to|what|what's|whats|why|which|where|when|who|is|are|does|do|did|explain|describe|difference|tell me|"
        r"(?:can|could|should|would|will|may)(?! (?:you|u|i get|i have)(?!\w))"
    )
    + "|"
    + _w(
        r"how (?:to|do|can|could|would|should|does|i)|what (?:is|are|does|do|if)|explain|difference between|"
        r"meaning|(?:does|do|would) (?:\S+ ){1,6}mean|"
        r"help me understand|is it possible|is there (?:a|an|any)|any way to|can you explain|what's going on|used for|"
        r"give (?:me )?an example|an example"
    ),
    "chat": _w(
        r"essay|article|poem|story|letter|cover letter|resume|business plan|marketing|invest\w*|stocks?|strategy|"
        r"translate(?! (?:this|the) code)|translation|summari[sz]e|summary|rephrase|reword|paraphrase|ideas?|suggest|"
        r"recommend\w*|advice|brainstorm|should i|do you think|what do you think|thanks?|thank you|your name|"
        r"(?:which|what|ai|your) model|act as|acts as|behave as|pretend|imagine|make money|money|tips|opinion|"
        r"professional(?:ly)?|presentation|proposal|calculate the|probability|how many years|mcqs?|horoscope|tweets?|"
        r"list of|brief introduction|economic\w*|opportunit\w+|competit\w+"
    ),
}
"""How the deeds are asked for, in the order in which the labelling guide takes them."""

_DEEDS_ABROAD = {
    "debug": (
        r"fehler\w*|funktioniert nicht|geht nicht|stürzt|behebe|erreurs?|ne marche pas|ne fonctionne pas|plante\w*|"
        r"corrige|no funciona|falla|fallo|errores|error en|erro|erros|não funciona|trava|corrija|falha|"
        r"ошибк\w*|не работает|исправ\w*|падает|не так|не проходит",
        "报错|错误|崩溃|修复|不能运行|没有反应|哪里错|エラー|バグ|動きません|間違|落ちる",
    ),
    "test": (
        r"unit-?tests?|testfälle\w*|tests? (?:für|pour|para|unitaires)|cas de test|pruebas unitarias|casos de prueba|"
        r"testes|casos de teste|тест\w*|юнит-тест\w*",
        "单元测试|测试用例|测试覆盖率|単体テスト|テスト",
    ),
    "review": (
        r"überprüfe\w*|prüfe|ist das richtig|verbessern|relis|revue de code|vérifie|est-ce correct|penses-tu de mon|"
        r"revisa|revisión|está bien|mejorarías|revise|revisão|está correto|melhoraria|verifique|"
        r"проверь|код-ревью|правильно ли|улучшить",
        "检查|审查|对吗|评价|レビュー|正しいですか|改善点|脆弱性",
    ),
    "documentation": (
        r"dokumentation\w*|dokumentiere|kommentare?|diagramm\w*|documentation de|documente|commentaires?|diagramme|"
        r"cahier des charges|documentación|comentarios?|diagrama|manual de usuario|documentação|comentários?|"
        r"manual do usuário|документаци\w*|комментари\w*|диаграмм\w*",
        "文档|注释|README|ドキュメント|コメント|クラス図|ER图",
    ),
    "autocomplete": (
        r"vervollständige\w*|ergänze|zu ende|führe diesen code|complète|termine ce|remplis|continue le code|"
        r"completa esta|termina este|rellena|continúa|complete esta|termine este|preencha|continue este|"
        r"допиши|дополни|продолжи|заполни",
        "补全|写完|继续写|補完|続き|空欄",
    ),
    "agentic": (
        r"komplette anwendung|ganze repository|alle dateien|application complète|tout le dépôt|tous les fichiers|"
        r"aplicación completa|todo el repositorio|todos los archivos|aplicação completa|todo o repositório|"
        r"todos os arquivos|всё приложение|всему репозиторию|все файлы",
        "整个项目|整个仓库|所有文件|アプリ全体|リポジトリ全体|すべてのファイル",
    ),
    "refactor": (
        r"refaktorier\w*|ändere|ersetze|entferne|benenne|füge|mach es|schreibe diesen|refactorise|modifie|convertis|"
        r"ajoute|renomme|remplace|rends|refactoriza|modifica|convierte|agrega|añade|cambia|reemplaza|hazlo|refatore|"
        r"modifique|converta|adicione|troque|substitua|deixe|отрефактори\w*|измени|добавь|перепиши|замени|убери|"
        r"переименуй|упрости\w*|оформи|переделай",
        "重构|优化|改成|修改|换成|这样改|再加|加上|変更|追加|書き換え|リファクタ|速くして",
    ),
    "generate": (
        r"schreibe|schreib|erstelle|programmiere|implementiere|baue|generiere|écris|crée|génère|implémente|"
        r"programme une|développe|escribe|crea|programa una|implementa|genera|haz|escreva|crie|faça|implemente|gere|"
        r"напиши|создай|сделай|реализуй|сгенерируй|нужен|нужна",
        "写|实现|生成|编写|创建|書いて|作成|作って|実装",
    ),
    "explain": (
        r"was macht|was ist|was bedeutet|wie|warum|erkläre?|wofür|que fait|qu'est-ce|pourquoi|explique\w*|"
        r"comment (?:ça|lire|faire|est|puis|on|supprimer|je|fonctionne|utiliser)|quelle|qué|cómo|por qué|explica\w*|"
        r"cuál|o que|como|por que|qual|что|как|почему|объясни|чём разница|зачем|где",
        "什么|怎么|为什么|如何|解释|区别|作用|何を|何ですか|どう|なぜ|説明|とは|違い|教えて",
    ),
    "chat": (
        r"hallo|hältst|welche|aufsatz|übersetze|fasse|gib mir ideen|bonjour|salut|que penses-tu de|dissertation|"
        r"traduis|donne-moi des idées|hola|qué opinas|ensayo|recomiendas|traduce|ideas para|olá|você acha|redação|"
        r"recomenda|traduza|ideias|привет|думаешь|посоветуй|сочинение|переведи",
        "你好|推荐|作文|你是什么|点子|翻译|こんにちは|おすすめ|エッセイ|アイデア|翻訳",
    ),
}
"""The same in German, French, Spanish, Portuguese and Russian; and in Chinese and Japanese, which have no blanks."""

_CODE = r"[{};]|\w\(\w*\)|=>|::|</|\w_\w|(?<!\w)(?:def|import|#include|public|void|var|const|select \S+ from)(?!\w)"
_PAIRED = ("generate", "refactor", "explain", "debug")


@dataclass(frozen=True)
class _Signs:
    """What texts are searched for: cues and deeds by name after “cue ” and “deed ”, words of two worlds, and orders to
    the router."""

    cues_and_deeds: Patterns
    software: WordPattern
    elsewhere: WordPattern
    code: re.Pattern[str]
    orders: WordPattern


@functools.cache
def _signs() -> _Signs:
    """Compiled at the first reading: a server that only ranks by declared kinds never needs them."""
    return _Signs(
        cues_and_deeds=Patterns(_sought()),
        software=WordPattern(_w(_SOFTWARE)),
        elsewhere=WordPattern(_w(_ELSEWHERE)),
        code=re.compile(_CODE),
        orders=WordPattern(_DIRECTIVE),
    )


def _sought() -> dict[str, str]:
    cues = {f"cue {name}": pattern for name, pattern in _CUES.items()}
    deeds = {
        f"deed {name}": f"{pattern}|{_w(_DEEDS_ABROAD[name][0])}|{_DEEDS_ABROAD[name][1].lower()}"
        for name, pattern in _DEEDS.items()
    }
    return cues | deeds


@dataclass(frozen=True)
class Weights:
    """What a signal or a word adds to the log-odds of each kind, in the order of KINDS, in units of 1/SCALE.

    ``terms`` are pairs of words and openings, as terms_of() names them. ``common`` are the words that a word with one
    slip may stand for. ``bias`` is added to every reading.
    """

    bias: tuple[int, ...]
    signals: Mapping[str, tuple[int, ...]]
    words: Mapping[str, tuple[int, ...]]
    terms: Mapping[str, tuple[int, ...]]
    common: frozenset[str]


@dataclass(frozen=True)
class Reading:
    """``probabilities`` by kind sum to one; ``plausible`` are the kinds to reckon with, the likeliest first.

    ``sure``: the likeliest kind has at least SURE_PROBABILITY and no other is plausible.
    ``guarded``: the text speaks to the router, or repeats itself; each of its parts was read by itself as well.
    ``words`` are known words of the text that speak most for the likeliest kind; ``known``: there is a known word.
    """

    probabilities: Mapping[str, float]
    plausible: tuple[str, ...]
    sure: bool
    guarded: bool
    words: tuple[str, ...]
    known: bool

    @property
    def kind(self) -> str:
        return self.plausible[0]


class Reader:
    """Reads texts with one set of weights."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._slips = slips(weights.common)

    def read(self, text: str) -> Reading:
        """The kind of work ``text`` asks for. Takes any text, the empty one included; its work is bounded."""
        stated, directed, repeated = cleaned(text)
        by_line, line_directed, _ = cleaned(_outer_lines(text))  # an order may end where a line does
        directed |= line_directed
        odds, words, written = self._odds(stated)
        probabilities = _softmax(odds)
        plausible = _plausible(probabilities)
        if directed or repeated:
            # What was said to the router may have held the task itself: the text as it stands is read as well. Of what
            # repeats itself nothing is lost.
            whole = [_plain(_edges(text))] if directed else []
            chosen = dict.fromkeys([*whole, *(part for each in (stated, by_line) for part in _ends(each))])
            read = (probabilities, *(_softmax(self._odds(part)[0]) for part in chosen))
            plausible = tuple(dict.fromkeys(kind for each in read for kind in _plausible(each, GUARDED_SHARE)))
        likeliest = probabilities[plausible[0]]
        best = KINDS.index(plausible[0])
        # A word that was put right is weighed, but not quoted.
        telling = [word for word in words.keys() & written if words[word][best] > 0]
        telling.sort(key=lambda word: (-words[word][best], word))
        quoted = (word for word in telling if not _SMALL_WORDS.fullmatch(word))
        return Reading(
            probabilities=probabilities,
            plausible=plausible,
            sure=likeliest >= SURE_PROBABILITY and len(plausible) == 1,
            guarded=directed or repeated,
            words=tuple(itertools.islice(quoted, 3)),
            known=bool(words),
        )

    def _odds(self, stated: str) -> tuple[list[float], dict[str, tuple[int, ...]], set[str]]:
        """The log-odds of each kind; the known words, each with its weights; and the words as they are written."""
        plain, words = corrected(stated, self._weights.words, self._slips)
        known = {word: self._weights.words[word] for word in dict.fromkeys(words) if word in self._weights.words}
        terms = [self._weights.terms[term] for term in terms_of(words) if term in self._weights.terms]
        odds = [float(each) for each in self._weights.bias]
        for rows, power in ((list(known.values()), WORD_POWER), (terms, TERM_POWER)):
            if rows:
                share = len(rows) ** -power
                for position, column in enumerate(zip(*rows, strict=True)):
                    odds[position] += share * sum(column)
        for name, value in signals(plain).items():
            row = self._weights.signals.get(name)
            if row is not None:
                odds = [odd + weight * value for odd, weight in zip(odds, row, strict=True)]
        return [each / SCALE for each in odds], known, set(words if plain == stated else words_of(stated))


def cleaned(text: str) -> tuple[str, bool, bool]:
    """The text as it is read; whether something in it speaks to the router; and whether repetition was left out.

    Lower case, one blank between words; without invisible characters, blobs, names of models and what is said to the
    router; of words that come again and again, the first two.
    """
    plain = _plain(_edges(text))
    if max(map(len, plain.split()), default=0) >= BLOB_CHARACTERS:
        plain = _BLOB.sub(" ", plain)
    words = Text(plain)
    orders = _signs().orders.spans(words)
    stated = _replaced(plain, orders, " . ")
    suspects = [word for word in words.places if word[:3] in _FAMILY_STARTS]
    if any(word.startswith(_FAMILIES) or word in _NUMBERED for word in suspects):
        stated = _MODEL.sub(" ", stated)
    found = stated.split()
    kept = _undrowned(found) if len(found) > 40 else found
    return " ".join(kept), bool(orders), len(kept) < len(found)


def _replaced(plain: str, spans: list[tuple[int, int]], by: str) -> str:
    if not spans:
        return plain
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(plain)]
    return by.join(plain[end:start] for end, start in zip(ends, starts, strict=True))


def _undrowned(found: list[str]) -> list[str]:
    """Words without the third and further ones of those that drown the rest."""
    counts = Counter(found)
    many = max(12.0, 0.05 * len(found))
    drowned = {word for word, count in counts.items() if count > many and len(word) > 3}
    if len(counts) < 0.1 * len(found):
        drowned |= {word for word, count in counts.items() if count > 6 and len(word) > 3}
    if not drowned:
        return found
    seen = dict.fromkeys(drowned, 0)
    kept = []
    for word in found:
        if word in seen:
            seen[word] += 1
            if seen[word] > 2:
                continue
        kept.append(word)
    return kept


def signals(plain: str) -> dict[str, float]:
    """Cues in a plain text, by name; each is 1 but shares of counted words. No work beyond the text's two ends."""
    signs = _signs()
    head = plain[:CUE_HEAD_CHARACTERS]
    tail = plain[max(len(head), len(plain) - CUE_TAIL_CHARACTERS) :]
    beginning = Text(head)
    in_head = signs.cues_and_deeds.starts(beginning)
    in_tail = signs.cues_and_deeds.starts(Text(tail), but=in_head) if tail else {}
    values: dict[str, float] = {}
    there = set()
    for name in _CUES:
        if f"cue {name}" in in_head:
            values[f"head {name}"] = 1.0
            there.add(name)
        elif name[:5] != "opens" and f"cue {name}" in in_tail:
            values[f"tail {name}"] = 1.0
            there.add(name)
    starts = {}
    deeds = []
    for name in _DEEDS:
        start = in_head.get(f"deed {name}")
        if start is not None:
            starts[name] = start
            values[f"deed {name}"] = 1.0
            if start < OPENING_CHARACTERS:
                values[f"deed opens {name}"] = 1.0
            deeds.append(name)
        elif f"deed {name}" in in_tail:
            values[f"deed ends {name}"] = 1.0
            deeds.append(name)
    software = len(signs.software.spans(beginning))
    elsewhere = len(signs.elsewhere.spans(beginning))
    code = signs.code.search(head) is not None
    values["software"], values["elsewhere"] = min(software, 4) / 4, min(elsewhere, 4) / 4
    topic = "software" if software > elsewhere or code else "elsewhere" if elsewhere or not software else "either"
    first = deeds[0] if deeds else "none"
    earliest = min(starts, key=lambda name: starts[name]) if starts else "none"
    size = "short" if len(plain) < 60 else "middling" if len(plain) < 300 else "long"
    code_at = [name for name, part in (("first", plain[:80]), ("last", plain[80:][-80:])) if signs.code.search(part)]
    for name in (
        f"topic {topic}",
        f"first {first}",
        f"first {first} {topic}",
        f"first {first} {size}",
        f"earliest {earliest}",
        f"earliest {earliest} {topic}",
        f"size {size}",
        f"code {' and '.join(code_at) or 'in neither end'}",
        f"earliest {earliest} {size}",
    ):
        values[name] = 1.0
    for name in deeds:
        values[f"deed {name} {'code' if code else 'bare'}"] = 1.0
    both = [name for name in deeds if name in _PAIRED]
    for position, name in enumerate(both):
        for other in both[position + 1 :]:
            values[f"deeds {name} {other}"] = 1.0
    for name, holds in _combined(there, size).items():
        if holds:
            values[f"both {name}"] = 1.0
    values["length"] = math.log1p(len(plain)) / 4
    values["code share"] = min(1.0, 8 * sum(map(head.count, "{}[]();=<>_&|#")) / max(len(head), 1))
    return values


def _combined(there: set[str], size: str) -> dict[str, bool]:
    software, code = "make software" in there, bool(there & {"definition", "assignment", "arrow"})
    asks = bool(there & {"question", "how to", "make", "change", "wrong", "explain", "fix"})
    opens = bool(there & {"opens what", "opens which", "opens be", "opens do"})
    return {
        "make other, no software": "make other" in there and not software,
        "change, code": "change" in there and code,
        "change, short, no code": "change" in there and not code and size != "long",
        "question, code": bool(there & {"question", "how to"}) and code,
        "how to, nothing wrong": "how to" in there and "wrong" not in there,
        "how to, wrong": "how to" in there and "wrong" in there,
        "wrong, code": "wrong" in there and code,
        "wrong, no code": "wrong" in there and not code,
        "wrong, short": "wrong" in there and size == "short",
        "code, nothing asked": code and not asks,
        "nothing asked": not asks and not code,
        "opens question, code": opens and code,
        "opens make, software": "opens make" in there and software,
        "opens make, no software": "opens make" in there and not software,
        "opens change, not make": "opens change" in there and "opens make" not in there,
        "now also, change": "now also" in there and "change" in there,
        "as format, short": "as format" in there and size == "short" and "make software" not in there,
        "format, the code": "as format" in there and "the code" in there,
        "assistant, short": "assistant" in there and size != "long" and not software,
        "bare name, short": size == "short" and not asks and not opens and not code,
        "school, no software": "school" in there and not software,
        "opens question, school": opens and "school" in there,
        "opens use, change": "opens use" in there and "change" in there,
        "letter, judged": "letter" in there and "judge" in there,
        "look like, code": "look like" in there and bool(there & {"the code", "code for"}),
        "wrong, how to fix": "wrong" in there and "fix" in there,
        "opens it, short": "opens it" in there and size == "short",
    }


def words_of(plain: str) -> list[str]:
    """The words of a plain text: runs of letters and digits; each character of a script written without blanks."""
    found = (_ASCII_WORD if plain.isascii() else WORD).findall(plain)
    return [word[:24] for word in found if not word.isdecimal()]


def terms_of(words: list[str]) -> set[str]:
    """Pairs of neighbouring words; and, marked by ^, the first three words and the first two together."""
    first = " ".join(words[:2])
    return set(map(" ".join, itertools.pairwise(words))) | {f"^ {word}" for word in [*words[:3], first] if word}


def slips(common: frozenset[str]) -> dict[str, str]:
    """Common words of four letters or more, by every spelling of them that lacks one letter."""
    found: dict[str, str] = {}
    for word in sorted(common):
        if len(word) >= 4 and word.isascii():
            for place in range(len(word)):
                found.setdefault(word[:place] + word[place + 1 :], word)
    return found


def corrected(plain: str, known: Mapping[str, object], by_slip: Mapping[str, str]) -> tuple[str, list[str]]:
    """The text and its words, with words one slip away from a common word put right: a letter too many, missing,
    wrong, or two swapped. A bounded number of unknown words is looked at."""
    words = words_of(plain)
    right: dict[str, str] = {}
    for word in dict.fromkeys(words):
        if len(right) == CORRECTED_WORDS:
            break
        if len(word) >= 4 and word not in known and word.isascii() and word.isalpha():
            meant = _meant(word, known, by_slip)
            if meant is not None:
                right[word] = meant
    if not right:
        return plain, words
    parts = (_ASCII_APART if plain.isascii() else _APART).split(plain)
    parts[1::2] = [right.get(word, word) for word in parts[1::2]]
    return "".join(parts), [right.get(word, word) for word in words]


def _meant(word: str, known: Mapping[str, object], by_slip: Mapping[str, str]) -> str | None:
    if word in by_slip:
        return by_slip[word]
    lesses = [word[:place] + word[place + 1 :] for place in range(len(word))]
    if known.keys().isdisjoint(lesses) and by_slip.keys().isdisjoint(lesses):
        return None
    for less in lesses:
        if len(less) >= 4 and less in known:
            return less
        other = by_slip.get(less)
        if other is not None and len(other) == len(word) and _near(word, other):
            return other
    return None


def _near(word: str, other: str) -> bool:
    differing = [place for place in range(len(word)) if word[place] != other[place]]
    if len(differing) == 1:
        return True
    return (
        len(differing) == 2
        and differing[1] == differing[0] + 1
        and word[differing[0]] == other[differing[1]]
        and word[differing[1]] == other[differing[0]]
    )


def _ends(stated: str) -> list[str]:
    """The first and the last sentences of a text as it is read, each cut short; of few, their halves as well, for a
    sentence may hold a task beside what dilutes it."""
    parts = [part for part in (_ASCII_SENTENCE if stated.isascii() else _SENTENCE).split(stated) if part.strip()]
    if len(parts) > PARTS:
        parts = [*parts[: PARTS // 2], *parts[-(PARTS // 2) :]]
    found = [part[:PART_CHARACTERS] for part in parts]
    if len(found) < PARTS:
        for words in [part.split() for part in found]:
            middle = (len(words) + 1) // 2
            found += [" ".join(words[:middle]), " ".join(words[middle:])] if middle > 2 else []
    return found


def _outer_lines(text: str) -> str:
    """The first and the last lines of a text that has several, each cut short and made a sentence; or nothing.

    Without what a line is marked with: bullets, quotes, stars."""
    ends = text if len(text) <= 2 * CLOSE_CHARACTERS else f"{text[:CLOSE_CHARACTERS]}\n{text[-CLOSE_CHARACTERS:]}"
    lines = [line for line in (_MARKS.sub("", line)[:PART_CHARACTERS] for line in ends.splitlines()) if line]
    outer = lines if len(lines) <= PARTS else [*lines[: PARTS // 2], *lines[-(PARTS // 2) :]]
    return " . ".join(outer) if len(lines) > 1 else ""


def _edges(text: str) -> str:
    """All of a short text; of a long one its beginning and its end. What is invisible, and blanks beside blanks, are
    not counted; only where a long text's ends hold hardly anything else is all of it looked at."""
    both = HEAD_CHARACTERS + TAIL_CHARACTERS
    if len(text) > 2 * CLOSE_CHARACTERS:
        head, tail = _squeezed(text[:CLOSE_CHARACTERS]), _squeezed(text[-CLOSE_CHARACTERS:])
        if len(head) >= HEAD_CHARACTERS and len(tail) >= TAIL_CHARACTERS:
            return f"{head[:HEAD_CHARACTERS]} {tail[-TAIL_CHARACTERS:]}"
    whole = _squeezed(text)
    return whole if len(whole) <= both else f"{whole[:HEAD_CHARACTERS]} {whole[-TAIL_CHARACTERS:]}"


def _squeezed(text: str) -> str:
    return " ".join((text if text.isascii() else _INVISIBLE.sub("", text)).split())


def _plain(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("’", "'")
    return " ".join(text.lower().split())


def _softmax(odds: list[float]) -> dict[str, float]:
    top = max(odds)
    raised = [math.exp(each - top) for each in odds]
    total = sum(raised)
    return {kind: each / total for kind, each in zip(KINDS, raised, strict=True)}


def _plausible(probabilities: Mapping[str, float], share: float = PLAUSIBLE_SHARE) -> tuple[str, ...]:
    """Kinds with at least ``share`` of the likeliest one's probability, the likeliest first."""
    ordered = sorted(KINDS, key=lambda kind: -probabilities[kind])
    least = share * probabilities[ordered[0]]
    return tuple(kind for kind in ordered if probabilities[kind] >= least)


SORTS = ("bias", "signal", "term", "word", "common")
"""What a line of the weights may be about; a word is common where a misspelt one may stand for it."""


def weights_file() -> Path:
    """data/kind_weights.csv: inside the package when installed from a wheel, beside it in a checkout."""
    here = Path(__file__).parent
    inside = here / "data"
    return (inside if inside.is_dir() else here.parent / "data") / "kind_weights.csv"


def read_weights(path: Path) -> Weights:
    """The weights in a file: lines of a sort, a name and a whole number for each kind, in units of 1/SCALE.

    Raises EcoRouteError for a file that is missing, cut off or of other kinds."""
    rows: dict[str, dict[str, tuple[int, ...]]] = {sort: {} for sort in SORTS}
    try:
        _, header, *lines = path.read_text(encoding="utf-8").splitlines()
        if header.split(";") != ["sort", "name", *KINDS]:
            raise ValueError(f"its columns are {header[:60]!r}")
        for line in lines:
            sort, name, *values = line.split(";")
            if sort not in rows or len(values) != len(KINDS):
                raise ValueError(f"it has the line {line[:60]!r}")
            rows[sort][name] = tuple(map(int, values))
        if not all(rows.values()):
            raise ValueError(f"it has no {next(sort for sort in SORTS if not rows[sort])}")
    except (OSError, ValueError) as error:
        raise EcoRouteError(f"{path} cannot be read ({error}): restore the file") from error
    words = rows["word"] | rows["common"]
    return Weights(rows["bias"][""], rows["signal"], words, rows["term"], frozenset(rows["common"]))
