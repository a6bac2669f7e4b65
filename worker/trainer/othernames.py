"""What other trainers call our options, so that a name of theirs is answered with ours."""

from collections.abc import Iterable

from app.rounds.spec import LOSSES

OF_OTHER_TRAINERS = {
    "model_name_or_path": "model",
    "base_model": "model",
    "dataset": "data",
    "dataset_name": "data",
    "output_dir": "output",
    "prompt_key": "columns (prompt=NAME)",
    "chosen_key": "columns (chosen=NAME)",
    "rejected_key": "columns (rejected=NAME)",
    "field_chosen": "columns (chosen=NAME)",
    "field_rejected": "columns (rejected=NAME)",
    "loss_type": "loss",
    "pref_loss": "loss",
    "lr": "learning_rate",
    "lr_scheduler": "schedule",
    "lr_scheduler_type": "schedule",
    "cosine_min_lr_ratio": "lr_min_ratio",
    "min_lr_rate": "lr_min_ratio",
    "lr_warmup_ratio": "warmup_ratio",
    "lr_warmup_steps": "warmup_steps",
    "adam_betas": "adam_beta1, and adam_beta2",
    "adam_eps": "adam_epsilon",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "batch_size": "pairs_per_step",
    "train_batch_size": "pairs_per_step",
    "micro_batch_size": "tokens_per_row (in tokens)",
    "micro_train_batch_size": "tokens_per_row (in tokens)",
    "per_device_train_batch_size": "pairs_per_step (of all devices and passes together)",
    "gradient_accumulation_steps": "pairs_per_step (of all devices and passes together)",
    "max_norm": "max_grad_norm",
    "max_len": "max_length",
    "max_seq_length": "max_length",
    "max_prompt_length": "max_length (of prompt and answer together)",
    "sequence_len": "max_length",
    "truncation_mode": "truncate (prompt_start cuts the beginning of prompts)",
    "cutoff_len": "max_length",
    "lora_r": "lora_rank",
    "lora_target": "lora_targets",
    "lora_target_modules": "lora_targets",
    "bf16": "dtype",
    "torch_compile": "compile",
    "eval_steps": "eval_every_steps",
    "save_steps": "checkpoint_every_steps",
    "val_set_size": "eval_fraction",
    "val_size": "eval_fraction",
    "eval_dataset": "eval_data",
    "f_divergence_type": "f_divergence (js and alpha for js_divergence and alpha_divergence)",
    "f_alpha_divergence_coef": "f_divergence_alpha (with f_divergence alpha)",
    "use_weighting": "pair_weighting (wpo)",
    "sync_ref_model": "reference_sync_steps (how often it moves; unset, it stays)",
    "ref_model_sync_steps": "reference_sync_steps",
    "ref_model_mixup_alpha": "reference_sync_alpha",
    "loss_weights": "loss mpo or dpo_nll (with weights among their settings; other sums there are none)",
    "rpo_alpha": "loss dpo_nll (its setting nll_alpha)",
    "pref_ftx": "loss dpo_nll (its setting nll_alpha)",
    "pref_bco_weight": "loss mpo (its setting quality_weight)",
    "dpo_label_smoothing": "loss cdpo (its setting label_smoothing)",
    "kto_chosen_weight": "loss kto (its setting desirable_weight)",
    "kto_rejected_weight": "loss kto (its setting undesirable_weight)",
    "simpo_gamma": "loss simpo (its setting gamma)",
}
"""Options of TRL, axolotl, LLaMA-Factory and OpenRLHF by what they are called here."""


def meant(name: str, known: Iterable[str]) -> str:
    """What to write in a configuration in place of a name that is none of the ``known`` options."""
    if any(name in loss.settings for loss in LOSSES.values()):
        return f"it is a setting of the loss: write loss_settings: {{{name}: …}}"
    if name in OF_OTHER_TRAINERS:
        return f"here that is {OF_OTHER_TRAINERS[name]}"
    return f"known are {', '.join(sorted(known))}"


def misnamed(argument: str) -> str | None:
    """What to type in place of an option that there is none of, and that other trainers have; None for all others."""
    name = argument.removeprefix("--").partition("=")[0].replace("-", "_")
    if not argument.startswith("--"):
        return None
    if any(name in loss.settings for loss in LOSSES.values()):
        return f"--{name} is a setting of the loss: give --loss-setting {name}=NUMBER"
    if name not in OF_OTHER_TRAINERS:
        return None
    option, space, more = OF_OTHER_TRAINERS[name].partition(" ")
    return f"no option {argument}; here that is --{option.replace('_', '-')}{space}{more}"
