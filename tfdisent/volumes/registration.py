"""Rigid registration of two scans of one head, by SimpleITK."""

from collections.abc import Callable, Sequence

import numpy as np

FEWEST_SLICES = 4  # of which three rotations can be told
_SHARE = 0.2  # of the voxels that the similarity is computed from


def register_rigid(
    fixed: np.ndarray, moving: np.ndarray, fixed_spacing: Sequence[float], moving_spacing: Sequence[float]
) -> Callable[[np.ndarray], np.ndarray]:
    """Finds the rotation and shift that bring one scan onto another, whose contrast may be another one.

    Mattes's mutual information, maximised first of scans that are blurred by 4 mm, then as they are, from where the
    centres of their intensities meet. The same arguments give the same result.

    Args:
        fixed, moving: (S, H, W), lowest in the background; of different shapes where they are.
        fixed_spacing, moving_spacing: millimetres along y, x and across slices, as `Volume.spacing`.

    Returns:
        A function of a volume on the grid of `moving` that gives it on the grid of `fixed`, float32, by linear
        interpolation; NaN where the moving scan does not reach. One transform serves all that is made of a scan.

    Raises:
        ValueError: another shape or spacing, or fewer than `FEWEST_SLICES` slices.
        RuntimeError: no overlap was found (SimpleITK's).
    """
    import SimpleITK as sitk

    for name, array, spacing in (("fixed", fixed, fixed_spacing), ("moving", moving, moving_spacing)):
        if np.ndim(array) != 3 or len(array) < FEWEST_SLICES or len(spacing) != 3 or not np.all(np.array(spacing) > 0):
            raise ValueError(
                f"Expected {name} of {FEWEST_SLICES} slices or more (S, H, W) and its spacing in millimetres, received "
                f"shape {np.shape(array)} and {list(spacing)}."
            )
    still, moved = _image(fixed, fixed_spacing), _image(moving, moving_spacing)
    start = sitk.CenteredTransformInitializer(
        still - float(np.min(fixed)),
        moved - float(np.min(moving)),
        sitk.Euler3DTransform(),
        sitk.CenteredTransformInitializerFilter.MOMENTS,
    )
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums of several threads come in any order
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(_SHARE, 1)  # with a seed: places are jittered
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 200, 0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([1, 1])
    method.SetSmoothingSigmasPerLevel([4.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=False)
    transform = method.Execute(still, moved)

    def onto_fixed(volume: np.ndarray) -> np.ndarray:
        if np.shape(volume) != np.shape(moving):
            raise ValueError(
                f"Expected a volume on the grid of moving, {np.shape(moving)}, received {np.shape(volume)}."
            )
        image = _image(volume, moving_spacing)
        made = sitk.Resample(image, still, transform, sitk.sitkLinear, float("nan"), sitk.sitkFloat32)
        return sitk.GetArrayFromImage(made)

    return onto_fixed


def _image(array: np.ndarray, spacing: Sequence[float]):
    import SimpleITK as sitk

    y, x, z = map(float, spacing)
    image = sitk.GetImageFromArray(np.asarray(array, np.float32))
    image.SetSpacing((x, y, z))
    return image
