"""Source `several`."""

from __future__ import annotations

from pathlib import Path

from itercli.data.several import Several


def test_prompts_come_one_source_after_the_other(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.jsonl").write_text(f'{{"prompt": "1", "id": "{name}1"}}\n')
    sources = [{"name": "jsonl", "path": tmp_path / name / "rows.jsonl"} for name in ("b", "a")]
    both = Several.model_validate({"of": sources})
    assert [p.id for p in both.prompts()] == ["b1", "a1"]
    # Two files of one name, and their order, are told apart.
    assert len(both.fingerprint()) == 2
    turned = Several.model_validate({"of": sources[::-1]})
    assert turned.fingerprint() != both.fingerprint()
