"""The probe after each switch: does the policy that answers change when, and only when, it should?

Serving the old policy after a switch is the silent failure of iterative training, so a
fingerprint of a fixed prompt is compared with what the same weights gave before and with
the policy before the switch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from itercli.records import ModelRef
from itercli.sampling.base import SamplerError

# Any text does; digits and code make models of different training disagree.
PROBE_TEXT = "Count: 1, 2, 3. def main(x): return x + 1\nThe quick brown fox jumps over"


class Probe:
    """Remembers fingerprints by digest.

    Args:
        tolerance: Largest difference of log-probs between two visits of one policy that
            counts as equal; 0 where the numerics are exact.
        differ: Tells from the files whether two models' weights differ.
    """

    def __init__(
        self, tolerance: float, differ: Callable[[ModelRef, ModelRef], bool], keep: int = 64
    ) -> None:
        self.tolerance, self._differ, self._keep = tolerance, differ, keep
        self._seen: OrderedDict[str, np.ndarray] = OrderedDict()
        self._last: tuple[ModelRef, np.ndarray] | None = None

    def check(
        self,
        ref: ModelRef,
        fingerprint: np.ndarray,
        beside: Iterable[tuple[ModelRef, np.ndarray]] = (),
    ) -> dict[str, Any]:
        """Compare and remember a policy's fingerprint (a vector of log-probs).

        Args:
            beside: Others that answer at the same time, with what they gave just now.

        Returns:
            What to log: `changed_by` against the policy before, `apart` against each one
            beside it, `drift` against the same weights' earlier visit, and `warning` where
            two digests hold equal weights.

        Raises:
            SamplerError: Another policy than `ref` answers.
        """
        report: dict[str, Any] = {}
        before = self._seen.get(ref.digest)
        if before is not None:
            report["drift"] = _distance(before, fingerprint)
            if report["drift"] > self.tolerance:
                raise SamplerError(
                    f"probe after the switch to {ref.version}: the same weights gave other log-probs before "
                    f"(off by {report['drift']:.3g}); the switch did not take, or the folder was changed"
                )
        if self._last is not None and self._last[0].digest != ref.digest:
            report["changed_by"] = self._apart(ref, fingerprint, *self._last, report)
        apart = {old.version: self._apart(ref, fingerprint, old, print, report) for old, print in beside}
        if apart:
            report["apart"] = apart
        self._seen[ref.digest] = fingerprint
        while len(self._seen) > self._keep:
            self._seen.popitem(last=False)
        self._last = (ref, fingerprint)
        return report

    def _apart(
        self, ref: ModelRef, mine: np.ndarray, old: ModelRef, its: np.ndarray, report: dict[str, Any]
    ) -> float:
        """Distance to another policy; 0 only where the two models' weights are equal."""
        distance = _distance(its, mine)
        if distance == 0:
            if self._differ(old, ref):
                raise SamplerError(
                    f"probe after the switch to {ref.version}: the model still answers exactly as "
                    f"{old.version}, though the weights on disk differ (a change too small for "
                    "half precision is lost when it is merged: try dtype=float32 or an attached adapter)"
                )
            report["warning"] = f"{ref.version} and {old.version} have equal weights"
        return distance

    def forget(self) -> None:
        """Start over, for another base model."""
        self._seen.clear()
        self._last = None


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape:
        return float("inf")
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return 0.0 if same.all() else float(np.nanmax(np.abs(np.where(same, 0.0, a - b))))
