"""How fast the trainer trains: against TRL's DPOTrainer on the same model, pairs, precision, batches and rate.

Both compute the reference's log-probs once and train every weight for one epoch of DPO, and both are timed from the
first reference pass to the last optimiser step, in turns, each in a process of its own. TRL gets the pairs in the
order of our steps, and of all ways to split a step into passes the one that is fastest here. The losses of every step
are compared. Shares are of the rate at which this machine makes the model's own matrix products and nothing else; the
ratio that these products would make alone, in no time for all the rest, is what no trainer can go beyond here.

    python bench/training.py [--workload single|group|ranked|long-single|long-group] [--precision fp32|bf16]
        [--pairs 12] [--repeats 3] [--shape 42m|1b|tiny] [--json]
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from worker.trainer.memory import ENVIRONMENT

os.environ.update(ENVIRONMENT | os.environ)  # as the trainer does, here for both sides
os.environ.setdefault("TQDM_DISABLE", "1")

import torch

from app.rounds.spec import COMPILE
from bench import hone_side, rate, trl_side
from bench.turns import Side
from bench.workloads import PAIRS_PER_STEP, SHAPES, WORKLOADS, make_groups, settings_for, trl_steps, write_model

PRECISIONS = ("fp32", "bf16")


def compare(
    name: str, precision: str, model: Path, shape: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Both sides in turns; medians of seconds, the highest of the peaks."""
    bfloat16 = precision == "bf16"
    groups = make_groups(WORKLOADS[name], options.pairs, shape["vocab_size"], per_step=options.pairs_per_step)
    settings = settings_for(
        WORKLOADS[name],
        bfloat16=bfloat16,
        learning_rate=options.learning_rate,
        tokens_per_row=options.tokens_per_row,
        per_step=options.pairs_per_step,
        compiled=options.compile,
    )
    steps = trl_steps(groups, settings)
    pairs, size = sum(map(len, steps)), len(steps[0])
    how = {
        "bfloat16": bfloat16,
        "learning_rate": options.learning_rate,
        "padding": 64 if torch.cuda.is_available() else None,  # a CPU gains nothing from more padding
        "checkpointing": False,
    }
    ours, theirs = Side(options.threads), Side(options.threads)
    try:
        splits = [n for n in range(1, size + 1) if size % n == 0] if options.trl_batch is None else [options.trl_batch]
        theirs.ask(trl_side.train, model, steps[:1], rows_per_pass=size, **how)  # the first run of all is slower
        best = splits[0]
        if len(splits) > 1:
            tried = {n: theirs.ask(trl_side.train, model, steps[:2], rows_per_pass=n, **how)["seconds"] for n in splits}
            best = min(tried, key=lambda n: tried[n])
        ours.ask(hone_side.train, model, groups[:1], settings)
        rows = round(sum(map(_tokens, groups)) / len(steps))
        predicted = round(sum(len(c.ids) for group in groups for c in group.completions) / len(steps))
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
        rates = []
        for _ in range(options.repeats):
            runs["theirs"].append(theirs.ask(trl_side.train, model, steps, rows_per_pass=best, **how))
            runs["ours"].append(ours.ask(hone_side.train, model, groups, settings))
            rates.append(ours.ask(rate.gflops, shape, rows, predicted, bfloat16=bfloat16))
    finally:
        ours.close()
        theirs.close()
    seconds = {side: statistics.median(run["seconds"] for run in made) for side, made in runs.items()}
    peaks = {side: max(run["peak_mib"] for run in made) for side, made in runs.items()}
    above = {side: max(run["peak_mib"] - run["before_mib"] for run in made) for side, made in runs.items()}
    one, other = runs["ours"][0], runs["theirs"][0]
    bare = one["flops"] / 1e9 / statistics.median(rates)
    return {
        "workload": name,
        "precision": precision,
        "ratio": round(seconds["theirs"] / seconds["ours"], 2),
        "loss_max_abs_diff": max(abs(a - b) for a, b in zip(one["losses"], other["losses"], strict=True)),
        "gemm_share": round(bare / seconds["ours"], 3),
        "ratio_of_bare_products": round(seconds["theirs"] / bare, 2),
        "peak_memory_ratio": round(peaks["ours"] / peaks["theirs"], 3),
        "peak_memory_above_start_ratio": round(above["ours"] / above["theirs"], 3),
        "pairs": pairs,
        "steps": len(steps),
        "losses": [round(loss, 6) for loss in one["losses"]],
        "hone_pairs_per_second": round(pairs / seconds["ours"], 3),
        "trl_pairs_per_second": round(pairs / seconds["theirs"], 3),
        "hone_seconds": [round(run["seconds"], 3) for run in runs["ours"]],
        "trl_seconds": [round(run["seconds"], 3) for run in runs["theirs"]],
        "hone_tokens": one["tokens"],
        "trl_tokens": other["tokens"],
        "hone_peak_mib": round(peaks["ours"]),
        "trl_peak_mib": round(peaks["theirs"]),
        "hone_gflops": round(one["flops"] / seconds["ours"] / 1e9, 1),
        "gemm_gflops": round(statistics.median(rates), 1),
        "trl_pairs_per_pass": best,
        "path": one["path"],
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{options.threads} CPU threads",
    }


def _tokens(group: Any) -> int:
    return len(group.prompt_ids) + sum(len(completion.ids) for completion in group.completions)


def main() -> None:
    """Run the comparisons asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=sorted(WORKLOADS), action="append", help="all, if not given")
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="both, if not given")
    parser.add_argument("--pairs", type=int, default=12, help="of a workload, rounded up to whole steps")
    parser.add_argument("--repeats", type=int, default=3, help="turns; medians are told")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--tokens-per-row", type=int, help="of our passes; the trainer's default, if not given")
    parser.add_argument("--trl-batch", type=int, help="pairs of a pass of TRL's; the fastest, if not given")
    parser.add_argument("--shape", choices=SHAPES, default="42m", help="of the model; tiny is to try the program out")
    parser.add_argument("--pairs-per-step", type=int, default=PAIRS_PER_STEP, help="of an optimiser step")
    parser.add_argument("--compile", choices=COMPILE, default="auto", help="our layers, on a GPU")
    parser.add_argument("--json", action="store_true", help="one line for machines, last")
    options = parser.parse_args()
    shape = SHAPES[options.shape]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        write_model(model, shape)
        for name in options.workload or WORKLOADS:
            for precision in options.precision or PRECISIONS:
                row = compare(name, precision, model, shape, options)
                rows.append(row)
                print(
                    f"{name:<11} {precision}  {row['pairs']:>3} pairs  TRL {row['trl_pairs_per_second']:6.2f}/s at "
                    f"{row['trl_pairs_per_pass']} a pass, {row['trl_peak_mib']:>5} MiB, {row['trl_tokens']:>6} tokens  "
                    f"ours {row['hone_pairs_per_second']:6.2f}/s, {row['hone_peak_mib']:>5} MiB, "
                    f"{row['hone_tokens']:>6} tokens  {row['ratio']:5.2f}x  memory {row['peak_memory_ratio']:.2f}  "
                    f"products {row['gemm_share']:.0%} of {row['gemm_gflops']:.0f} Gflop/s, which alone would make "
                    f"{row['ratio_of_bare_products']:.2f}x  "
                    f"losses within {row['loss_max_abs_diff']:.1e}",
                    flush=True,
                )
    if options.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
