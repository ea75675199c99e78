"""What a training run keeps: checkpoints, the recipe, rows of metrics, examples to hear and see."""
