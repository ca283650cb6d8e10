"""Recipes: the settings of a training run, as YAML files."""
