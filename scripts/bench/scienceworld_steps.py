"""ScienceWorld's steps per second through our adapter beside the package's own wrapper, and memory.

Both play the same solutions, in turn and round by round, so that what else the machine does hits
both alike; the JVM's compiler is warmed up by one round that is not counted. Memory is what the one
JVM of eight simulators holds after each of them has played.

    python scripts/bench/scienceworld_steps.py [--rounds 3] [--simulators 8] [--heap-mb 1024]
"""

from __future__ import annotations

import argparse
import statistics
import time

import psutil

from itercli.environments.scienceworld import ScienceWorld, ScienceWorldSpec

TASKS = ("boil", "find-plant", "lifespan-longest-lived", "power-component", "use-thermometer")


def ours(world: ScienceWorld, name: str, actions: list[str]) -> float:
    """Steps per second of the adapter."""
    world.reset({"task": name, "variation": 0})
    started = time.perf_counter()
    for action in actions:
        step = world.step(action)
    assert step.score == 1.0, f"{name}: {step.score}"
    return len(actions) / (time.perf_counter() - started)


def wrapped(env: object, name: str, actions: list[str]) -> float:
    """Steps per second of the package's wrapper."""
    env.load(name, 0, "easy")  # type: ignore[attr-defined]
    env.reset()  # type: ignore[attr-defined]
    started = time.perf_counter()
    for action in actions:
        env.step(action)  # type: ignore[attr-defined]
    return len(actions) / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    from scienceworld import ScienceWorldEnv

    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--simulators", type=int, default=8)
    parser.add_argument("--heap-mb", type=int, default=ScienceWorldSpec.model_fields["heap_mb"].default)
    options = parser.parse_args()

    spec = ScienceWorldSpec(step_limit=None, heap_mb=options.heap_mb)
    worlds = [spec.build() for _ in range(options.simulators)]
    process = psutil.Process(spec.jvm().pid)
    first = worlds[0]
    assert isinstance(first, ScienceWorld)
    plans: dict[str, list[str]] = {}
    for name in TASKS:
        plan = first.gold_path({"task": name, "variation": 0})
        first.reset({"task": name, "variation": 0})
        done = next(n for n, action in enumerate(plan, 1) if first.step(action).done)
        plans[name] = plan[:done]

    package = ScienceWorldEnv("", envStepLimit=1000)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in TASKS}
    for _ in range(options.rounds + 1):
        for name, plan in plans.items():
            rates[name].append((ours(first, name, plan), wrapped(package, name, plan)))
    package.close()

    print(f"{'task':26}{'steps':>6}{'ours /s':>10}{'wrapper /s':>12}{'ratio':>8}")
    for name, pairs in rates.items():
        counted = pairs[1:]
        fast, slow = (statistics.median(p[n] for p in counted) for n in (0, 1))
        print(f"{name:26}{len(plans[name]):6}{fast:10.1f}{slow:12.1f}{fast / slow:8.1f}")

    print(f"\none JVM, heap cap {options.heap_mb} MiB: {process.memory_info().rss >> 20} MiB with one used")
    spread = list(zip(worlds, TASKS * len(worlds), strict=False))
    for world, name in spread:
        world.reset({"task": name, "variation": 0})
    started, steps = time.perf_counter(), 0
    for n in range(max(map(len, plans.values()))):
        for world, name in spread:
            if n < len(plans[name]):
                world.step(plans[name][n])
                steps += 1
    seconds = time.perf_counter() - started
    memory = process.memory_info().rss >> 20
    print(f"{memory} MiB with {len(worlds)} in lock-step, {steps / seconds:.1f} steps/s")
    spec.shut_down()


if __name__ == "__main__":
    main()
