"""Trains DRAI: python -m train.drai --dataset=skin_phantom --preset=quick
Or what it is compared with: python -m train.drai --model=dcinfogan ...

Data sets: skin_phantom, nodule_phantom (made by themselves), ham10000, lidc, lidc_patches (--raw_dir=DIR).

Presets (values of `DRAIConfig`; two CPU cores):

| preset | images | what it is for |
|---|---|---|
| quick | 32 x 32 | to see the effect in minutes |
| small | 64 x 64 | the same in half an hour |
| paper | 64 x 64 | the paper's setting; needs a GPU |
"""

from absl import app, flags

from tfdisent.experiment import run

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "model",
    "drai",
    "DRAI; or what it is compared with: cinfogan, dcinfogan, cavae, dcavae, dai; or DAI with some of DRAI's terms: "
    "selfReg, MIReg, featureCycle, or two of them, as in selfReg+MIReg.",
)


def parts(name: str) -> run.Parts:
    """DRAI, or what it is compared with, by name; imported when flags are parsed."""
    from tfdisent.baselines.drai import METHODS
    from tfdisent.baselines.method import method
    from tfdisent.evaluation import drai

    known = method(METHODS, name)
    return run.Parts(name, known.title, known.model.config_class, known.model, drai, known.changes)


def main(argv):
    """Entry point of the command line."""
    run.main(argv, "drai", FLAGS.model, parts)


if __name__ == "__main__":
    flags.adopt_module_key_flags(run)
    app.run(main)
