"""Pictures and texts → `datasets.Dataset` → tensors."""
