from pathlib import Path

from setuptools import find_packages, setup


EXTRAS = {
    "analysis": ["scikit-learn>=1.6"],
    "app": ["gradio>=6.26"],
    "captions": ["filelock>=3.18", "openai>=1.98", "scikit-learn>=1.6"],
    "onnx": ["onnxruntime>=1.32", "onnxscript>=0.7"],
    "search": ["faiss-cpu>=1.10", "milvus-lite>=3.2.2", "pymilvus>=3.0"],
    "tracking": ["tensorboard>=2.18", "trackio>=0.30", "wandb>=0.21"],
}

setup(
    name="bdam",
    version="0.1.0",
    description="Text-to-image person retrieval that separates who a person is from what they wear",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    py_modules=["configuration_bdam", "modeling_bdam", "processing_bdam", "push_to_hub", "train_accelerate"],
    package_data={"bdam": ["py.typed"], "bdam.hub": ["model_card.md"]},
    packages=find_packages(include=["bdam", "bdam.*"]),
    entry_points={"console_scripts": ["bdam = bdam.cli:main"]},
    # Each lower bound is the oldest version that `make oldest` runs the tests with (constraints-oldest.txt).
    install_requires=[
        "torch>=2.13",  # the oldest CPU build that CI can install: of older versions it would get those for CUDA
        "transformers>=5.20",
        "huggingface_hub>=1.31",
        "safetensors>=0.8",
        "accelerate>=1.10.1",
        "datasets>=4.6",
        "jinja2>=3.1",
        "pillow>=11.0",
        "matplotlib>=3.9",
        "psutil>=6.0",
        "pydantic>=2.11",
        "pyyaml>=6.0",
        "rich>=14.0",
        "typer>=0.20",
        "typing_extensions>=4.12.2",
        "yamlcore>=0.0.4",
    ],
    extras_require={
        **EXTRAS,
        "cuda": ["mamba-ssm"],  # no lower bound: it is built against CUDA, which CI does not have
        "dev": [
            *sorted({requirement for requirements in EXTRAS.values() for requirement in requirements}),
            "evaluate>=0.4.6",
            "hypothesis>=6.170",
            "import-linter>=2.16",
            "milvus>=2.3.5; sys_platform == 'linux' and platform_machine == 'x86_64'",
            "mypy>=2.4",
            "parameterized>=0.9",
            "pytest>=9.2",
            "ruff>=0.17",
            "selenium>=4.51",
            "transformers[serving]>=5.20",
            "types-PyYAML>=6.0",
        ],
    },
)
