"""A search as the command makes it, at whatever terminal it finds, whose trials the scripted child makes:
python -m tests.benchmark.terminal_search FOLDER MODEL... Its rows and its study are in the folder."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark import plan, session
from benchmark.bench import ProcessBench
from benchmark.interruption import Interruption
from benchmark.search import Search
from benchmark.trial import Log
from benchmark.workbench import FrontSoFar, Limits, Workbench
from benchmark.workbench_report import Screen, summary
from tests.benchmark import scripted_child
from tests.benchmark.test_workbench import AXES, config, entry, point


def study(folder: Path, models: list[str]) -> Search:
    candidates = [config(model) for model in models]
    storage = f"sqlite:///{folder / 'study.db'}"
    return Search(candidates, AXES, point, name="study", storage=storage, worker="one", strategy="grid")


def work(folder: Path, models: list[str], interruption: Interruption) -> int:
    schedule = plan.Schedule([entry(config(model)) for model in models])
    with (
        Log(folder / "rows.jsonl") as log,
        study(folder, models) as search,
        ProcessBench([sys.executable, scripted_child.__file__, "--measuring"]) as measuring,
    ):
        made = Workbench(
            search=search, bench=measuring, log=log, schedule=schedule, front=FrontSoFar(point, AXES),
            interruption=interruption, limits=Limits(),
        )  # fmt: skip
        screen = Screen(made, schedule, None, title="night", as_json=False, plain=False)
        with screen:
            made.run(screen)
    for line in summary(made, 1.0):
        session.say(line)
    return interruption.status if interruption.asked is not None else 0


if __name__ == "__main__":
    where, *names = sys.argv[1:]
    sys.exit(session.in_good_order(lambda asked: work(Path(where), names, asked), Interruption(2, "ending")))
