"""The nouns: rows that stages read and write.

Every row is an immutable pydantic record. Row artifacts are Parquet files with one
column per field; scalars map to Arrow scalars, everything nested is stored as JSON
text (`itercli.engine.rows`), so a row read back equals the row written.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """Base of all rows: immutable, no unknown fields."""

    # Not `null`: what writes rows has to see such a number to refuse it (`itercli.engine.encode`).
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    @property
    def key(self) -> tuple[str, int]:
        """Identity of the row inside its artifact: (prompt id, sample index)."""
        return (str(getattr(self, "prompt_id", getattr(self, "id", ""))), int(getattr(self, "index", 0)))


class Message(Record):
    """One chat turn."""

    role: Literal["system", "user", "assistant"]
    content: str


class Prompt(Record):
    """A task for the policy.

    Attributes:
        id: Unique inside its source and stable across runs: seeds and resume depend on it.
        messages: The conversation that the policy continues.
        reference: A known good answer, or None.
        meta: What verifiers and reports need (test bench, header, template name ...).
    """

    id: str
    messages: list[Message]
    reference: str | None = None
    meta: dict[str, Any] = Field(default_factory=dict)


# How a text ended: end of turn or stop string, token budget, an error.
Finish = Literal["stop", "length", "error"]


def text_digest(text: str) -> str:
    """First 64 bits of the SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Generated(Record):
    """The tokens that a sampler wrote a text in: what training is to raise, and not a second encoding.

    They belong to one text under one vocabulary; both are named here, so that a text that somebody
    has changed, or a model with other tokens, is encoded anew instead.

    Attributes:
        ids: Token ids in order. The token that ended the turn is the last one if it was sampled; a
            stop string is not among them.
        ended: Whether the last id is an end token.
        text: `text_digest` of the text.
        vocabulary: Digest of the tokenizer's vocabulary (`sampling.tokens.vocabulary`).
        reencodes: Whether encoding the text behind its prompt gives these ids; None if nobody tried.
        logprobs: Log-probability of each id in nats under the model itself, that is at temperature 1
            and before top-k, top-p and penalties; None if the stage did not ask for them.
    """

    ids: list[int]
    ended: bool
    text: str
    vocabulary: str
    reencodes: bool | None = None
    logprobs: list[float] | None = None

    def of(self, text: str) -> bool:
        """Whether these are the tokens of `text`."""
        return self.text == text_digest(text)


def _at(values: list[Any], index: int) -> Any:
    """Lists of what is known of texts may be empty or too short."""
    return values[index] if index < len(values) else None


class Trajectory(Record):
    """One completion that a policy sampled for a prompt.

    Attributes:
        seed: The completion's own seed; with the same policy it draws the same text again.
        finish: "stop" (end of turn or stop string), "length" (token budget), "error".
        tokens: Number of generated tokens, the end-of-turn token included.
        policy: Version of the role that drew it, for example "policy@2".
        meta: How it came about where one call was not all (drafts, steps, checks).
        generated: Its tokens; None where the sampler does not tell, or several calls made the text.
    """

    prompt_id: str
    index: int
    seed: int
    completion: str
    finish: Finish
    tokens: int
    policy: str
    meta: dict[str, Any] = Field(default_factory=dict)
    generated: Generated | None = None


class Call(Trajectory):
    """One finished model call of a job of several calls, as its stage journals it.

    Attributes:
        prompt_id: The job's id.
        index: Number of the call inside the job, from 0.
        step: What the call was for, in the job's own words ("propose", "extend.b" ...).
    """

    step: str


class Score(Record):
    """A trajectory with a scorer's judgement of it.

    Attributes:
        value: The score; its range is the scorer's.
        passed: Whether the answer is functionally right; None where the scorer can't tell.
        outcome: Outcome class of the verifier ("pass", "syntax", "mismatch" ...).
        message: What the tool said, shortened; untrusted text.
        answer: What was extracted from the completion and judged.
        meta: Further measurements of the scorer.
        finish: How the completion ended; None if nobody knows.
        generated: The completion's tokens, as in `Trajectory`.
    """

    prompt_id: str
    index: int
    completion: str
    policy: str
    value: float
    passed: bool | None = None
    outcome: str = ""
    message: str = ""
    answer: str = ""
    meta: dict[str, Any] = Field(default_factory=dict)
    finish: Finish | None = None
    generated: Generated | None = None


class RankedExample(Record):
    """A prompt with scored responses to learn from (supervised, ranking or both).

    Attributes:
        responses: Candidate answers.
        scores: One score per response, higher is better.
        target: Index of the response whose likelihood is raised, or None for ranking only.
        sources: Where each response came from ("reference" or a policy version).
        finish: How each response ended; empty, or None for one, if nobody knows.
        generated: The tokens of each response, as in `Trajectory`; empty, or None for one, if unknown.
    """

    prompt_id: str
    messages: list[Message]
    responses: list[str]
    scores: list[float]
    target: int | None
    sources: list[str] = Field(default_factory=list)
    finish: list[Finish | None] = Field(default_factory=list)
    generated: list[Generated | None] = Field(default_factory=list)

    def sampled(self, index: int) -> tuple[Finish | None, Generated | None]:
        """How a response ended, and its tokens."""
        return _at(self.finish, index), _at(self.generated, index)


class PreferencePair(Record):
    """Two answers to a prompt, the first preferred: what reward models, estimators and DPO learn from.

    Attributes:
        index: Number of the pair among those of its prompt.
        sources: Where (chosen, rejected) came from: "reference", "labelled" or a policy version.
        origin: The rule that made it, then the kind as which it was drawn ("best_worst", "easy" ...).
        rewards: Of (chosen, rejected), where a scorer gave them.
        probabilities: [passes, 2] of an estimator's dropout passes: that the chosen, the rejected is better.
        bald: Mutual information of the passes in nats, 0 to ln 2 (upo, section 1.3); low is sure.
        vote: Share of the passes in which the chosen answer wins.
        alpha: Probability that the label is wrong, as the loss takes it (0: trust it).
        weight: Weight of the pair in the loss.
        kept: Whether it is trained on; others stay here to be looked at.
        reason: Why it was kept or dropped.
        meta: Further facts (length difference, which scorer ...).
        finish: How (chosen, rejected) ended; None if nobody knows.
        generated: The tokens of (chosen, rejected), as in `Trajectory`.
    """

    prompt_id: str
    index: int = 0
    messages: list[Message]
    chosen: str
    rejected: str
    sources: tuple[str, str] = ("", "")
    origin: str = ""
    rewards: tuple[float, float] | None = None
    probabilities: list[tuple[float, float]] = Field(default_factory=list)
    bald: float | None = None
    vote: float | None = None
    alpha: float = 0.0
    weight: float = 1.0
    kept: bool = True
    reason: str = ""
    meta: dict[str, Any] = Field(default_factory=dict)
    finish: tuple[Finish | None, Finish | None] = (None, None)
    generated: tuple[Generated | None, Generated | None] = (None, None)

    def swapped(self) -> PreferencePair:
        """The pair with its label turned round: answers, sources and tokens change places, rewards stay."""
        return self.model_copy(
            update={
                "chosen": self.rejected,
                "rejected": self.chosen,
                "sources": self.sources[::-1],
                "finish": self.finish[::-1],
                "generated": self.generated[::-1],
            }
        )

    @property
    def margin(self) -> float | None:
        """How much higher the chosen answer's reward is."""
        return None if self.rewards is None else self.rewards[0] - self.rewards[1]


class Turn(Record):
    """One action of an episode, and what the environment made of it.

    Attributes:
        text: What the policy wrote, reasons and all.
        action: What the environment got.
        observation: Its reply, as the policy sees it.
        reward: Change of the score by this action.
        score: The environment's score after it, in [0, 1].
        done: The environment ended the episode here.
        left_out: How many of the oldest turns the prompt of this one was without.
        loss: Whether training raises the likelihood of `text`.
        finish: How `text` ended; None if nobody knows.
        generated: The tokens of `text`, as in `Trajectory`.
        info: What else the environment said ("error", "disaster", the action it executed instead ...).
    """

    text: str
    action: str
    observation: str
    reward: float = 0.0
    score: float = 0.0
    done: bool = False
    left_out: int = 0
    loss: bool = True
    finish: Finish | None = None
    generated: Generated | None = None
    info: dict[str, Any] = Field(default_factory=dict)


class Episode(Record):
    """What a policy did in an environment, turn by turn.

    Attributes:
        opening: The conversation before the first action; its last message holds the first observation.
        score: The environment's score at the end, in [0, 1].
        finish: "done" (the environment ended it), "turns" (too many), "context" (the prompt no longer
            fits), "error" (the environment failed; `meta` says how).
        tokens: Generated tokens of all turns.
    """

    prompt_id: str
    index: int
    seed: int
    policy: str
    opening: list[Message]
    turns: list[Turn]
    score: float
    finish: Literal["done", "turns", "context", "error"]
    tokens: int = 0
    meta: dict[str, Any] = Field(default_factory=dict)


class Node(Record):
    """A state in a search tree: the action that led to it, and what the search found there.

    Attributes:
        id: Position in `Tree.nodes`; the root is 0 and holds no turn.
        parent: Id of the parent, always smaller; None for the root.
        value: Sum of the scores backed up through it.
        closed: Nothing below is left to explore.
        terminal: No action follows: the environment is done, or the depth is used up.
    """

    id: int
    parent: int | None
    turn: Turn | None = None
    visits: int = 0
    value: float = 0.0
    closed: bool = False
    terminal: bool = False


class Tree(Record):
    """A tree search for one task; `nodes` in the order in which they were made."""

    prompt_id: str
    index: int = 0
    seed: int
    policy: str
    opening: list[Message]
    nodes: list[Node]
    simulations: int
    tokens: int = 0
    meta: dict[str, Any] = Field(default_factory=dict)


class Dialogue(Record):
    """A conversation to learn from, with a choice of the turns that are learnt.

    Attributes:
        messages: The whole conversation.
        loss: One flag per message: whether its likelihood is raised; only the assistant's may be.
        origin: How it came about ("good", "revision", "general" ...).
        finish: How each message ended; empty, or None for one, if nobody knows.
        generated: The tokens of each message, as in `Trajectory`; empty, or None for one, if unknown.
    """

    prompt_id: str
    index: int = 0
    messages: list[Message]
    loss: list[bool]
    origin: str = ""
    meta: dict[str, Any] = Field(default_factory=dict)
    finish: list[Finish | None] = Field(default_factory=list)
    generated: list[Generated | None] = Field(default_factory=list)

    def sampled(self, index: int) -> tuple[Finish | None, Generated | None]:
        """How a message ended, and its tokens."""
        return _at(self.finish, index), _at(self.generated, index)


SERVED = "served:"


class ModelRef(Record):
    """How to load a model: a base and, if trained as LoRA, one adapter on it.

    Attributes:
        base: Local folder with the weights and the tokenizer; empty for a served model.
        adapter: Local folder of a PEFT adapter on `base`, or None.
        version: Role and version, for example "policy@0" for the start model.
        digest: Hash that identifies these weights; two refs with one digest are one model.
        trust_remote_code: Whether Python files that come with the model may be run.
        template_date: ISO date that its chat template prints, if it asks for one; None is the default one.
    """

    base: str
    adapter: str | None = None
    version: str
    digest: str
    trust_remote_code: bool = False
    template_date: str | None = None

    @property
    def served(self) -> str | None:
        """Name of a model that is only behind a server, else None."""
        return self.digest.removeprefix(SERVED) if self.digest.startswith(SERVED) else None
