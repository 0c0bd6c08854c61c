"""The process of one point: ``python -m itercli.sweep.child SWEEP_FOLDER RUN``.

It runs the resolved recipe that the sweep put there, so a recipe file that is edited while a sweep
goes on changes none of its points. A process of its own: what a point loads, breaks or is killed by
stays with it.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path


def main(folder: Path, name: str) -> int:
    """Run the point; the exit code is that of `iter run`."""
    # Imported here, where a signal that comes meanwhile is no traceback.
    from itercli.cli.execute import execute
    from itercli.recipe.compose import load_yaml
    from itercli.recipe.errors import RecipeError
    from itercli.recipe.plan import build_plan
    from itercli.recipe.schema import check
    from itercli.sweep.record import find_sweep

    sweep = find_sweep(folder.parent.parent, folder.name)
    (point,) = (p for p in sweep.points if p.run == name)
    config = sweep.recipe_file(point)
    try:
        recipe = check(load_yaml(config), base=Path.cwd(), locate=lambda key: str(config))
        plan = build_plan(recipe)
    except RecipeError as error:  # what was there when the sweep was planned isn't any more
        print(error.render(), file=sys.stderr)
        return 2
    return execute(
        plan,
        root=sweep.root,
        name=name,
        overrides=point.overrides,
        again=sweep.line,
        plain="--plain" in sys.argv,
    )


if __name__ == "__main__":
    try:
        from itercli.engine.parent import die_with_parent

        die_with_parent()
        sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
