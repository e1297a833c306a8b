"""Registration of slices without a network: what a learnt alignment has to beat.

A slice of the source is registered to a slice of the target by mutual information (Mattes et al., IEEE TMI 22, 120,
2003), which knows no labels: by a translation, then an affine transform, then cubic B-splines (Rueckert et al., IEEE
TMI 18, 712, 1999), with SimpleITK. Where ANTsPy can be imported (the extra [register]), SyN does it too (Avants et al.,
Medical Image Analysis 12, 26, 2008).

The settings were chosen on training subjects of `abdomen_phantom` and `cardiac_phantom` (seed 0, 10 subjects, every
second slice of 64 x 64 pixels), by the Dice of the source's labels that the field carries to the target: copied .69 and
.64, by `register` .93 and .93, by the true field .94 and .95. B-splines until they converge lose it again (.82 on the
abdomen): eight steps keep them smooth. A translation by steps of 2 pixels runs away where a slice shows little. SyN,
after an affine transform by all pixels, has .90 and .86.
"""

import importlib.util
import pathlib

import numpy as np
import SimpleITK as sitk

GRID = 64  # pixels along the shorter side that registration looks at; larger slices are shrunk to about as many
BINS = 32  # of the histogram of both intensities
MESH = 4  # pieces of the B-splines along each axis
STEPS = 8  # of the B-splines' optimizer


def register(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The field that leads from the target's pixels to the source, by an affine transform and B-splines.

    Args:
        source, target: slices (H, W) in any units.

    Returns:
        float64 (H, W, 2), pixels along rows and columns: the target shows at a pixel what the source shows at pixel +
        field. Where a step finds nothing to compare, that of the one before is kept; of an empty slice it is 0.
    """
    shrink = max(1, round(min(target.shape) / GRID))
    fixed, moving = (_image(one, shrink) for one in (target, source))
    found = sitk.TranslationTransform(2)
    if np.ptp(source) == 0 or np.ptp(target) == 0:
        return _field(found, fixed, shrink)
    _fit(found, fixed, moving, [2 * shrink, shrink], step=0.5, least=0.01)
    affine = sitk.AffineTransform(2)
    affine.SetCenter(
        [extent * (size - 1) / 2 for extent, size in zip(fixed.GetSpacing(), fixed.GetSize(), strict=True)]
    )
    affine.SetTranslation(found.GetOffset())
    if _fit(affine, fixed, moving, [2 * shrink, shrink], step=0.2, least=0.005):
        found = affine
    splines = sitk.BSplineTransformInitializer(fixed, [MESH, MESH], 3)
    if _fit(splines, fixed, moving, [shrink], after=found):
        found = sitk.CompositeTransform([found, splines])
    return _field(found, fixed, shrink)


def _image(array: np.ndarray, shrink: int) -> sitk.Image:
    """A slice whose unit of length is a pixel of the shrunk one, so that steps are as long for any size."""
    image = sitk.GetImageFromArray(np.asarray(array, np.float32))
    image.SetSpacing([1 / shrink] * 2)
    return image


def _fit(transform, fixed, moving, shrinks: list[int], step: float = 0.0, least: float = 0.0, after=None) -> bool:
    """Fits a transform in place, that of B-splines (without a step) after another one; whether it could."""
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums in one order: the same field each time, to rounding
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(shrinks)
    method.SetSmoothingSigmasPerLevel([shrink / 2 * (shrink > 1) for shrink in shrinks])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    if after is not None:
        method.SetMovingInitialTransform(after)
    if step:
        method.SetOptimizerAsRegularStepGradientDescent(step, least, 100)
        method.SetOptimizerScalesFromPhysicalShift()
    else:
        method.SetOptimizerAsLBFGSB(1e-5, STEPS)
    before = transform.GetParameters()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError:  # no overlap is left, or one intensity alone in it
        transform.SetParameters(before)
        return False
    return True


def _field(transform, fixed: sitk.Image, shrink: int) -> np.ndarray:
    grid = fixed.GetSize(), fixed.GetOrigin(), fixed.GetSpacing(), fixed.GetDirection()
    field = sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat64, *grid)
    return sitk.GetArrayFromImage(field)[..., ::-1] * shrink  # of x and y


def knows_syn() -> bool:
    """Whether ANTsPy is installed."""
    return importlib.util.find_spec("ants") is not None


def register_by_syn(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """As `register`, by ANTsPy: an affine transform and SyN, both by mutual information."""
    import ants

    shrink = max(1, round(min(target.shape) / GRID))
    fixed, moving = (ants.from_numpy(np.asarray(one, np.float32)) for one in (target, source))
    done = ants.registration(
        fixed,
        moving,
        type_of_transform="SyN",
        aff_metric="mattes",
        aff_random_sampling_rate=1.0,  # a slice has few pixels
        aff_iterations=(200, 100),
        aff_shrink_factors=(2 * shrink, shrink),
        aff_smoothing_sigmas=(shrink, shrink / 2 * (shrink > 1)),
        syn_metric="mattes",
        reg_iterations=(20, 10),
        singleprecision=False,
    )
    try:
        places = np.indices(source.shape).astype(np.float32)
        moved = [
            ants.apply_transforms(fixed, ants.from_numpy(place), done["fwdtransforms"], defaultvalue=-source.size)
            for place in places
        ]
    finally:
        for path in {*done["fwdtransforms"], *done["invtransforms"]}:
            pathlib.Path(path).unlink(missing_ok=True)
    return np.stack([one.numpy() for one in moved], axis=-1) - np.moveaxis(places, 0, -1)
