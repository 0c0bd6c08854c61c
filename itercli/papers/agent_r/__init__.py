"""Agent-R (arXiv 2501.11425): an agent learns from spliced trajectories to notice its own mistakes.

`pairs` takes good and bad paths from search trees, `judge` finds where a bad one goes wrong, `splice`
joins its beginning to the good one, `revise` makes dialogues of them, `replay` does them again,
`mix` adds general chat, `recovery` draws bad starts to evaluate from.
"""
