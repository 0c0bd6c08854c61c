"""Model cards: what a model is, where it comes from, how good it is, how to load it."""

from __future__ import annotations

import shlex
from typing import Any

import yaml

from itercli.handover.bases import Base
from itercli.handover.folder import without_paths
from itercli.handover.versions import Version
from itercli.report.lineage import sentence
from itercli.report.numbers import NOTHING, interval, missing, number
from itercli.report.text import clean

LOAD = {
    "full": """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")     # this folder, or its name on a hub
model = AutoModelForCausalLM.from_pretrained(".")
""",
    "adapter": """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")     # this folder, or its name on a hub
base = AutoModelForCausalLM.from_pretrained(BASE)
model = PeftModel.from_pretrained(base, ".")
""",
}


def model_card(
    version: Version, base: Base, form: str, *, classifier: bool = False, gguf: bool = False
) -> tuple[str, list[str]]:
    """The card of an exported version, and what its reader should know before passing it on.

    Args:
        form: "full", "adapter" or "merged".
        classifier: It gives numbers, not text.
        gguf: There is a GGUF file beside the weights.
    """
    run, info = version.content["run"], version.run.info
    config = version.config
    warnings = []
    if not base.licence:
        warnings.append("the base model's licence is not known here: add `license:` to README.md")
    recipe = str(run["recipe"])
    front: dict[str, Any] = {
        "library_name": "peft" if form == "adapter" else "transformers",
        "pipeline_tag": "text-classification" if classifier else "text-generation",
        **({"base_model": base.hub} if base.hub else {}),
        **({"base_model_relation": "adapter" if form == "adapter" else "finetune"} if base.hub else {}),
        **({"license": base.licence} if base.licence else {}),
        "tags": ["itercli", recipe, *(["lora"] if version.ref.adapter else [])],
    }
    overrides = [o for o in run["overrides"] if not o.startswith("recipe=")]
    raw = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    parts = [
        f"# {recipe}: {version.label}",
        f"{_line(config.get('description', ''))}\n\n"
        f"The role `{version.role}` after iteration {version.iteration} of the recipe `{recipe}`, run by "
        f"itercli. It is {_line(version.why)}. Its base is {_base(base)}."
        + (f" The method: {_line(config['paper'])}." if config.get("paper") else ""),
        "## How to load it\n\n" + _loading(base, form, classifier, gguf),
        "## Metrics by iteration\n\n" + _metrics(version),
        "## Where it comes from\n\n" + _lineage(version, base),
        "## Data\n\n" + _data(version),
        f"## Recipe\n\nOverrides: `{_code(shlex.join(overrides)) or 'none'}`, seed {run['seed']}.\n\n"
        f"<details><summary>resolved</summary>\n\n{_fence(raw)}\n\n</details>",
        "## Versions\n\n" + _versions(version),
    ]
    text = "\n\n".join(parts)
    portable = without_paths(text.replace(str(version.start["path"]), base.name))
    if portable != text and (info["folder"] in raw or "/" in shlex.join(overrides)):
        warnings.append("local paths in the recipe are cut to their last part in README.md")
    header = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n{portable}\n", warnings


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; nothing in its cells is interpreted."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text if set(text) == {"-"} else _line(text).replace("|", "\\|")


def _line(text: Any) -> str:
    """Untrusted text on one line, without markup."""
    flat = " ".join(clean(str(text)).split())
    return flat.replace("\\", "\\\\").replace("<", "&lt;").replace("`", "'").replace("[", "\\[")


def _code(text: str) -> str:
    return " ".join(clean(text).split()).replace("`", "'")


def _fence(text: str) -> str:
    return f"````yaml\n{clean(text).replace('````', '')}````"


def _base(base: Base) -> str:
    at = f" (revision {base.revision})" if base.revision else ""
    return f"`{_line(base.name)}`{at}" + ("" if base.exact else ", as it was on the machine of the run")


def _loading(base: Base, form: str, classifier: bool, gguf: bool) -> str:
    code = LOAD["adapter" if form == "adapter" else "full"].replace("BASE", repr(base.name))
    if classifier:
        code = code.replace("AutoModelForCausalLM", "AutoModelForSequenceClassification")
        return f"```python\n{code}```\n\nIt has as many outputs (`num_labels`) as its head has rows."
    served = (
        f"vllm serve {base.name} --enable-lora --lora-modules tuned=."
        if form == "adapter"
        else "vllm serve ."
    )
    note = "\n\n`model.gguf` is the same model for llama.cpp." if gguf else ""
    return f"```python\n{code}```\n\nWith vLLM: `{served}`.{note}"


def _metrics(version: Version) -> str:
    metrics = version.content["metrics"]
    if not metrics:
        return "None were measured."
    iterations = sorted({i for values in metrics.values() for i in values})
    columns = ["metric", *("start" if i == 0 else str(i) for i in iterations)]
    rows = [[name, *(_value(values.get(i)) for i in iterations)] for name, values in metrics.items()]
    headline = version.run.info.get("headline")
    rows.sort(key=lambda row: row[0] != headline)
    note = f" The headline is `{_line(headline)}`." if headline else ""
    return f"{table(columns, rows)}\n\nIn brackets: intervals where the stage computed them.{note}"


def _value(metric: Any) -> str:
    if not isinstance(metric, dict):
        return "" if metric is None else f"{metric:.4g}"
    if metric["value"] is None:
        return NOTHING + missing(metric)
    return f"{number(metric['value'])} ({interval(metric)}{missing(metric)})"


def _lineage(version: Version, base: Base) -> str:
    """Each version of the role up to this one, and its digest."""
    found = []
    for m in version.content["lineage"]:
        if m["role"] == version.role:
            name = {**m, "path": base.name} if m["made_by"] is None else m
            found.append(f"- **{_line(m['version'])}** {_line(sentence(name))}; `{_line(m['digest'])}`")
        if m is version.made:
            break
    return "\n".join(found)


def _data(version: Version) -> str:
    """Prompts, and what every version up to this one was trained on."""
    seen: set[str] = set()
    rows = []
    for stage in version.content["stages"]:
        if stage["iteration"] > version.iteration or stage["kind"] in ("model", "metrics"):
            continue
        if stage["state"] != "done" or stage["key"] in seen:
            continue
        seen.add(stage["key"])
        counts = ", ".join(f"{n} {name}" for name, n in stage["counts"].items() if n)
        by = ", ".join(dict.fromkeys(stage["models"].values()))
        rows.append([stage["node"], stage["kind"], str(stage["rows"]), by, counts])
    return table(["stage", "rows of", "number", "models", "counts"], rows)


def _versions(version: Version) -> str:
    entry = version.run.entry(version.made["made_by"]) if version.made["made_by"] else None
    manifest = (entry.manifest if entry else None) or {}
    from itercli import __version__

    found = manifest.get("versions") or {"itercli": __version__}
    return "\n".join(f"- {_line(name)} {_line(its)}" for name, its in found.items())
