"""Training: models from recipes, the loop, the balance of the losses, checkpoints and logs."""
