"""All that there is to know of the package is in pyproject.toml."""

from setuptools import setup


setup()
