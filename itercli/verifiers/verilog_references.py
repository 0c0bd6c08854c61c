"""Preflight: do the references of a data set pass their own benches with this simulator?"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from itercli.records import Prompt, Record
from itercli.verifiers.base import Verdict
from itercli.verifiers.known_bad import known_bad
from itercli.verifiers.verilog import Task, VerilogVerifier


class BadReference(Record):
    """A prompt whose own reference does not pass.

    Attributes:
        known: Why, if it is on the list of known ones; else empty.
    """

    prompt_id: str
    outcome: str
    message: str
    known: str = ""


def verify_references(
    prompts: Iterable[Prompt], verifier: VerilogVerifier | None = None, workers: int | None = None
) -> list[BadReference]:
    """Preflight: the references that do not pass their own bench, in the order of the prompts.

    Prompts without a reference or a bench are skipped.
    """
    verifier = verifier or VerilogVerifier()
    checked = [p for p in prompts if p.reference is not None and "bench" in p.meta]

    def check(prompt: Prompt) -> Verdict:
        return verifier.check_code(Task.of(prompt), prompt.reference or "")

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        verdicts = list(pool.map(check, checked))
    bad = []
    for prompt, verdict in zip(checked, verdicts, strict=True):
        if not verdict.passed:
            known = known_bad(str(prompt.meta.get("suite", "")), str(prompt.meta.get("task", "")))
            message = verdict.message
            bad.append(
                BadReference(prompt_id=prompt.id, outcome=verdict.outcome, message=message, known=known or "")
            )
    return bad
