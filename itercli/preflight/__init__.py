"""What is wrong with a run is said before anything is computed.

`problems` opens what a plan only names: the data, and the models' folders. It asks every scorer,
selector, metric and environment what it needs of the rows, and whether the prompts fit the
models. `iter validate` and `iter plan` look at the first rows of each source, with `--deep` at all of
them, as `iter run` does before its first stage.
"""

from itercli.preflight.check import problems

__all__ = ["problems"]
