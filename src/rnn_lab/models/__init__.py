"""Recurrent layers -> classifier -> LightningModules. Knows nothing of files or trainers."""
