"""What the models are asked, per language. The wording is ours; the structure is the paper's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class Wording:
    """Texts with named gaps, for `str.format`.

    Attributes:
        propose: Asks for instructions; the answer is opened with two examples.
        items: The opened answer, gaps `first` and `second`.
        next_item: Where the third item ends.
        suitable: Asks whether an instruction suits a long article; gaps `words`, `instruction`.
        answer: How the answer to that is opened; small models would chat instead.
        yes: First word of the answer that keeps it, compared without case.
        extend: Asks to enrich a draft; gaps `instruction`, `draft`.
        line_break: What joins the lines of a thinned draft.
    """

    propose: str
    items: str
    next_item: tuple[str, ...]
    suitable: str
    answer: str
    yes: str
    extend: str
    line_break: str


WORDING: dict[Language, Wording] = {
    "en": Wording(
        propose=(
            "Invent instructions that people might give to a writing assistant and that call for a long, "
            "detailed text. They should differ in topic and kind of text. Number them, one per item."
        ),
        items="1: {first}\n\n2: {second}\n\n3:",
        next_item=("\n4:", "\n4."),
        suitable=(
            "Here is an instruction for a writer:\n\n{instruction}\n\n"
            "Could a good answer to it be an article of more than {words} words? Answer yes or no only."
        ),
        answer="My answer (yes or no):",
        yes="yes",
        # The request comes before the material: asked at the end, small models talk about the text.
        extend=(
            "{instruction}\n\n"
            "You are known for turning outlines into rich, polished texts: use the outline below and enrich "
            "it. Add information, particulars and livelier description to every part, fill out its "
            "paragraphs and put in new sections. Do not carry on after its end, do not repeat yourself, do "
            "not ramble. Write as long, rich and engaging a text as you can, and nothing but the text.\n\n"
            "Outline:\n{draft}"
        ),
        line_break="\n",
    ),
    "zh": Wording(
        propose=(
            "请设想人们可能向写作助手提出的指令，这些指令需要写出篇幅长、内容详细的文字，题材和文体各不相同。"
            "请编号，每条一个指令。"
        ),
        items="1：{first}\n\n2：{second}\n\n3：",
        next_item=("\n4：", "\n4:", "\n4."),
        suitable="下面是给写作者的一条指令：\n\n{instruction}\n\n它适合写成{words}字以上的文章吗？只回答“是”或“否”。",
        answer="我的回答（是或否）：",
        yes="是",
        extend=(
            "{instruction}\n\n请根据下面的提纲写作并充实它：补充信息、细节和描写，不要接着结尾往下写，而要丰富已有内容。"
            "可以扩充段落，也可以增加带小标题的部分。不要重复，不要空话。只输出正文。\n\n提纲：\n{draft}"
        ),
        line_break="\n\n",
    ),
}
