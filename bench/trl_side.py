"""TRL's side of ``training.py``: DPOTrainer over the same pairs in the same order, its reference precomputed."""

import gc
import logging
import os
import tempfile
import time
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.turns import Peak


def train(
    model: Path,
    steps: Sequence[Sequence[dict[str, list[int]]]],
    *,
    rows_per_pass: int,
    bfloat16: bool,
    learning_rate: float,
    padding: int | None,
    checkpointing: bool,
) -> dict[str, Any]:
    """One epoch over ``steps`` (the rows of every optimiser step).

    ``rows_per_pass`` pairs go through the model at once, and gradients are accumulated over the passes of a step.

    Returns:
        'seconds' of reference pass and training; 'losses' of the steps; 'tokens' computed in both, padding included,
        a training pass counted once; 'peak_mib' and, of it, 'before_mib' when training began.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.simplefilter("ignore")
    import torch
    from datasets import Dataset, disable_progress_bars
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from transformers.utils import logging as transformers_logging
    from trl import DPOConfig, DPOTrainer

    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    reference_seconds = 0.0
    peak: Peak | None = None
    tokens = 0
    losses: list[float] = []

    class Timed(DPOTrainer):  # type: ignore[misc]
        """DPOTrainer that takes tokenised rows in their order and says what it did."""

        def _prepare_dataset(self, dataset: Any, *_args: Any, **_kwargs: Any) -> Any:
            return dataset

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(dataset if dataset is not None else self.train_dataset)

        def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
            nonlocal reference_seconds, peak
            gc.collect()
            peak = Peak()
            began = time.perf_counter()
            made = super()._precompute_ref_logps(*args, **kwargs)
            reference_seconds += time.perf_counter() - began
            return made

        def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
            nonlocal tokens
            tokens += inputs["input_ids"].numel()
            return super().compute_ref_log_probs(model, inputs)

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal tokens
            tokens += inputs["input_ids"].numel()
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            losses.append(float(loss.detach()))
            return loss

    size = len(steps[0])
    if any(len(step) != size for step in steps) or size % rows_per_pass:
        raise ValueError(f"steps of {sorted({len(s) for s in steps})} pairs in passes of {rows_per_pass}: not equal")
    flat = [row for step in steps for row in step]
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset.from_list([row | {"prompt": "", "chosen": "", "rejected": ""} for row in flat])
        dataset._fingerprint = uuid.uuid4().hex  # noqa: SLF001 - else a run finds the last one's reference log-probs
        trainer = Timed(
            model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa"),
            args=DPOConfig(
                output_dir=folder,
                beta=0.1,
                precompute_ref_log_probs=True,
                precompute_ref_batch_size=rows_per_pass,
                per_device_train_batch_size=rows_per_pass,
                gradient_accumulation_steps=size // rows_per_pass,
                gradient_checkpointing=checkpointing,
                pad_to_multiple_of=padding,
                max_length=None,
                bf16=bfloat16,
                use_cpu=not torch.cuda.is_available(),
                num_train_epochs=1,
                learning_rate=learning_rate,
                lr_scheduler_type="constant",
                weight_decay=0.0,
                max_grad_norm=1.0,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_steps=10_000,
                dataloader_pin_memory=False,
                seed=0,
            ),
            train_dataset=dataset,
            processing_class=AutoTokenizer.from_pretrained(model),
        )
        trainer.remove_callback(PrinterCallback)
        began = time.perf_counter()
        trainer.train()
        seconds = reference_seconds + time.perf_counter() - began
    if peak is None:
        raise RuntimeError("TRL computed no reference log-probs before training; this bench times them")
    passes = size // rows_per_pass
    means = [sum(losses[i : i + passes]) / passes for i in range(0, len(losses), passes)]
    return {
        "seconds": seconds,
        "reference_seconds": reference_seconds,
        "losses": means,
        "tokens": tokens,
        "peak_mib": peak.mib(),
        "before_mib": peak.before,
    }
