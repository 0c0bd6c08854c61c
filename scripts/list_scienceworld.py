"""Lists ScienceWorld's tasks with the sizes of their splits, so that planning needs no Java.

    python scripts/list_scienceworld.py

Writes itercli/data/scienceworld_tasks.json, in the order of the task ids. The package's variations
are numbered through train, dev and test in turn, which is checked here.
"""

from __future__ import annotations

import json
from pathlib import Path

from itercli.environments.scienceworld_jvm import Jvm, Simulator

TABLE = Path(__file__).parent.parent / "itercli/data/scienceworld_tasks.json"


def main() -> None:
    """Ask the simulator and write the table."""
    from scienceworld.constants import TASKS

    jvm = Jvm(heap_mb=512)
    simulator = Simulator(jvm)
    rows = []
    for task in TASKS:
        name = task["task_name"]
        simulator.call("load", name, 0, "easy", False)
        train, dev, test = splits = [
            simulator.call(f"getVariations{split}") for split in ("Train", "Dev", "Test")
        ]
        assert train + dev + test == list(range(simulator.call("getTaskMaxVariations", name))), name
        sizes = dict(zip(("train", "dev", "test"), map(len, splits), strict=True))
        title = f"{task['topic']}: {task['task']}"
        rows.append({"id": task["task_id"], "name": name, "title": title, "variations": sizes})
    jvm.stop()
    TABLE.write_text("[\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n]\n")
    print(f"{TABLE}: {len(rows)} tasks, {sum(sum(r['variations'].values()) for r in rows)} variations")


if __name__ == "__main__":
    main()
