"""What a policy still sees of a long episode."""

from __future__ import annotations

from collections.abc import Sequence

from itercli.environments.window import Window, dialogue
from itercli.records import Message, Turn

OPENING = [Message(role="system", content="s" * 5), Message(role="user", content="o" * 10)]


def turn(n: int, left_out: int = 0) -> Turn:
    return Turn(text=f"do{n}", action="do", observation=f"saw{n}", left_out=left_out)


def characters(messages: Sequence[Message]) -> int:
    return sum(len(message.content) for message in messages)


def test_without_limits_everything_is_seen() -> None:
    turns = [turn(n) for n in range(50)]
    messages, left_out = Window().fit(OPENING, turns)
    assert left_out == 0
    assert list(messages) == [*OPENING, *dialogue(turns)]
    assert [m.role for m in messages[2:4]] == ["assistant", "user"]
    assert Window().fit(OPENING, []) == (tuple(OPENING), 0)


def test_the_newest_turns_stay() -> None:
    messages, left_out = Window(turns=2).fit(OPENING, [turn(n) for n in range(5)])
    assert left_out == 3
    assert [m.content for m in messages[2:]] == ["do3", "saw3", "do4", "saw4"]
    assert Window(turns=2).fit(OPENING, [turn(0), turn(1)])[1] == 0


def test_tokens_are_those_of_the_whole_prompt() -> None:
    turns = [turn(n) for n in range(4)]  # 7 characters each, 15 before them
    for tokens, left_out in ((43, 0), (42, 1), (36, 1), (35, 2), (22, 3), (1, 3)):
        assert Window(tokens=tokens, count=characters).fit(OPENING, turns)[1] == left_out
    # The last turn stays however long: without it the policy would not know where it is.
    assert Window(tokens=1, count=characters).fit(OPENING, turns)[0][2:] == tuple(dialogue(turns[3:]))
    assert Window(tokens=1, count=characters).fit(OPENING, [])[0] == tuple(OPENING)


def test_what_was_left_out_stays_out_and_is_not_counted_again() -> None:
    counted: list[int] = []

    def count(messages: Sequence[Message]) -> int:
        counted.append(len(messages))
        return characters(messages)

    window, turns = Window(tokens=36, count=count), list[Turn]()
    for n in range(6):
        turns.append(turn(n, window.fit(OPENING, turns)[1]))
    assert [t.left_out for t in turns] == [0, 0, 0, 0, 1, 2]
    assert max(counted) == 2 + 2 * 4
    both = Window(turns=2, tokens=36, count=count)
    assert both.fit(OPENING, turns)[1] == 4
