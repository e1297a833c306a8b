"""What the `tfdisent` package is and needs. Settings of the tools are in pyproject.toml."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

setup(
    name="tfdisent",
    version=runpy.run_path(str(ROOT / "tfdisent" / "_version.py"))["__version__"],
    description="Published disentanglement systems for medical images, in Keras 3",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["disentanglement", "medical imaging", "GAN", "Keras", "TensorFlow", "JAX", "PyTorch"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
    # `datasets` and `train` are the commands of a checkout; installed, they would hide modules of others.
    packages=find_packages(include=["tfdisent", "tfdisent.*"]),
    package_data={"tfdisent.report": ["*.jinja"]},
    zip_safe=False,
    python_requires=">=3.11,<3.14",  # TensorFlow 2.21 has no wheels for 3.14
    # Lower bounds are met by what Colab ships; no newer release is known to break.
    install_requires=[
        "absl-py>=1.4",
        "filelock>=3.13",
        "isal>=1.6",
        "jinja2>=3.1",
        "keras>=3.13",
        "matplotlib>=3.8",
        "nibabel>=5.2",
        "nilearn>=0.10",  # carries the MNI152 tissue maps of the brain phantom
        "numpy>=1.26",
        "pillow>=10.1",
        "protobuf>=4.21",
        "pydicom>=3.0",
        "scikit-image>=0.22",
        "scikit-learn>=1.4",
        "scipy>=1.12",
        "simpleitk>=2.3",
        "tensorboard>=2.19",  # tf.summary needs it; TensorFlow stopped bringing it in 2.21
        "tensorflow>=2.20",
        "tensorflow-gan>=2.1",
        "tensorflow-probability>=0.25",
        "tf_keras>=2.20",  # TensorFlow Probability is built on Keras 2, which lives here
        "threadpoolctl>=3.1",
        "tqdm>=4.66",
    ],
    entry_points={"console_scripts": ["tfdisent=tfdisent.commands.main:run"]},
    extras_require={
        "gpu": ["tensorflow[and-cuda]>=2.20"],
        "jax": ["jax>=0.7"],
        "torch": ["torch>=2.11"],
        "beam": ["apache-beam>=2.77"],
        "normalize": ["intensity-normalization>=3.0"],
        "onnx": ["onnx>=1.16", "tf2onnx>=1.17"],
        "register": ["antspyx>=0.5"],
        "test": [
            "intensity-normalization>=3.0",
            "onnx>=1.16",
            "onnxruntime>=1.19",
            "openvino>=2025.0",
            "pytest>=8.0",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.5",
            "setuptools>=77",
            "tensorflow-datasets>=4.9.9",
            "tf2onnx>=1.17",
        ],
        "dev": ["ruff~=0.17.5"],  # another minor version may format otherwise
    },
)
