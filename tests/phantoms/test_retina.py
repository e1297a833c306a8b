import numpy as np
import pytest
from scipy import ndimage

from tfdisent.phantoms import retina

SIZE = 160
COLUMNS = slice(8, -8)


def render(vendor="spectralis", fluid=(), index=0, offset=0.0, size=SIZE, depth=retina.DEPTH):
    factors = retina.draw_factors(seed=3, index=index, fluid=fluid)
    return retina.render(factors, vendor, offset=offset, size=size, depth=depth, seed=3, index=index)


def column(factors, name):
    return factors[retina.FACTORS.index(name)]


def between(scan, top, bottom):
    """Pixels that lie well between two borders, (H, W)."""
    rows = np.arange(scan.image.shape[0])[:, None]
    return (rows > scan.boundaries[top] + 0.7) & (rows < scan.boundaries[bottom] - 0.7)


def layer(scan, name):
    k = retina.LAYERS.index(name)
    return between(scan, k, k + 1) & (scan.mask == 0)


def test_shapes_dtypes_and_ranges():
    scan = render(fluid=retina.FLUIDS, size=(200, SIZE))
    assert scan.image.shape == (200, SIZE) and scan.image.dtype == np.float32
    assert 0 <= scan.image.min() and scan.image.max() <= 1
    assert scan.mask.shape == (200, SIZE) and scan.mask.dtype == np.uint8
    assert scan.boundaries.shape == (len(retina.LAYERS) + 2, SIZE)
    assert scan.boundaries.dtype == np.float32
    assert retina.MASK_LABELS == ("background", "IRF", "SRF", "PED")


def test_same_arguments_give_the_same_bytes_and_another_eye_others():
    for one, two in zip(render(index=1), render(index=1), strict=True):
        assert one.tobytes() == two.tobytes()
    assert not np.array_equal(render(index=1).image, render(index=2).image)


def test_both_vendors_show_the_same_eye():
    for index in range(4):
        one, two = (render(name, retina.FLUIDS, index) for name in retina.VENDORS)
        assert np.array_equal(one.mask, two.mask)
        assert np.array_equal(one.boundaries, two.boundaries)
        smooth = [ndimage.gaussian_filter(scan.image, 2).ravel() for scan in (one, two)]
        assert np.corrcoef(smooth)[0, 1] > 0.9


def test_cirrus_is_noisier_and_its_vitreous_is_lighter():
    one, two = (render(name) for name in ("spectralis", "cirrus"))
    vitreous = np.arange(SIZE)[:, None] < one.boundaries[0] - 3
    assert two.image[vitreous].mean() > 2 * one.image[vitreous].mean()
    assert two.image[vitreous].std() > 1.5 * one.image[vitreous].std()
    choroid = np.arange(SIZE)[:, None] > one.boundaries[-1] + 4
    gaps = [s.image[choroid].mean() - s.image[vitreous].mean() for s in (one, two)]
    spread = [s.image[choroid].std() + s.image[vitreous].std() for s in (one, two)]
    assert gaps[0] / spread[0] > gaps[1] / spread[1]


def test_a_vendors_own_range_of_depth_shrinks_the_retina():
    common, own = render("cirrus"), render("cirrus", depth=None)
    ratio = (own.boundaries + 0.5) / (common.boundaries + 0.5)
    assert ratio == pytest.approx(retina.DEPTH / retina.VENDORS["cirrus"].depth, rel=1e-4)


def test_layers_are_in_order_and_as_thick_as_in_people():
    for index in range(6):
        scan = render(index=index, fluid=retina.FLUIDS)
        assert (np.diff(scan.boundaries, axis=0) > -0.01).all()
        healthy = render(index=index).boundaries * retina.DEPTH / SIZE
        total = healthy[len(retina.LAYERS)] - healthy[0]
        assert 0.14 < total.min() < 0.26 and 0.28 < total.max() < 0.48  # mm, fovea and beside it


def test_layers_have_their_brightness():
    scan = render(size=(400, SIZE))
    names = ("nerve_fibres", "inner_plexiform", "inner_nuclear", "outer_nuclear")
    grey = [scan.image[layer(scan, name)].mean() for name in names]
    assert grey == sorted(grey, reverse=True)
    epithelium = scan.image[layer(scan, "pigment_epithelium")].mean()
    assert epithelium > 0.6 > 0.3 > grey[-1]


def test_the_pit_is_where_the_fovea_is():
    for index in range(6):
        factors = retina.draw_factors(seed=3, index=index)
        scan = render(index=index)
        inner = scan.boundaries[4] - scan.boundaries[0]
        at = (inner.argmin() - (SIZE - 1) / 2) * retina.WIDTH / SIZE
        assert at == pytest.approx(column(factors, "fovea_x"), abs=0.1)


def test_a_scan_far_from_the_fovea_has_no_pit():
    near, far = (render(offset=offset).boundaries for offset in (0, 2.0))
    assert np.ptp((near[4] - near[0])[20:-20]) > 2 * np.ptp((far[4] - far[0])[20:-20])


def test_each_fluid_gives_its_own_label_and_no_other():
    for name in retina.FLUIDS:
        found = [set(np.unique(render(fluid=(name,), index=k).mask)) - {0} for k in range(5)]
        assert set().union(*found) == {retina.MASK_LABELS.index(name)}
    assert not render().mask.any()


def test_fluid_is_dark():
    for name in retina.FLUIDS:
        scan = render(fluid=(name,), index=2, size=(320, SIZE))
        inside = ndimage.binary_erosion(scan.mask == retina.MASK_LABELS.index(name))
        retinal = between(scan, 0, len(retina.LAYERS)) & (scan.mask == 0)
        assert inside.sum() > 10
        assert scan.image[inside].mean() < 0.5 * scan.image[retinal].mean()


def test_heights_of_srf_and_ped_are_those_of_the_factors():
    pixel = retina.DEPTH / 320
    for name, factor in (("SRF", "srf_height"), ("PED", "ped_height")):
        for index in range(4):
            scan = render(fluid=(name,), index=index, size=(320, SIZE))
            tallest = (scan.mask == retina.MASK_LABELS.index(name)).sum(0).max() * pixel
            truth = column(retina.draw_factors(seed=3, index=index), factor)
            assert tallest == pytest.approx(truth, rel=0.25)


def test_srf_lifts_the_retina_and_ped_the_epithelium_too():
    dry, srf, ped = (render(fluid=fluid).boundaries for fluid in ((), ("SRF",), ("PED",)))
    epithelium = len(retina.LAYERS) - 1
    assert np.allclose(srf[-1], dry[-1]) and np.allclose(ped[-1], dry[-1])
    assert np.allclose(srf[epithelium], dry[epithelium])
    assert (dry[0] - srf[0]).max() > 4
    assert (dry[epithelium] - ped[epithelium]).max() > 4
    assert np.allclose(dry[0] - ped[0], dry[epithelium] - ped[epithelium], atol=0.01)


def test_cysts_lie_within_the_retina_and_thicken_it():
    for index in range(4):
        scan, dry = render(fluid=("IRF",), index=index), render(index=index)
        rows, columns = np.nonzero(scan.mask == 1)
        assert len(rows) > 10
        assert (rows >= scan.boundaries[0][columns] - 1).all()
        assert (rows <= scan.boundaries[len(retina.LAYERS)][columns] + 1).all()
        assert (dry.boundaries[0] - scan.boundaries[0]).max() > 4


def test_vessels_cast_shadows_on_the_epithelium():
    factors = retina.draw_factors(seed=3, index=1)
    without = factors.copy()
    without[retina.FACTORS.index("vessels")] = 0
    one, two = (retina.render(f, size=SIZE, seed=3, index=1) for f in (factors, without))
    band = between(two, len(retina.LAYERS) - 4, len(retina.LAYERS))
    profiles = [np.where(band, s.image, 0).sum(0) / band.sum(0) for s in (one, two)]
    assert (profiles[0] / profiles[1]).min() < 0.75
    assert np.median(profiles[0] / profiles[1]) > 0.95


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: retina.draw_factors(seed=-1), "seed to be an integer >= 0, received -1"),
        (lambda: retina.draw_factors(fluid=("CME",)), "fluid to be one of IRF, SRF, PED"),
        (lambda: render("topcon"), "vendor to be one of spectralis, cirrus, received 'topcon'"),
        (lambda: render(offset=4), "offset from -3 to 3 mm, received 4"),
        (lambda: render(size=8), "size to be an integer >= 16, received 8"),
        (lambda: retina.render(np.zeros(3)), r"shape \(16,\)"),
    ],
)
def test_bad_arguments_are_refused_with_what_was_expected_and_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
