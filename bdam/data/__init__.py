"""Images and texts → `datasets.Dataset` → tensors."""
