"""Steps per second in TextCraft: the bare environment beside going through the pool.

    python scripts/bench/textcraft_steps.py [--rounds 5]

The solver's actions for all goals are played in three ways, in turn, so that a busy machine hits
all alike: on a live environment; through `Worlds.play`, as rollouts do; and through `Worlds.play` in
an order that leaves the state behind each time, as tree searches do at worst. The median round
counts; resets are part of it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from itercli.environments.pool import Worlds
from itercli.environments.textcraft import TextCraft
from itercli.environments.textcraft_files import load_rules, recipe_folder
from itercli.environments.textcraft_solver import solve

Plays = dict[str, list[str]]


def bare(plays: Plays) -> None:
    """Each goal on one live environment."""
    world = TextCraft().build()
    for goal, actions in plays.items():
        world.reset({"goal": goal})
        for action in actions:
            world.step(action)


def pooled(plays: Plays) -> None:
    """Each goal through the pool, turn by turn."""
    worlds = Worlds(TextCraft())
    for goal, actions in plays.items():
        for n in range(1, len(actions) + 1):
            worlds.play(goal, {"goal": goal}, actions[:n])


def branching(plays: Plays) -> None:
    """Each goal through the pool from its end to its beginning: every step needs another state."""
    worlds = Worlds(TextCraft())
    for goal, actions in plays.items():
        for n in range(len(actions), 0, -1):
            worlds.play(goal, {"goal": goal}, actions[:n])


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rules = load_rules(recipe_folder())
    plays = {goal: solve(rules, goal) for goal in rules.recipes}
    steps = sum(map(len, plays.values()))
    ways: dict[str, Callable[[Plays], None]] = {"bare": bare, "pool": pooled, "pool, backwards": branching}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, play in ways.items():
            started = time.perf_counter()
            play(plays)
            seconds[name].append(time.perf_counter() - started)
    fastest = statistics.median(seconds["bare"])
    print(f"{len(plays)} goals, {steps} steps, median of {args.rounds} rounds")
    print(f"{'way':<16} {'steps/s':>9} {'x bare':>7}")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:<16} {steps / median:>9,.0f} {median / fastest:>7.2f}")


if __name__ == "__main__":
    main()
