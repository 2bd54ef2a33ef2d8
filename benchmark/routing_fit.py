"""What can be learnt of a task from outcomes: latent ability and difficulty, and difficulty or benefit from text.

The latent model is Rasch's: P(model m succeeds on task i) = logistic(ability_m - difficulty_i). Texts meet in a kernel,
a sum of what the words and what the shape of two texts have in common; prediction is the posterior mean of a Gaussian
process, which draws every answer to the mean of its training rows unless the text speaks against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold

from benchmark.routing_metrics import Floats, Integers
from ecoroute_mcp import wording

BUCKETS = 2**14
STEPS = 60
TREES = 100
CLIPPED_SD = 4.0


@dataclass(frozen=True)
class Texts:
    """Read texts: counts of words by bucket (texts, BUCKETS), and shapes (texts, len(wording.SHAPE))."""

    counts: sparse.csr_matrix
    shape: Floats

    @classmethod
    def read(cls, texts: Sequence[str]) -> Texts:
        """By the reading that serves, so that what is learnt is what is applied."""
        rows, columns, values, shapes = [], [], [], []
        for row, text in enumerate(texts):
            found = wording.read(text)
            shapes.append(wording.shape(text))
            for bucket, count in found.words.items():
                rows.append(row)
                columns.append(bucket % BUCKETS)
                values.append(float(count))
        counts = sparse.csr_matrix((values, (rows, columns)), shape=(len(texts), BUCKETS))
        counts.sum_duplicates()
        return cls(counts, np.array(shapes))


@dataclass(frozen=True)
class Scaling:
    """Idf of words (BUCKETS,), and mean and spread of the shape; from training rows alone.

    The idf is log((1 + texts) / (1 + texts with it)) + 1, and 0 for a word in fewer than ``least`` texts."""

    idf: Floats
    mean: Floats
    spread: Floats

    @classmethod
    def of(cls, texts: Texts, train: Integers, *, least: int = 1) -> Scaling:
        counts = texts.counts[train]
        having = np.bincount(counts.indices, minlength=BUCKETS)
        idf = np.log((1 + len(train)) / (1 + having)) + 1
        idf[having < least] = 0
        shape = texts.shape[train]
        return cls(idf, shape.mean(0), np.where(shape.std(0) > 0, shape.std(0), 1.0))

    def words(self, texts: Texts, rows: Integers) -> sparse.csr_matrix:
        """As :func:`ecoroute_mcp.wording.weighted`, for many texts."""
        counts = texts.counts[rows].copy()
        counts.data = 1 + np.log(counts.data)
        counts = sparse.csr_matrix(counts @ sparse.diags(self.idf))
        length = np.sqrt(np.asarray(counts.multiply(counts).sum(1)).ravel())
        return sparse.csr_matrix(sparse.diags(1 / np.where(length > 0, length, 1.0)) @ counts)

    def shape(self, texts: Texts, rows: Integers) -> Floats:
        """Standardised, and clipped at four standard deviations so that no odd text is extrapolated to."""
        scaled: Floats = ((texts.shape[rows] - self.mean) / self.spread).clip(-CLIPPED_SD, CLIPPED_SD)
        return scaled


@dataclass(frozen=True)
class Kernel:
    """The likeness of texts: that of their words, plus that of their shapes (Gaussian, ``reach`` in standard units)."""

    words: float = 1.0
    shape: float = 1.0
    reach: float = 4.0

    def between(self, texts: Texts, scaling: Scaling, left: Integers, right: Integers) -> Floats:
        alike = np.asarray((scaling.words(texts, left) @ scaling.words(texts, right).T).todense())
        a, b = scaling.shape(texts, left), scaling.shape(texts, right)
        apart = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * a @ b.T
        total: Floats = self.words * alike + self.shape * np.exp(-apart.clip(0) / (2 * self.reach**2))
        return total


@dataclass(frozen=True)
class Likeness:
    """A kernel between training rows, and from asked rows to them: computed once, used for several targets."""

    among: Floats
    towards: Floats

    @classmethod
    def of(cls, kernel: Kernel, texts: Texts, train: Integers, asked: Integers, *, least: int = 1) -> Likeness:
        scaling = Scaling.of(texts, train, least=least)
        return cls(kernel.between(texts, scaling, train, train), kernel.between(texts, scaling, asked, train))

    def predict(self, target: Floats, noise: float) -> Floats:
        """Posterior mean for the asked rows; ``target`` (train,) or (train, outputs)."""
        mean = target.mean(0)
        weights = np.linalg.solve(self.among + noise * np.eye(len(self.among)), target - mean)
        predicted: Floats = mean + self.towards @ weights
        return predicted


@dataclass(frozen=True)
class Benefit:
    """How much better the strong model answers than the weak one (-1 to 1), from text.

    A part of the prediction is the process itself; the other goes over the topic: the text's topic by the process,
    sharpened, then each topic's mean benefit, drawn to the overall mean by ``topic_prior`` tasks. Only training rows
    have topics.
    """

    kernel: Kernel = Kernel(reach=2.5)
    noise: float = 9.0
    topic_noise: float = 0.5
    topic_sharpness: float = 12.0
    topic_prior: float = 10.0
    own: float = 1.0

    def predict(
        self, texts: Texts, train: Integers, asked: Integers, benefit: Floats, topics: NDArray[np.str_] | None
    ) -> Floats:
        """``benefit`` and ``topics`` belong to the ``train`` rows; without topics the process alone is used."""
        likeness = Likeness.of(self.kernel, texts, train, asked)
        direct = likeness.predict(benefit, self.noise)
        if topics is None:
            return direct
        names, topic = np.unique(topics, return_inverse=True)
        belongs = np.eye(len(names))[topic]
        scores = self.topic_sharpness * likeness.predict(belongs, self.topic_noise)
        scores = np.exp(scores - scores.max(1, keepdims=True))
        probability = scores / scores.sum(1, keepdims=True)
        mean = float(benefit.mean())
        means = (belongs.T @ benefit + self.topic_prior * mean) / (belongs.sum(0) + self.topic_prior)
        predicted: Floats = probability @ means + self.own * (direct - mean)
        return predicted


@dataclass(frozen=True)
class Reading:
    """Benefit without topics, strongly regularised: parts at unit spread, added.

    Words by a line of ``words_penalty``; shape by a line of ``shape_penalty``; or trees of ``leaf`` tasks and more over
    the shape and the first ``components`` directions of the words. None leaves a part out.
    """

    words_penalty: float | None = None
    shape_penalty: float | None = None
    leaf: int | None = None
    components: int = 0

    def __str__(self) -> str:
        parts = [
            "" if self.words_penalty is None else f"words {self.words_penalty:g}",
            "" if self.shape_penalty is None else f"shape {self.shape_penalty:g}",
            "" if self.leaf is None else f"trees of {self.leaf} over shape and {self.components} directions of words",
        ]
        return " + ".join(part for part in parts if part)

    def predict(self, texts: Texts, train: Integers, asked: Integers, benefit: Floats) -> Floats:
        """Scores of the asked rows, for ordering only; ``benefit`` belongs to the ``train`` rows."""
        scaling = Scaling.of(texts, train)
        words, words_asked = scaling.words(texts, train), scaling.words(texts, asked)
        shape, shape_asked = scaling.shape(texts, train), scaling.shape(texts, asked)
        parts = []
        if self.words_penalty is not None:
            line = Ridge(alpha=self.words_penalty, solver="lsqr").fit(words, benefit)
            parts.append(np.asarray(line.predict(words_asked)))
        if self.shape_penalty is not None:
            parts.append(np.asarray(Ridge(alpha=self.shape_penalty).fit(shape, benefit).predict(shape_asked)))
        if self.leaf is not None:
            if self.components:
                directions = TruncatedSVD(self.components, n_iter=3, random_state=0).fit(words)
                shape = np.hstack([shape, directions.transform(words)])
                shape_asked = np.hstack([shape_asked, directions.transform(words_asked)])
            trees = ExtraTreesRegressor(TREES, min_samples_leaf=self.leaf, max_features=0.5, random_state=0)
            parts.append(np.asarray(trees.fit(shape, benefit).predict(shape_asked)))
        total: Floats = np.sum([(part - part.mean()) / max(float(part.std()), 1e-12) for part in parts], axis=0)
        return total


def logistic(value: Floats) -> Floats:
    """1 / (1 + exp(-value)), without overflow."""
    result: Floats = 0.5 * (1 + np.tanh(0.5 * value))
    return result


@dataclass(frozen=True)
class Latent:
    """Abilities (models,) and difficulties (tasks,) in logits; difficulties have mean 0 over the tasks fitted."""

    ability: Floats
    difficulty: Floats


def latent(outcomes: Floats, *, spread: float = 2.0) -> Latent:
    """The most probable abilities and difficulties for outcomes (tasks, models) from 0 to 1; NaN where not tried.

    Both have a normal prior of this ``spread``: a task that all or none solve gets a finite difficulty."""
    tried = np.isfinite(outcomes)
    got = np.where(tried, outcomes, 0.0)
    precision = 1 / spread**2
    ability, difficulty = np.zeros(outcomes.shape[1]), np.zeros(outcomes.shape[0])
    for _ in range(STEPS):
        for axis in (0, 1):
            p = logistic(ability[None, :] - difficulty[:, None])
            gain = np.where(tried, got - p, 0.0).sum(axis)
            certainty = np.where(tried, p * (1 - p), 0.0).sum(axis) + precision
            if axis == 0:
                ability = ability + ((gain - precision * ability) / certainty).clip(-1, 1)
            else:
                difficulty = difficulty + ((-gain - precision * difficulty) / certainty).clip(-1, 1)
        mean = difficulty.mean()
        ability, difficulty = ability - mean, difficulty - mean
    return Latent(ability, difficulty)


def out_of_fold(
    kernel: Kernel, texts: Texts, rows: Integers, target: Floats, groups: NDArray[np.str_], noise: float, folds: int = 5
) -> Floats:
    """Predictions for ``rows`` by models that saw no row of their group; ``target``, ``groups`` belong to ``rows``."""
    predicted = np.zeros(len(rows))
    for train, held in GroupKFold(folds).split(rows, groups=groups):
        predicted[held] = Likeness.of(kernel, texts, rows[train], rows[held]).predict(target[train], noise)
    return predicted


def success(predicted: Floats, outcomes: Floats, asked: Floats) -> Floats:
    """P(success) of each model (asked, models), by a logistic curve on the predicted difficulty of out-of-fold rows.

    A model's curve is fitted to its own outcomes (rows, models), NaN where not tried, so it is calibrated."""
    curves = np.zeros((len(asked), outcomes.shape[1]))
    for model in range(outcomes.shape[1]):
        tried = np.isfinite(outcomes[:, model])
        got = outcomes[tried, model]
        # A share of successes is that much of a success and the rest of a failure.
        value = np.concatenate([predicted[tried], predicted[tried]])[:, None]
        label = np.repeat([1, 0], len(got))
        weight = np.concatenate([got, 1 - got])
        if weight[label == 1].sum() in (0.0, float(len(got))):
            curves[:, model] = got.mean()
            continue
        fit = LogisticRegression(C=1.0).fit(value, label, sample_weight=weight)
        curves[:, model] = fit.predict_proba(asked[:, None])[:, 1]
    return curves


def success_at(level: NDArray[np.str_], outcomes: Floats, asked: NDArray[np.str_], prior: float) -> Floats:
    """P(success) of each model (asked, models) by a declared level alone: its mean there, drawn to its own mean.

    ``level`` belongs to the outcomes (rows, models), all tried; the mean of all levels counts as ``prior`` tasks."""
    mean = outcomes.mean(0)
    rates = np.tile(mean, (len(asked), 1))
    for name in np.unique(asked):
        theirs = outcomes[level == name]
        rates[asked == name] = (theirs.sum(0) + prior * mean) / (len(theirs) + prior)
    return rates
