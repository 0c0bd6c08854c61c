"""Self-Lengthen: a generator and an extender teach each other to write longer.

Each iteration invents new instructions, drafts answers with the generator, lets the
extender make them longer in several steps, and trains both roles on the result: the
generator to write the long text at once, the extender to get there from a draft in one
step. Nothing in the loop names a target length; it grows by extension and selection.

Source: Self-Lengthen (Quan et al. 2024) and its released code, whose order of steps this
follows. Read in this order: `wording`, `propose`, `respond`, `extend`, `length_bias`,
`pairs`, `limits`.
"""
