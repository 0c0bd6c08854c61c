"""Which variables of the environment a recipe may name, and for what.

Whatever a recipe says is written down and sent on: in config.yaml, in manifests, to trackers,
on cards. So a secret is never a value of a recipe: `${oc.env:NAME}` reads names that are listed
and don't look like one, and `api_key_env` has a key sent that is read when it is needed.
"""

from __future__ import annotations

import os
import re

VALUES = ("HOME", "USER", "TMPDIR", "SCRATCH", "XDG_CACHE_HOME", "HF_HOME", "CUDA_VISIBLE_DEVICES")
KEYS = ("OPENAI_API_KEY",)
PREFIX = "ITER_"  # of variables that are ours, or that the user made for recipes
MORE = "ITER_RECIPE_ENV"
SECRET = re.compile(r"TOKEN|SECRET|PASS|PWD|KEY|CREDENTIAL|AUTH|PRIVATE|COOKIE|SESSION|DSN", re.IGNORECASE)
FORM = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Unreadable(Exception):
    """A variable that a recipe names and does not get."""


def refused_value(name: str) -> str:
    """Why a recipe may not read a variable; empty if it may."""
    if SECRET.search(name):
        return (
            f"the variable {name} may hold a secret, and what a recipe says is written down and sent to "
            f"trackers; a sampler's key is named by api_key_env"
        )
    return _unlisted(name, VALUES)


def refused_key(name: str) -> str:
    """Why the key in a variable may not be sent to a server that a recipe names; empty if it may."""
    return _unlisted(name, KEYS)


def _unlisted(name: str, listed: tuple[str, ...]) -> str:
    own = [n.strip() for n in os.environ.get(MORE, "").split(",")]
    if FORM.fullmatch(name) and (name in (*listed, *own) or name.startswith(PREFIX)):
        return ""
    return (
        f"recipes may not use the variable {name}; allowed are {', '.join(listed)}, names that begin with "
        f"{PREFIX}, and those in {MORE} (if you trust the recipe: export {MORE}={name})"
    )


def read(name: str, *default: str | None) -> str | None:
    """The resolver behind `${oc.env:NAME}` and `${oc.env:NAME,DEFAULT}`.

    Raises:
        Unreadable: Recipes may not read it, or it is not set and there is no default.
    """
    if why := refused_value(str(name)):
        raise Unreadable(why)
    if name in os.environ:
        return os.environ[name]
    if default:
        return None if default[0] is None else str(default[0])
    raise Unreadable(f"the variable {name} is not set")
