"""The training settings as JSON Schema: for the API's description, and for editors of configuration files."""

from dataclasses import MISSING, fields
from typing import Any

from app.rounds.spec.losses import LOSS_ALIASES, LOSSES, LossSetting, loss_options
from app.rounds.spec.settings import CHECKS, OPTIONS_OF_LOSSES, TR_DPO, TrainingSettings

DESCRIPTIONS = {
    "loss": "What a round minimises. Each reads settings of its own, in `loss_settings`.",
    "loss_settings": "The numbers the chosen loss reads; those left out take its defaults. Others are refused.",
    "margin_scale": "Times a preference's margin is δ, in nats of the loss's argument; 0 leaves margins out.",
    "pair_weighting": "`wpo`: a pair counts less the less likely the policy itself would write its answers.",
    "f_divergence": "The divergence from the reference that rewards are of: `reverse_kl` (DPO's), `forward_kl`, `js`, "
    "`alpha`.",
    "f_divergence_alpha": "α of `alpha`: towards 0 the forward KL, at 1 the reverse.",
    "method": "`lora` trains an adapter, `qlora` one over weights of 4 bits (CUDA only), `full` every weight.",
    "lora_rank": "Rank of the adapter.",
    "lora_alpha": "Scale of the adapter.",
    "lora_dropout": "Share of the adapter's inputs dropped in training.",
    "lora_targets": "`all-linear`, or names of modules.",
    "lora_dora": "DoRA: magnitude and direction apart; published merged.",
    "lora_rslora": "rsLoRA: alpha divided by √rank.",
    "learning_rate": "1e-4 for adapters, 5e-6 for every weight, if left out.",
    "schedule": "How the learning rate falls after the warm-up.",
    "warmup_ratio": "Share of all steps in which the learning rate rises. Refused beside `warmup_steps`.",
    "warmup_steps": "Steps in which the learning rate rises, in place of `warmup_ratio`; null: that holds.",
    "lr_min_ratio": "Share of the learning rate at which a falling schedule ends. Refused where it is constant.",
    "weight_decay": "Of matrices, by AdamW.",
    "adam_beta1": "AdamW's decay of the mean gradient.",
    "adam_beta2": "AdamW's decay of the mean squared gradient.",
    "adam_epsilon": "AdamW's ε.",
    "max_grad_norm": "Longer gradients are scaled down to this.",
    "epochs": "Times each judgement is read.",
    "max_steps": "Optimiser steps; ends training early.",
    "pairs_per_step": "Judgements in one optimiser step.",
    "tokens_per_row": "Tokens of a forward pass; fewer need less memory.",
    "gradient_checkpointing": "Layers are computed again in the backward pass: less memory, up to a third more time.",
    "compile": "Layers compiled by PyTorch on a GPU: `always`, `never`, or `auto`, if the job is long enough.",
    "max_length": "Longest prompt plus completion, tokens; null takes the model's context length.",
    "truncate": "`prompt_start` cuts the beginning of prompts that are too long with their answers; `never`: left out.",
    "dtype": "`auto` is bfloat16 on a GPU that has it.",
    "seed": "Of the order of examples and of new adapters.",
    "reference": "`parent`: the version the round starts from; `base`: version 1.",
    "reference_sync_steps": "The reference moves towards the policy every so many steps (TR-DPO); null: it stays.",
    "reference_sync_alpha": "How far it moves: 1 is all the way.",
    "eval_every_steps": "Held-out figures every so many steps; null: at the start and the end.",
    "kl_budget_nats": "Stop once the policy is further from its reference than this, nats a completion.",
    "early_stop_evaluations": "Stop after so many evaluations in a row without a lower held-out loss.",
    "publish": "`best`: the weights with the lowest held-out loss; `last`: the final ones.",
    "checkpoint_every_steps": "Write a checkpoint every so many steps, too.",
    "checkpoint_every_seconds": "Write a checkpoint when this long has passed.",
    "displacement_alarm_nats": "Warn when chosen answers have become less likely by more than this.",
    "processes": "Trainer processes on each machine, a GPU each. Set by site admins, as are the next two.",
    "nodes": "Machines that train together.",
    "rendezvous": "host:port of the machine that starts rounds; with more than one node.",
}


def training_schema() -> dict[str, Any]:
    """Every setting with type, range, default and meaning, and for each loss the settings it reads."""
    properties: dict[str, Any] = {
        "loss": {"type": "string", "enum": [*LOSSES, *LOSS_ALIASES, TR_DPO]},
        "loss_settings": {"type": "object", "additionalProperties": {"type": "number"}},
    } | {name: dict(check.schema) for name, check in CHECKS.items()}
    for item in fields(TrainingSettings):
        rule = properties[item.name]
        rule["description"] = DESCRIPTIONS[item.name]
        if item.default is not MISSING and item.name != "learning_rate":
            rule["default"] = item.default
    return {
        "type": "object",
        "properties": {item.name: properties[item.name] for item in fields(TrainingSettings)},
        "additionalProperties": False,
        "allOf": [_of_loss(loss) for loss in LOSSES],
    }


def _of_loss(loss: str) -> dict[str, Any]:
    """What holds where ``loss`` is chosen."""
    spec = LOSSES[loss]
    names = [loss, *(alias for alias, name in LOSS_ALIASES.items() if name == loss)]
    if loss == "sigmoid":
        names.append(TR_DPO)
    reads = {
        "type": "object",
        "properties": {name: _number(rule) for name, rule in spec.settings.items()},
        "additionalProperties": False,
    }
    unread = [name for name in OPTIONS_OF_LOSSES if name not in loss_options(loss)]
    chosen: dict[str, Any] = {"properties": {"loss": {"enum": names}}}
    if loss != TrainingSettings().loss:
        chosen["required"] = ["loss"]
    return {
        "title": spec.title,
        "description": spec.use,
        "if": chosen,
        "then": {"properties": {"loss_settings": reads, **dict.fromkeys(unread, False)}},
    }


def _number(rule: LossSetting) -> dict[str, Any]:
    return {
        "type": "number",
        "exclusiveMinimum" if rule.above else "minimum": rule.low,
        "exclusiveMaximum" if rule.below else "maximum": rule.high,
        "default": rule.default,
        "description": rule.meaning,
    }
