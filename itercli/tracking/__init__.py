"""Sending what a run measures to trackers, beside it and never in its way.

``metrics.jsonl`` and the artifacts stay the source of truth. Each tracker has a process of
its own, the follower (``python -m itercli.tracking``), which reads them, sends what is new
and remembers what it sent in ``runs/NAME/tracking/TRACKER.json``. The run itself imports no
tracker and only starts, watches and ends its followers.
"""
