"""UPO (AAAI-25): preference pairs are trusted by how sure an estimator is of them.

The loop samples, rewards and pairs answers, asks an estimator with dropout about each pair
and learns from those that it is sure of (`choose`); `noise` measures what that is worth
where the truth is known. What is printed in the paper but would reverse the labels is an
option here, not the default (`itercli.preference.uncertainty.alphas`).
"""
