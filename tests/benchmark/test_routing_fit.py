"""Learning from outcomes: a truth that made the data is found again, and texts are read as they are served."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.routing_fit import (
    BUCKETS,
    Benefit,
    Kernel,
    Likeness,
    Reading,
    Scaling,
    Texts,
    latent,
    logistic,
    out_of_fold,
    success,
    success_at,
)
from benchmark.routing_metrics import Floats, pair_curve
from ecoroute_mcp import wording

EASY = "print the sum of two small numbers please"
HARD = "find the shortest cycle in a weighted graph modulo a prime"


def task_texts(count: int) -> tuple[list[str], Floats]:
    """Texts of easy and hard words in turn, each with a word of its own, and which are hard."""
    hard = (np.arange(count) % 2).astype(np.float64)
    return [f"{HARD if odd else EASY} case{number}" for number, odd in enumerate(hard)], hard


def test_abilities_and_difficulties_that_made_outcomes_are_found_again() -> None:
    draw = np.random.default_rng(0)
    ability, difficulty = np.linspace(-2, 2, 40), draw.normal(0, 1.5, 400)
    outcomes = (draw.random((400, 40)) < logistic(ability[None, :] - difficulty[:, None])).astype(np.float64)
    outcomes[draw.random(outcomes.shape) < 0.3] = np.nan
    found = latent(outcomes)
    assert np.corrcoef(found.ability, ability)[0, 1] > 0.99
    assert np.corrcoef(found.difficulty, difficulty)[0, 1] > 0.94
    assert np.polyfit(ability, found.ability, 1)[0] == pytest.approx(1, abs=0.1)
    assert found.difficulty.mean() == pytest.approx(0, abs=1e-9)


def test_a_task_that_all_solve_has_a_finite_difficulty() -> None:
    found = latent(np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]))
    assert found.difficulty[0] < found.difficulty[2] < found.difficulty[1]
    assert np.abs(found.difficulty).max() < 6


def test_training_reads_words_as_serving_does() -> None:
    sentences = [EASY, HARD, "def f(x):\n    return x  # 平均", "to be or not to be"]
    texts = Texts.read(sentences)
    scaling = Scaling.of(texts, np.arange(4))
    matrix = scaling.words(texts, np.arange(4)).toarray()
    for row, sentence in enumerate(sentences):
        served = np.zeros(BUCKETS)
        for bucket, value in wording.weighted(wording.read(sentence).words, tuple(scaling.idf)).items():
            served[bucket] = value
        assert matrix[row] == pytest.approx(served, abs=1e-12)
        assert texts.shape[row].tolist() == list(wording.shape(sentence))


def test_idf_is_of_training_rows_and_rare_words_can_be_left_out() -> None:
    texts = Texts.read(["alpha", "alpha beta", "gamma"])
    of = {word: next(iter(wording.read(word).words)) % BUCKETS for word in ("alpha", "beta", "gamma")}
    scaling = Scaling.of(texts, np.array([0, 1]))
    assert scaling.idf[of["alpha"]] == pytest.approx(1.0)
    assert scaling.idf[of["beta"]] == pytest.approx(np.log(3 / 2) + 1)
    assert scaling.idf[of["gamma"]] == 0
    assert Scaling.of(texts, np.array([0, 1]), least=2).idf[of["beta"]] == 0


def test_difficulty_is_predicted_from_text_where_it_is_in_the_text() -> None:
    sentences, hard = task_texts(120)
    texts, rows = Texts.read(sentences), np.arange(120)
    groups = np.array([str(row) for row in rows])
    held_out = out_of_fold(Kernel(), texts, rows, 4 * hard - 2, groups, 1.0)
    assert np.corrcoef(held_out, hard)[0, 1] > 0.95
    noise = np.random.default_rng(0).normal(size=120)
    silent = out_of_fold(Kernel(), texts, rows, noise, groups, 30.0)
    assert np.abs(silent - noise.mean()).max() < 0.6


def test_a_group_never_helps_to_predict_itself() -> None:
    texts, rows = Texts.read(["the very same text"] * 10), np.arange(10)
    target = np.array([0.0] * 5 + [1.0] * 5)
    groups = np.array(["a"] * 5 + ["b"] * 5)
    assert out_of_fold(Kernel(), texts, rows, target, groups, 1.0, folds=2).tolist() == pytest.approx(
        [1.0] * 5 + [0.0] * 5
    )


def test_success_is_calibrated_per_model() -> None:
    draw = np.random.default_rng(1)
    difficulty = draw.normal(size=3000)
    chance = logistic(1.5 - 2 * difficulty)
    outcomes = np.stack([(draw.random(3000) < chance).astype(float), np.ones(3000), np.full(3000, np.nan)], axis=1)
    outcomes[:10, 2] = 0.0
    found = success(difficulty, outcomes, np.array([-1.0, 0.0, 1.0]))
    assert found[:, 0] == pytest.approx(logistic(1.5 - 2 * np.array([-1.0, 0.0, 1.0])), abs=0.04)
    assert found[:, 1].tolist() == [1, 1, 1]
    assert found[:, 2].tolist() == [0, 0, 0]


def test_success_at_a_level_is_drawn_to_the_models_own_mean() -> None:
    level = np.array(["easy", "easy", "hard", "hard"])
    outcomes = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    found = success_at(level, outcomes, np.array(["hard", "easy", "never seen"]), 2.0)
    # Means 0.75 and 0.25 count as two tasks more beside the two of the level.
    assert found == pytest.approx(np.array([[2.5 / 4, 0.5 / 4], [3.5 / 4, 1.5 / 4], [0.75, 0.25]]))


def test_benefit_goes_over_topics_where_they_are_known() -> None:
    sentences, hard = task_texts(200)
    texts, train, asked = Texts.read(sentences), np.arange(100), np.arange(100, 200)
    draw = np.random.default_rng(2)
    weak = (draw.random(200) < 0.9 - 0.6 * hard).astype(np.float64)
    strong = np.ones(200)
    for topics in (None, np.where(hard[train] > 0, "graphs", "sums")):
        score = Benefit().predict(texts, train, asked, (strong - weak)[train], topics)
        assert score[hard[asked] == 1].min() > score[hard[asked] == 0].max()
        assert pair_curve(score, strong[asked], weak[asked]).apgr() > 0.6


@pytest.mark.parametrize(
    "reading",
    [Reading(words_penalty=1, shape_penalty=10), Reading(words_penalty=1, leaf=10), Reading(leaf=10, components=3)],
    ids=str,
)
def test_every_reading_orders_what_text_separates(reading: Reading) -> None:
    sentences, hard = task_texts(120)
    texts, train, asked = Texts.read(sentences), np.arange(60), np.arange(60, 120)
    score = reading.predict(texts, train, asked, hard[train])
    assert score[hard[asked] == 1].min() > score[hard[asked] == 0].max()


def test_a_prediction_without_likeness_is_the_mean() -> None:
    texts = Texts.read(["alpha beta", "gamma delta", "unrelated"])
    likeness = Likeness.of(Kernel(words=1, shape=0), texts, np.array([0, 1]), np.array([2]))
    assert likeness.predict(np.array([3.0, 5.0]), 0.5).tolist() == pytest.approx([4.0])
