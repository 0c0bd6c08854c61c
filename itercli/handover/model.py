"""Export a model of a run: as it is (full weights or an adapter), or merged."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from itercli.handover.bases import Base
from itercli.handover.card import model_card
from itercli.handover.folder import forget_origin, leaks, new_folder
from itercli.handover.versions import HandoverError, Version
from itercli.models.digest import model_files
from itercli.models.files import copy_tokenizer

Form = Literal["full", "adapter", "merged"]
LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*")


@dataclass
class Exported:
    """What was written.

    Attributes:
        files: Names in the folder, with their sizes in bytes.
        warnings: What a reader should know or mend before passing it on.
    """

    path: Path
    form: Form
    files: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def form_of(version: Version, *, merge: bool) -> Form:
    """How a version is exported.

    Raises:
        HandoverError: An adapter that nobody else could put on its base, or a classifier to be merged.
    """
    ref = version.ref
    if ref.adapter is None:
        return "full"
    if not merge and not version.on_start:
        raise HandoverError(
            f"{version.label} is an adapter on weights that this run trained, which nobody else has; --merge "
            "makes a whole model of both"
        )
    if merge and is_classifier(version):
        raise HandoverError(
            f"{version.label} is a classifier; export its adapter without --merge, and load it with "
            "AutoModelForSequenceClassification"
        )
    return "merged" if merge else "adapter"


def is_classifier(version: Version) -> bool:
    """Whether it gives numbers, not text: a reward model or an estimator."""
    ref = version.ref
    if ref.adapter is not None:
        config = json.loads((Path(ref.adapter) / "adapter_config.json").read_text("utf-8"))
        return config.get("task_type") == "SEQ_CLS"
    config = json.loads((Path(ref.base) / "config.json").read_text("utf-8"))
    return any("SequenceClassification" in name for name in config.get("architectures") or ())


def export_model(
    version: Version,
    base: Base,
    target: Path,
    *,
    merge: bool = False,
    gguf: bool = False,
    force: bool = False,
) -> Exported:
    """Write a version with its tokenizer and a model card.

    Args:
        base: The start model's portable name: what an adapter's config then says.
        merge: Of an adapter, make a whole model: summed in float32, saved in the base's dtype.
        gguf: Also write a GGUF file of a whole model.

    Raises:
        HandoverError: It can't be exported like this.
    """
    form = form_of(version, merge=merge)
    if gguf:
        from itercli.handover.gguf import check_gguf

        if form == "adapter":
            raise HandoverError("a GGUF file holds a whole model; add --merge")
        check_gguf(Path(version.ref.base))
    done = Exported(target, form)
    with new_folder(target, root=version.run.root, force=force) as folder:
        {"full": _full, "adapter": _adapter, "merged": _merged}[form](version, base, folder, done.warnings)
        _copy(Path(version.ref.base), folder, LICENCES)
        forget_origin(folder)
        if gguf:
            from itercli.handover.gguf import write_gguf

            write_gguf(folder, folder / "model.gguf")
        card, warnings = model_card(version, base, form, classifier=is_classifier(version), gguf=gguf)
        (folder / "README.md").write_text(card, "utf-8")
        done.warnings += warnings
        places = (version.run.root.resolve(), str(version.start["path"]))
        done.warnings += [f"{name} holds a path of this machine" for name in leaks(folder, *places)]
        done.files = {
            str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()
        }
    if version.made["made_by"] is None:
        done.warnings.append(f"{version.label} is the start model itself: nothing of this run is in it")
    return done


def _copy(source: Path, folder: Path, patterns: tuple[str, ...]) -> None:
    for path in source.iterdir():
        if path.is_file() and any(fnmatch(path.name, p) for p in patterns):
            shutil.copyfile(path, folder / path.name)


def _full(version: Version, base: Base, folder: Path, warnings: list[str]) -> None:
    # Copied, not linked: whoever changes the export must not change what runs read.
    source = Path(version.ref.base)
    for path in model_files(source, code=True):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _adapter(version: Version, base: Base, folder: Path, warnings: list[str]) -> None:
    assert version.ref.adapter is not None
    source = Path(version.ref.adapter)
    _copy(source, folder, ("adapter_model*",))
    copy_tokenizer(Path(version.ref.base), folder)
    config = json.loads((source / "adapter_config.json").read_text("utf-8"))
    config |= {"base_model_name_or_path": base.name, "revision": base.revision}
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / "adapter_config.json").write_text(text + "\n", "utf-8")
    if not base.exact:
        warnings.append(
            f"the adapter's base is a model of this machine; its config says {base.name!r}, which others may "
            "not have with these weights: name a place with --base ORG/NAME, or use --merge"
        )


def _merged(version: Version, base: Base, folder: Path, warnings: list[str]) -> None:
    from itercli.sampling.weights import save_merged

    save_merged(version.ref, folder)
