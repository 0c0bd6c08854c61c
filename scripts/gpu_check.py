"""Checks on a CUDA machine what tests on a CPU can't: speed, memory and switches in bfloat16.

A random Llama is made in a temporary folder, so nothing is downloaded and answers mean
nothing; what counts is that each step works, how fast, and how much memory it takes. Each
step runs in a process of its own: its memory is its own, and a crash ends only that step.

    python scripts/gpu_check.py                       # on a machine with an NVIDIA GPU
    python scripts/gpu_check.py --device cpu --small  # the same code, in a minute, anywhere

Without a CUDA GPU it says so and exits 0. The exit code is 1 if a step failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

STEPS = {
    "model": "make a random model",
    "sample": "sample, transformers",
    "train-lora": "train, ranking, LoRA",
    "train-full": "train, SFT, all weights",
    "switch": "switch adapter, transformers",
    "vllm": "sample, vLLM",
    "vllm-switch": "switch adapter, vLLM merged",
    "vllm-lora": "switch adapter, vLLM LoRA",
}


@dataclass(frozen=True)
class Size:
    """How large the model and the work are."""

    hidden: int
    layers: int
    prompts: int
    new_tokens: int
    examples: int
    batch: int
    words: int


LARGE = Size(hidden=1536, layers=24, prompts=64, new_tokens=256, examples=64, batch=16, words=60)
SMALL = Size(hidden=64, layers=2, prompts=4, new_tokens=12, examples=4, batch=2, words=5)


def main() -> int:
    """Run the steps and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny model, to exercise the code")
    parser.add_argument("--only", metavar="STEP,...", help=f"some of: {', '.join(STEPS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one step (900)")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = SMALL if args.small else LARGE
    if args.step:
        result = run_step(args.step, args.work, size, args.device)
        (args.work / f"{args.step}.json").write_text(json.dumps(result))
        return 0
    if args.device == "cuda":
        found = cuda()
        if found is None:
            print("no CUDA GPU that torch can use: nothing to check here (`iter doctor` says why)")
            return 0
        print(found)
    wanted = args.only.split(",") if args.only else list(STEPS)
    unknown = sorted(set(wanted) - set(STEPS))
    if unknown:
        parser.error(f"no step {', '.join(unknown)}; there are {', '.join(STEPS)}")
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as work:
        rows = check(wanted, Path(work), args)
    print_table(rows)
    if args.json:
        args.json.write_text(json.dumps({"size": asdict(size), "steps": rows}, indent=2) + "\n")
    return 1 if any(row["status"] == "failed" for row in rows) else 0


def cuda() -> str | None:
    """One line about the GPU, or None; in a child, since a CUDA context takes memory."""
    code = (
        "import torch; p = torch.cuda.get_device_properties(0); "
        "print(f'{p.name}, {p.total_memory / 2**30:.0f} GiB, capability {p.major}.{p.minor}, '"
        "f'bf16 {torch.cuda.is_bf16_supported()}, torch {torch.__version__}, CUDA {torch.version.cuda}')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def check(wanted: list[str], work: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the wanted steps, each in a child, and what they need before them."""
    needs = {"switch", "vllm-switch", "vllm-lora"}
    todo = {"model", *wanted} | ({"train-lora"} if needs & set(wanted) else set())
    rows: list[dict[str, Any]] = []
    for step in STEPS:
        if step not in todo:
            continue
        row = {"step": step, "what": STEPS[step]}
        if step.startswith("vllm") and (missing := no_vllm(args.device, step in wanted and bool(args.only))):
            rows.append({**row, "status": "skipped", "note": missing})
            continue
        command = [sys.executable, __file__, "--step", step, "--work", str(work), "--device", args.device]
        started = time.monotonic()
        try:
            done = subprocess.run(
                command + ["--small"] * args.small,
                capture_output=True,
                text=True,
                timeout=args.timeout,
                check=False,
            )
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            failed, error = done.returncode != 0, lines[-1]
            if failed:
                print(*lines[-20:], sep="\n", file=sys.stderr)
        except subprocess.TimeoutExpired:
            failed, error = True, f"not done in {args.timeout:.0f} s"
        row["seconds"] = round(time.monotonic() - started, 1)
        if failed:
            rows.append({**row, "status": "failed", "note": error})
        else:
            rows.append({**row, "status": "ok", **json.loads((work / f"{step}.json").read_text())})
        print(f"  {step}: {rows[-1]['status']}, {row['seconds']} s", file=sys.stderr, flush=True)
    return rows


def no_vllm(device: str, asked: bool) -> str:
    """Why vLLM is left out, or ""."""
    if importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed"
    # Its start takes over a minute on a CPU.
    return "on a CPU only with --only" if device == "cpu" and not asked else ""


def print_table(rows: list[dict[str, Any]]) -> None:
    """The results as one aligned table."""
    heads = ("", "status", "tokens/s", "peak GiB", "seconds", "")
    lines = [heads]
    for row in rows:
        rate, peak = row.get("tokens_per_s"), row.get("peak_gib")
        lines.append((
            row["what"],
            row["status"],
            f"{rate:,.0f}" if rate else "",
            f"{peak:.2f}" if peak else "",
            f"{row['seconds']:.1f}" if "seconds" in row else "",
            row.get("note", ""),
        ))  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    for line in lines:
        cells = [line[0].ljust(widths[0]), line[1].ljust(widths[1])]
        cells += [line[i].rjust(widths[i]) for i in (2, 3, 4)]
        print("  ".join([*cells, line[5]]).rstrip())


def run_step(step: str, work: Path, size: Size, device: str) -> dict[str, Any]:
    """Run one step in this process and return its row."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from gpu_check_steps import Steps

    return Steps(work, size, device).run(step)


if __name__ == "__main__":
    sys.exit(main())
