"""Environment `textworld`: text adventures that TextWorld makes from a seed.

A task holds the seed and the size of its game, for example
``{"seed": 7, "rooms": 3, "objects": 5, "quest_length": 4, "quests": 1}``. The package writes and
compiles the game (seconds), once for each task: games lie in a cache folder, named by their content.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from itercli.environments.base import (
    Conversation,
    Environment,
    EnvironmentFailed,
    EnvironmentSpec,
    Step,
    Task,
)
from itercli.models import cache_root
from itercli.registry import how, register

MISSING = "TextWorld is not installed: pip install 'itercli[textworld]'"
INSTRUCTION = """\
You play a text adventure: reach the goal that it states. Each turn, write what you think and then one \
command:

Thought: why this is the next step
Action: the command

Commands, for example: look, inventory, go north, examine OBJ, take OBJ, take OBJ from OBJ, drop OBJ, \
put OBJ on OBJ, insert OBJ into OBJ, open OBJ, close OBJ, unlock OBJ with OBJ, lock OBJ with OBJ, eat OBJ."""
# Commands to the interpreter, not to the game: they ask questions, write files, and lose the score.
# By their first nine letters, like all words of the parser's.
META = ("quit", "q", "restart", "restore", "save", "undo", "oops", "script", "transcrip", "verify")
# Where the parser begins another command; the comma gives one to somebody: "me, save".
NEXT_COMMAND = re.compile(r"[.,;]|\bthen\b")
# Control characters and backslashes, its escapes, hang the interpreter or kill the process; what is
# longer it cuts, also in the middle of a character.
TYPEABLE = re.compile(r"[ -\[\]-~]{1,198}")
UNKNOWN_VERB = "That's not a verb I recognise."
STATUS_LINE = re.compile(r"\s*>?\s*-= [^\n]* =-\s*-?\d+/\d+\s*$")
END_MENU = re.compile(r"\s*Would you like to RESTART.*$", re.DOTALL)


class Game(BaseModel):
    """What determines a game.

    Attributes:
        seed: Of the map, the objects, the quests and the wording.
        quest_length: Commands that a quest takes at least.
        quests: Independent quests; each is worth the same part of the score.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(ge=0, lt=2**32)
    rooms: int = Field(5, ge=1)
    objects: int = Field(10, ge=1)
    quest_length: int = Field(5, ge=1)
    quests: int = Field(1, ge=1)

    def file(self, folder: Path) -> Path:
        """The compiled game, which is made if it is not in the folder yet.

        Raises:
            EnvironmentFailed: The package is missing, or can't make such a game.
        """
        named = f"{package_version()} {self.model_dump_json()}"
        path = folder / f"{hashlib.sha256(named.encode()).hexdigest()[:24]}.z8"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as making:
                self._make(Path(making) / path.name)
                # The game last: with it there, its description is.
                for suffix in (".json", ".z8"):
                    os.replace(Path(making) / f"{path.stem}{suffix}", path.with_suffix(suffix))
        return path

    def _make(self, path: Path) -> None:
        import textworld

        options = textworld.GameOptions()
        options.seeds = self.seed
        options.nb_rooms, options.nb_objects = self.rooms, self.objects
        options.quest_length, options.nb_parallel_quests = self.quest_length, self.quests
        options.path = str(path)
        try:
            textworld.make(options)
        except Exception as error:  # its own classes, and bare ones: no quest found, no compiler
            raise EnvironmentFailed(
                f"TextWorld can't make {self}: {error or type(error).__name__}. "
                "More rooms and objects, or a shorter quest, give it more to choose from"
            ) from error


def package_version() -> str:
    """The version of TextWorld.

    Raises:
        EnvironmentFailed: It is not installed.
    """
    try:
        return version("textworld")
    except PackageNotFoundError:
        raise EnvironmentFailed(MISSING) from None


def reaches_game(command: str) -> bool:
    """Whether a command is for the game and safe to send: the interpreter's own are in none of its parts."""
    parts = NEXT_COMMAND.split(command.lower())
    verbs = {word[:9] for part in parts for word in part.split()[:1]}
    return TYPEABLE.fullmatch(command) is not None and verbs.isdisjoint(META)


@register("environment", "textworld")
class TextWorldSpec(EnvironmentSpec):
    """TextWorld (Côté et al. 2018): generated games of rooms, doors, containers and keys."""

    conversation: Conversation = Conversation(instruction=INSTRUCTION, acknowledge="Ok.", action="react")
    step_limit: int | None = Field(100, ge=1, description="Actions after which the episode is done.")
    games: Path | None = how(
        default=None, description="Folder of made games; textworld in the cache if unset."
    )

    def fingerprint(self) -> dict[str, Any]:
        return {"textworld": package_version()}

    def build(self) -> Environment:
        package_version()
        return TextWorld((self.games or cache_root() / "textworld").expanduser(), self.step_limit)


class TextWorld(Environment):
    """An interpreter with a game."""

    def __init__(self, games: Path, step_limit: int | None = None) -> None:
        self._games, self._step_limit = games, step_limit
        self._game: Game | None = None
        self._env: Any = None
        self._state: Any = None
        self._steps = 0

    def reset(self, task: Task) -> str:
        try:
            game = Game.model_validate(task)
        except ValidationError as error:
            wrong = error.errors()[0]
            field = ".".join(map(str, wrong["loc"]))
            raise EnvironmentFailed(f"no TextWorld game {task}: {field}: {wrong['msg']}") from error
        if game != self._game:
            self._load(game)
        self._steps = 0
        self._state = self._env.reset()
        # Not its feedback, which begins with a page of banner.
        return f"{self._state.objective}\n\n{self._state.description}".strip()

    def step(self, action: str) -> Step:
        self._steps += 1
        late = self._step_limit is not None and self._steps >= self._step_limit
        before = self._score()
        command = " ".join(action.split())
        if not reaches_game(command):
            return Step(UNKNOWN_VERB, score=before, done=late)
        self._state, _, done = self._env.step(command)
        text = STATUS_LINE.sub("", END_MENU.sub("", self._state.feedback)).strip()
        score = self._score()
        return Step(text, reward=score - before, score=score, done=done or late)

    def valid_actions(self) -> list[str]:
        return sorted(self._state.admissible_commands)

    def solution(self) -> list[str]:
        """The commands that win from here."""
        return list(self._state.policy_commands)

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
        self._env = self._game = None

    def _load(self, game: Game) -> None:
        path = game.file(self._games)
        import textworld

        self.close()
        wanted = textworld.EnvInfos(
            objective=True, description=True, admissible_commands=True, policy_commands=True,
            score=True, max_score=True,
        )  # fmt: skip
        with warnings.catch_warnings():
            # That the interpreter knows no score of this game; the wrapper around it does.
            warnings.simplefilter("ignore")
            self._env = textworld.start(str(path), wanted)
            self._env.seed(game.seed)
        self._game = game

    def _score(self) -> float:
        return max(0.0, min(1.0, (self._state.score or 0) / self._state.max_score))
