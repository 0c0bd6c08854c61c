"""Measures of repetition, content and form, each against texts made to show it."""

from __future__ import annotations

import random
import time

import pytest

from itercli.verifiers import text_content as content
from itercli.verifiers.text_quality import (
    compression,
    distinct_n,
    duplicate_share,
    longest_repeat,
    paragraphs,
    rep_n,
    sentences,
)
from itercli.verifiers.text_structure import (
    empty_sections,
    has_closing_section,
    headings,
    numbering_ok,
    structure,
    tables_ok,
)

# --- repetition


def naive_longest_repeat(words: list[str]) -> int:
    for n in range(len(words) - 1, 0, -1):
        spans = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        if len(set(spans)) < len(spans):
            return n
    return 0


def test_longest_repeat_is_exact() -> None:
    draw = random.Random("longest")
    for size in range(40):
        for alphabet in ("a", "ab", "abcde", "abcdefghijklmnopqrstuvwxyz"):
            words = draw.choices(alphabet, k=size)
            assert longest_repeat(words) == naive_longest_repeat(words), words


def test_longest_repeat_of_long_texts() -> None:
    draw = random.Random("long")
    words = [f"w{i}" for i in range(10_000)]
    planted = draw.sample(words, 137)
    started = time.process_time()
    assert longest_repeat([*words[:3000], *planted, *words[3000:], "x", *planted]) == 137
    assert longest_repeat(["loop"] * 10_000) == 9_999
    assert longest_repeat(words) == 0
    assert time.process_time() - started < 10


def test_rep_n() -> None:
    assert rep_n(["a", "b", "c", "d", "e"], 4) == 0
    assert rep_n(["a", "b", "a", "b", "a"], 2) == pytest.approx(0.5)  # ab ba ab ba
    assert rep_n(["x"] * 13, 4) == pytest.approx(0.9)
    assert rep_n(["x"], 4) == 0
    assert rep_n([], 4) == 0


def test_distinct_n_does_not_fall_with_length() -> None:
    draw = random.Random("distinct")
    vocabulary = [f"w{i}" for i in range(500)]
    short, long = draw.choices(vocabulary, k=400), draw.choices(vocabulary, k=8000)
    assert distinct_n(long, 1) == pytest.approx(distinct_n(short, 1), abs=0.03)
    assert 1 - rep_n(long, 1) < 0.5 * (1 - rep_n(short, 1))  # what whole texts would give
    assert distinct_n(vocabulary[:99], 1) is None
    assert distinct_n([*vocabulary[:100], *["x"] * 99], 1) == 1.0
    assert distinct_n(["x"] * 100, 2) == pytest.approx(1 / 99)


def test_sentences_and_paragraphs() -> None:
    assert sentences('It is 3.5 m. "Really?" Yes!\nA line\n\nEnd.') == [
        "It is 3.5 m.", '"Really?', "Yes!", "A line", "End.",
    ]  # fmt: skip
    assert sentences("你好。“真的吗？”是！") == ["你好。", "“真的吗？", "是！"]
    assert paragraphs("a\nb\n\n\nc\n \t\nd\n") == ["a\nb", "c", "d"]
    assert sentences("") == paragraphs(" \n") == []


def test_duplicates() -> None:
    same = "The same old sentence here."
    assert (
        duplicate_share([same, "Another one, with words.", same.upper(), "the  same old sentence here."])
        == 0.5
    )
    assert duplicate_share(["Yes.", "Yes.", "Yes."]) == 0  # too short to count
    assert duplicate_share(["今天天气好。", "今天天气好。"]) == 0.5
    assert duplicate_share([]) == 0


def test_compression() -> None:
    draw = random.Random("zip")
    varied = " ".join(str(draw.random()) for _ in range(200))
    looped = "the same again " * 200
    assert compression("") is None
    high, low = compression(varied), compression(looped)
    assert high is not None
    assert low is not None
    assert low < 0.05 < 0.3 < high < 1
    assert compression("\ud800") is not None  # a lone surrogate is no crash


# --- content


def test_echo() -> None:
    prompt = "Write a long story about the old lighthouse keeper."
    assert content.echo(prompt, f"Sure. {prompt} It was night.", 5) == 1
    assert content.echo(prompt, "The keeper of an old house was writing.", 5) == 0
    assert content.echo(prompt, "a long story about the new", 5) == pytest.approx(1 / 5)
    assert content.echo("Why?", "why?", 5) == 1
    assert content.echo("", "text", 5) is None
    assert content.echo("请写一篇关于春天的文章", "请写一篇关于春天的文章。春天", 10) == 1
    assert content.starts_with("Write it. ", "  write  IT. Once ...")
    assert not content.starts_with("Write it.", "I write it.")
    assert not content.starts_with("", "text")


def test_retention() -> None:
    draft = "## Coffee\n\nCoffee grows in tropical mountains. Farmers harvest the cherries."
    richer = (
        "Farmers work hard.\n\n## coffee\n\nThe cherries of tropical mountains: coffee grows; they harvest."
    )
    other = "## Tea\n\nTea leaves are rolled with machines."
    assert content.retention(draft, richer) == 1
    assert content.retention(draft, other) == 0
    assert content.headings_kept(draft, richer) == 1
    assert content.headings_kept(draft, other) == 0
    assert content.headings_kept("plain", richer) is None
    assert content.retention("the of", richer) is None
    assert content.retention("咖啡好喝", "咖啡真的很好喝") == pytest.approx(2 / 3)  # not 啡好


def test_language() -> None:
    assert content.detect_language("写一篇 essay") == "zh"
    assert content.detect_language("Write about 茶") == "en"
    assert content.language_match("中文三 word", "zh") == pytest.approx(3 / 4)
    assert content.language_match("中文三 word", "en") == pytest.approx(1 / 4)
    assert content.language_match("12 %", "en") is None


def test_refusals_and_talk_about_the_text() -> None:
    assert content.refusal("I’m sorry, but I can't write that.") == "i'm sorry"
    assert content.refusal("作为一个AI语言模型，我")
    assert content.refusal("Once upon a time. " * 30 + "I cannot") is None
    assert content.meta_phrase("Here is the revised text:\n\nIt rained.") == "here is the revised"
    assert content.meta_phrase("It rained.\n" * 9 + "Word count: 2000")
    assert content.meta_phrase("A.\nB.\nC.\nlet me know if\nD.\nE.\nF.") is None


# --- form

GOOD = """# Tea

An introduction.

## 1. Kinds

1. Green
2. Black
   1. Assam
   2. Keemun
3. White

| kind | minutes |
|------|---------|
| green | 2 |

```python
# not a heading
| not a table
7. not an item
```

## 2. Water

**Heat**

Not boiling.

## Conclusion

Drink it.
"""


def test_structure_of_a_good_text() -> None:
    found = structure(GOOD)
    assert found.ok
    assert found.closing_section
    assert [(h.level, h.title) for h in headings(GOOD)] == [
        (1, "Tea"), (2, "1. Kinds"), (2, "2. Water"), (9, "Heat"), (2, "Conclusion"),
    ]  # fmt: skip
    assert (found.headings, found.paragraphs) == (5, 6)


@pytest.mark.parametrize(
    ("old", "new", "broken"),
    [
        ("## 2. Water", "## 3. Water", {"numbering"}),
        ("3. White", "4. White", {"numbering"}),
        ("   2. Keemun", "   3. Keemun", {"numbering"}),
        ("1. Green\n", "", {"numbering"}),
        ("```\n\n## 2", "\n\n## 2", {"fences"}),
        ("An introduction.", "## Before", {"sections"}),
        ("Not boiling.", "", {"sections"}),
        ("Drink it.\n", "", {"sections"}),
        ("| green | 2 |", "| green ", {"tables"}),
        ("|------|---------|\n", "", {"tables"}),
        ("| kind | minutes |\n|------|---------|\n", "", {"tables"}),
        ("## Conclusion", "## Cups", {"closing_section"}),
    ],
)
def test_what_breaks_the_structure(old: str, new: str, broken: set[str]) -> None:
    assert old in GOOD
    found = structure(GOOD.replace(old, new, 1))
    flags = ("numbering", "fences", "sections", "tables", "closing_section")
    wrong = {name for name in flags if not getattr(found, name)}
    assert broken <= wrong
    if broken != {"fences"}:  # an open fence hides all that follows
        assert wrong == broken
    assert found.ok is (broken == {"closing_section"})


def test_numbering_is_lenient_where_it_should_be() -> None:
    assert numbering_ok("1. a\n1. b\n1. c")
    assert numbering_ok("1. a\n2. b\n\nText.\n\n1. c\n2. d")
    assert numbering_ok("1984. It was a bright day.")
    assert numbering_ok("3.5 percent")
    assert numbering_ok("1、甲\n2、乙")
    assert not numbering_ok("1、甲\n3、乙")


def test_chinese_structure() -> None:
    text = "第一章 春\n\n一、花\n\n花开了。\n\n二、雨\n\n雨来了。\n\n结语\n\n总之，春天好。"
    assert [h.title for h in headings(text)] == ["第一章 春", "一、花", "二、雨"]
    assert empty_sections(text) == []
    assert [h.title for h in empty_sections(text.replace("花开了。\n\n", ""))] == ["一、花"]
    assert has_closing_section(text)
    assert not has_closing_section("总之，只有一段。")


def test_plain_story() -> None:
    found = structure("It rained.\n\nThen it stopped.")
    assert found.ok
    assert not found.closing_section
    assert found.headings == 0
    assert structure("").ok
    assert tables_ok("a | b\nc")


def test_no_text_is_slow() -> None:
    started = time.process_time()
    for text in (
        "# x" * 5000,
        "|" * 20_000,
        "- |-" * 5000,
        "*" * 20_000,
        "1. " * 7000,
        "。" * 20_000,
        "\n" * 20_000,
    ):
        structure(text)
        sentences(text)
        content.retention(text, text)
    assert time.process_time() - started < 10
