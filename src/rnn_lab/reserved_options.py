"""Options of Lightning's Trainer that a user cannot set, and what to use instead."""

# Arguments of Lightning's Trainer that the project sets itself, and the option to use instead.
RESERVED_TRAINER_OPTIONS = {
    "logger": "logger=<a file of conf/logger>",
    "callbacks": "callbacks=<a file of conf/callbacks>",
    "default_root_dir": "hydra.run.dir=<folder>",
    "enable_checkpointing": "trainer.checkpoint_every_n_steps and trainer.monitor",
    "use_distributed_sampler": "trainer=ddp, which repeats no example",
    "plugins": "plugins=[<module>] for modules of your own",
    "barebones": "debug=profiler",
    "model_registry": "logger=wandb, which logs the best checkpoint as an artifact",
    "limit_predict_batches": "predict.py",
    "enable_autolog_hparams": "logger=none",
}


def reserved_option_error(option: str) -> str | None:
    """Return the message about an option that the project sets, `trainer.logger`; None: another."""
    group, _, name = option.rpartition(".")
    instead = RESERVED_TRAINER_OPTIONS.get(name) if group == "trainer" else None
    return f"{option}: is set by the project; use {instead}" if instead else None
