"""From a model's name to its folder; pulls what is not here only when asked to."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from itercli.models import hub
from itercli.models.digest import adapter_digest, folder_digest
from itercli.models.inspection import foreign_code
from itercli.models.known import KnownModel, find_known, is_model_folder, known
from itercli.models.spec import ModelError, ModelNotFound, ModelNotHere, ModelSpec, ResolvedModel
from itercli.models.template_date import asks_for_date
from itercli.records import SERVED

ADAPTER = "adapter_config.json"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def resolve(spec: ModelSpec, download: bool = False) -> ResolvedModel:
    """The local folder and digest of a model, with its adapter if it has one.

    Looks for a known name, then a folder (relative to the current one), then a hub id in
    the local hub cache. Without `download` it never touches the network.

    Args:
        spec: What the recipe says.
        download: Pull the model if it is not here.

    Raises:
        ModelNotFound: It is not on this machine (and `download` is off), or is no model.
        ModelError: The pull failed, or the spec makes no sense.
    """
    if spec.served is not None:
        return ResolvedModel(path=None, digest=f"{SERVED}{spec.served}", source="served")
    if spec.adapter is None:
        folder = Path(spec.path).expanduser()
        if not (folder / ADAPTER).is_file() or is_model_folder(folder):
            return _resolve_base(spec, download)
        spec = spec.model_copy(update={"path": _base_of(folder), "adapter": spec.path})
    adapter = Path(str(spec.adapter)).expanduser().resolve()
    if not (adapter / ADAPTER).is_file():
        raise ModelNotFound(f"{spec.adapter} is no LoRA adapter: it has no {ADAPTER}")
    base = _resolve_base(spec, download)
    return base.model_copy(update={"adapter": adapter, "digest": f"{base.digest}+{adapter_digest(adapter)}"})


def _base_of(adapter: Path) -> str:
    """The base that an adapter's config names: a known name, a folder or a hub id."""
    named = json.loads((adapter / ADAPTER).read_text("utf-8")).get("base_model_name_or_path")
    if not isinstance(named, str) or not (find_known(named) or Path(named).is_dir() or hub.is_hub_id(named)):
        raise ModelNotFound(
            f"{adapter} is a LoRA adapter on {named!r}, which is no model here; say which it is on: "
            f"'model={{path: BASE, adapter: {adapter}}}'"
        )
    return named


def _resolve_base(spec: ModelSpec, download: bool) -> ResolvedModel:
    entry = find_known(spec.path)
    if entry is not None:
        _refuse_revision(spec, "a known model")
        if entry.state in ("shipped", "pulled"):
            return _from_folder(entry.path, spec, entry.state)
        if entry.state == "available" and download:
            return pull(entry.name)
        raise _known_not_here(entry)

    folder = Path(spec.path).expanduser()
    if folder.is_dir():
        _refuse_revision(spec, "a local folder")
        _check_folder(folder)
        return _from_folder(folder, spec, "folder")

    if hub.is_hub_id(spec.path):
        snapshot = hub.find_snapshot(spec.path, spec.revision)
        if snapshot is None and download:
            snapshot = hub.download(spec.path, spec.revision)
        if snapshot is not None:
            return _as_told(_from_snapshot(snapshot), spec)
    raise _not_found(spec)


def pull(name: str, revision: str | None = None, say: Callable[[str], None] = _say) -> ResolvedModel:
    """Download a known model or a hub model; what is already here is not fetched again.

    Args:
        name: Known name or hub id.
        revision: Branch, tag or commit of a hub id. A branch is looked up again on the hub.
        say: Called with a line of progress now and then.

    Raises:
        ModelNotFound: Neither a known name nor a hub id.
        ModelError: The download or the check of what was downloaded failed.
    """
    spec = ModelSpec(path=name, revision=revision)
    entry = find_known(name)
    if entry is not None:
        _refuse_revision(spec, "a known model")
        if entry.state == "missing":
            raise _known_not_here(entry)
        if entry.state == "available":
            # Each model that can be pulled has a module of its own.
            from itercli.models import minilm, smollm2

            installers = {"smollm2-135m": smollm2.install, "minilm-l6": minilm.install}
            installers[entry.name](entry.path, say)
        return resolve(spec)
    if not hub.is_hub_id(name):
        raise _not_found(spec)
    say(f"downloading {name} to {hub.hub_cache()}")
    return _from_snapshot(hub.download(name, revision))


def _from_folder(folder: Path, spec: ModelSpec, source: str) -> ResolvedModel:
    digest = folder_digest(folder, code=spec.trust_remote_code)
    found = {"path": folder.resolve(), "digest": digest, "source": source}
    return _as_told(ResolvedModel.model_validate(found), spec)


def _from_snapshot(snapshot: hub.HubSnapshot) -> ResolvedModel:
    digest = f"hub:{snapshot.repo}@{snapshot.commit}"
    return ResolvedModel(path=snapshot.path, digest=digest, source="hub")


def _as_told(model: ResolvedModel, spec: ModelSpec) -> ResolvedModel:
    """The model with what the recipe says of its code and its template's date, where it has them.

    Raises:
        ModelError: The code is in another repository, whose content the digest doesn't cover.
    """
    folder = model.path
    assert folder is not None
    if asks_for_date(folder):
        model = model.model_copy(update={"template_date": spec.template_date})
    if not spec.trust_remote_code:
        return model
    foreign = foreign_code(folder)
    if foreign is not None:
        raise ModelError(
            f"{folder}: its auto_map takes {foreign!r} from another repository, whose code may change "
            f"under the same digest; copy its Python files here and write {foreign.partition('--')[2]!r}"
        )
    return model.model_copy(update={"trust_remote_code": True})


def _refuse_revision(spec: ModelSpec, kind: str) -> None:
    if spec.revision is not None:
        raise ModelError(
            f"revision {spec.revision!r} only applies to hub ids, but {spec.path!r} is {kind}: drop it"
        )


def _check_folder(folder: Path) -> None:
    if is_model_folder(folder):
        if not hub.is_complete(folder):
            raise ModelNotFound(f"{folder} has a config.json, but its weight files are not all there")
        return
    raise ModelNotFound(f"{folder} is no model: it has no config.json; give the folder with the weights")


def _known_not_here(entry: KnownModel) -> ModelNotFound:
    if entry.state == "missing":
        return ModelNotFound(
            f"model {entry.name!r} should be in {entry.path} but is not: the installation is incomplete, "
            "reinstall itercli"
        )
    return ModelNotHere(
        f"model {entry.name!r} is not on this machine (looked in {entry.path}); "
        f"run `iter models pull {entry.name}`"
    )


def _not_found(spec: ModelSpec) -> ModelNotFound:
    names = [m.name for m in known()]
    near = get_close_matches(spec.path.lower().replace("_", "-"), names, n=1, cutoff=0.5)
    places = [f"known names: {', '.join(names)}", f"folder {Path(spec.path).expanduser().absolute()}"]
    if hub.is_hub_id(spec.path):
        revision = spec.revision or "main"
        places.append(f"hub cache {hub.hub_cache()}, revision {revision}")
        option = f" --revision {spec.revision}" if spec.revision else ""
        fix = f"run `iter models pull {spec.path}{option}`, or give a local folder"
    else:
        fix = "give a known name, a local folder or a hub id (ORG/NAME)"
    if near:
        fix = f"did you mean {near[0]!r}? Else {fix}"
    error = ModelNotHere if hub.is_hub_id(spec.path) and not near else ModelNotFound
    return error(f"model {spec.path!r} not found (looked at {'; '.join(places)}); {fix}")
