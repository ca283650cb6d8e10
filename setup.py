from pathlib import Path

from setuptools import find_packages, setup


setup(
    name="bdam",
    version="0.1.0",
    description="Text-to-image person retrieval that separates who a person is from what they wear",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    py_modules=["configuration_bdam", "modeling_bdam", "processing_bdam", "train_accelerate"],
    packages=find_packages(include=["bdam", "bdam.*"]),
    entry_points={"console_scripts": ["bdam = bdam.cli:main"]},
    install_requires=[
        "torch>=2.6",
        "transformers>=5.20",
        "huggingface_hub",
        "safetensors",
        "accelerate",
        "datasets>=4.0",
        "pillow",
        "matplotlib",
        "pydantic>=2",
        "pyyaml",
        "rich",
        "typer",
    ],
    extras_require={
        "cuda": ["mamba-ssm"],
        "analysis": ["scikit-learn"],
        "captions": ["openai", "scikit-learn"],
        "search": ["faiss-cpu", "pymilvus"],
        "app": ["gradio"],
        "tracking": ["tensorboard", "trackio", "wandb"],
        "dev": [
            "evaluate",
            "hypothesis",
            "import-linter",
            "mypy",
            "parameterized",
            "pytest",
            "ruff",
            "scikit-learn",
            "types-PyYAML",
        ],
    },
)
