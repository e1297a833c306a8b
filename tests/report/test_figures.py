"""Grids put each pixel where it belongs; maps and curves survive few and odd data."""

import numpy as np
import pytest

from tfdisent.report import figures

RED, GREEN, BLUE, YELLOW = (230, 10, 20), (15, 240, 30), (25, 35, 250), (220, 225, 5)


def _flat(colour, size=4):
    return np.full((size, size, 3), colour, np.uint8)


def _where(picture, colour):
    """Returns (top, left, bottom, right) of the area of one colour, which has to be a full box."""
    rows, columns = np.nonzero((picture == colour).all(axis=-1))
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    assert len(rows) == (bottom - top) * (right - left)
    return top, left, bottom, right


def _distinct(*shape, size=4):
    """Returns flat images of as many greyish colours, none of them a colour of words or lines."""
    colours = np.arange(np.prod(shape), dtype=np.uint8)
    colours = np.stack([colours + 60, colours + 100, 255 - colours - 80], axis=-1)
    return np.broadcast_to(colours.reshape(*shape, 1, 1, 3), (*shape, size, size, 3)).copy()


def test_to_uint8_inverts_the_scaling_of_the_pipeline():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    scaled = levels.astype(np.float32) / 127.5 - 1
    assert (figures.to_uint8(scaled) == levels).all()
    assert (figures.to_uint8(levels) == levels).all()


def test_to_uint8_clips_and_takes_nan():
    assert figures.to_uint8(np.array([-3.0, 3.0, np.nan, np.inf])).tolist() == [0, 255, 0, 255]


def test_image_grid_places_every_pixel():
    images = np.stack([_flat(RED), _flat(GREEN), _flat(BLUE)])
    images[2, 0, 0] = YELLOW
    grid = figures.image_grid(images, columns=2, pad=3, upscale=2)
    assert grid.shape == (3 + 8 + 3 + 8 + 3, 3 + 8 + 3 + 8 + 3, 3)
    assert _where(grid, RED) == (3, 3, 11, 11)
    assert _where(grid, GREEN) == (3, 14, 11, 22)
    assert _where(grid, YELLOW) == (14, 3, 16, 5)  # one pixel, enlarged, at the top left
    assert (grid[14:22, 14:22] == 255).all()


def test_image_grid_of_one_row_is_as_wide_as_its_images():
    grid = figures.image_grid(_distinct(2), columns=8, pad=1, upscale=1)
    assert grid.shape == (6, 11, 3)


def test_grey_and_float_images_keep_their_levels():
    grey = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 4, 4, 1)
    grid = figures.image_grid(grey, pad=0, upscale=1)
    assert (grid == figures.to_uint8(grey[0])).all()


def test_small_images_are_enlarged_by_whole_numbers_to_about_128_pixels():
    assert figures.image_grid(np.zeros((1, 64, 64, 1)), pad=0).shape == (128, 128, 3)
    assert figures.image_grid(np.zeros((1, 28, 28, 1)), pad=0).shape == (140, 140, 3)
    assert figures.image_grid(np.zeros((1, 300, 300, 3)), pad=0).shape == (300, 300, 3)


def test_pixels_that_are_not_finite_are_magenta():
    image = np.zeros((1, 2, 2, 1))
    image[0, 0, 1] = np.nan
    grid = figures.image_grid(image, pad=0, upscale=1)
    assert grid[0, 1].tolist() == list(figures.BROKEN_PIXEL)
    assert grid[1, 1].tolist() == [128, 128, 128]


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (4, 4, 3), (1, 4, 4, 2)])
def test_image_grid_names_the_shape_that_it_cannot_draw(shape):
    with pytest.raises(ValueError, match="Expected images of shape"):
        figures.image_grid(np.zeros(shape))


def test_condition_grid_has_a_row_for_each_condition_after_the_real_image():
    samples, real = _distinct(2, 3), np.stack([_flat(RED), _flat(BLUE)])
    grid = figures.condition_grid(samples, ["bkl", "a name of many words, wrapped"], real)
    top_red, left_red, *_ = _where(grid, RED)
    top_blue, left_blue, *_ = _where(grid, BLUE)
    assert left_red == left_blue
    assert top_red < top_blue
    for row, top in enumerate((top_red, top_blue)):
        boxes = [_where(grid, samples[row, k, 0, 0]) for k in range(3)]
        assert [box[0] for box in boxes] == [top] * 3
        assert left_red < boxes[0][1] < boxes[1][1] < boxes[2][1]


def test_condition_grid_without_real_images_starts_with_the_samples():
    samples = _distinct(1, 2)
    grid = figures.condition_grid(samples, ["nv"])
    assert _where(grid, samples[0, 0, 0, 0])[1] < _where(grid, samples[0, 1, 0, 0])[1]


def test_condition_grid_wants_a_name_for_each_row():
    with pytest.raises(ValueError, match="a name for each of 2 rows"):
        figures.condition_grid(_distinct(2, 2), ["one"])


def test_hybrid_grid_puts_content_left_style_on_top_and_leaves_the_corner_blank():
    content, style = np.stack([_flat(RED), _flat(GREEN)]), _flat(BLUE)[None]
    hybrids = _distinct(2, 1)
    grid = figures.hybrid_grid(content, style, hybrids, upscale=5)
    red, green, blue = _where(grid, RED), _where(grid, GREEN), _where(grid, BLUE)
    assert red[1] == green[1] < blue[1]
    assert blue[0] < red[0] < green[0]
    for row, source in enumerate((red, green)):
        hybrid = _where(grid, hybrids[row, 0, 0, 0])
        assert (hybrid[0], hybrid[1]) == (source[0], blue[1])
        assert hybrid[2] - hybrid[0] == 20
    assert (grid[blue[0] : blue[2], red[1] : red[3]] == 255).all()


def test_hybrid_grid_wants_one_hybrid_for_each_pair():
    with pytest.raises(ValueError, match="2 content and 1 style"):
        figures.hybrid_grid(_distinct(2), _distinct(1), _distinct(1, 2))


def test_interpolation_grid_walks_from_left_to_right_in_three_rows():
    walks = _distinct(3, 1, 4)
    source, target = _flat(RED)[None], _flat(BLUE)[None]
    grid = figures.interpolation_grid(*walks, source, target)
    tops = [_where(grid, walks[r, 0, 0, 0, 0])[0] for r in range(3)]
    assert tops == sorted(set(tops))
    for row in range(3):
        lefts = [_where(grid, walks[row, 0, step, 0, 0])[1] for step in range(4)]
        assert lefts == sorted(set(lefts))
    reds, blues = (np.nonzero((grid == colour).all(-1))[1] for colour in (RED, BLUE))
    assert reds.max() < lefts[0] < lefts[3] < blues.min()


def test_interpolation_grid_without_its_ends():
    walks = _distinct(3, 2, 2)
    grid = figures.interpolation_grid(*walks)
    first, second = (_where(grid, walks[0, pair, 0, 0, 0]) for pair in range(2))
    assert first[0] < second[0]
    assert first[1] == second[1]


def test_interpolation_grid_names_the_walk_that_differs():
    with pytest.raises(ValueError, match="Expected both of shape"):
        figures.interpolation_grid(_distinct(1, 2), _distinct(1, 2), _distinct(1, 3))


def test_label_maps_have_the_palettes_colours_alone_or_over_images_whose_background_shows():
    labels = np.array([[[0, 1], [2, 0]]])
    alone = figures.to_uint8(figures.label_colours(labels))[0]
    assert alone[0, 0].tolist() == alone[1, 1].tolist() == [0, 0, 0]
    assert [f"#{bytes(colour.tolist()).hex()}" for colour in (alone[0, 1], alone[1, 0])] == list(figures.PALETTE[:2])
    image = np.array([[[0.5, 0.5], [-1, -1]]])
    over = figures.label_colours(labels, image)[0]
    assert over[0, 0].tolist() == [0.5] * 3 and over[1, 1].tolist() == [-1] * 3
    np.testing.assert_allclose(over[0, 1], 0.2 + 0.6 * figures.label_colours(labels)[0, 0, 1])
    many = figures.label_colours(np.array([[[0, 9]]]))[0, 0, 1]
    np.testing.assert_array_equal(many, figures.label_colours(np.array([[[0, 1]]]))[0, 0, 1])
    assert figures.label_legend(["csf", "grey"]) == "csf blue, grey vermilion"


def test_retrieval_grid_has_style_to_the_right_and_content_below():
    by_style, by_content = np.split(_distinct(1, 4), 2, axis=1)
    grid = figures.retrieval_grid(_flat(RED)[None], by_style, by_content)
    top, left, *_ = _where(grid, RED)
    style = [_where(grid, by_style[0, k, 0, 0])[:2] for k in range(2)]
    content = [_where(grid, by_content[0, k, 0, 0])[:2] for k in range(2)]
    assert [place[0] for place in style] == [top, top]
    assert left < style[0][1] < style[1][1]
    assert [place[1] for place in content] == [left, left]
    assert top < content[0][0] < content[1][0]


def test_pairs_grid_puts_each_image_beside_its_partner_and_pairs_in_rows():
    left, right = _distinct(2, 3)
    grid = figures.pairs_grid(left, right, columns=2, pad=3, upscale=2)
    boxes = [[_where(grid, image[0, 0]) for image in pair] for pair in zip(left, right, strict=True)]
    for one, other in boxes:
        assert (one[0], one[2]) == (other[0], other[2])
        assert other[1] - one[3] == 3  # nearer to each other than to the next pair
        assert one[2] - one[0] == 8
    assert boxes[0][0][0] == boxes[1][0][0] < boxes[2][0][0]
    assert boxes[1][0][1] - boxes[0][1][3] > 3
    assert boxes[0][0][1] == boxes[2][0][1]


def test_pairs_grid_writes_captions_over_their_pairs_on_one_level():
    left, right = np.split(_distinct(2, 3, size=64), 2)
    captions = ["0.1", "a long caption, gypsum, folded", ""]
    grid = figures.pairs_grid(left[0], right[0], captions, columns=3)
    boxes = [_where(grid, image[0, 0]) for image in left[0]]
    ends = [_where(grid, image[0, 0])[3] for image in right[0]]
    assert len({box[0] for box in boxes}) == 1
    above = (grid[: boxes[0][0]] != 255).any(axis=-1)
    ink = [above[:, box[1] : end].sum() for box, end in zip(boxes, ends, strict=True)]
    assert ink[1] > ink[0] > ink[2] == 0
    assert above.sum() == sum(ink)  # nothing is cut off at the sides or runs into a neighbour


def test_names_of_a_pair_stand_side_by_side_and_its_caption_below_the_left_one():
    images = np.stack([np.full((64, 64, 1), -1.0)] * 2)
    grid = figures.pairs_grid(images, images, ["H", "H"], names=("H", "H"), columns=1, upscale=1)
    rows, columns = _black_of(grid, 0, 0)
    left, right = (
        np.flatnonzero((grid[: rows.start, across] < 128).all(axis=-1).any(axis=-1))
        for across in (columns, _black_of(grid, 0, 1)[1])
    )
    assert left[0] == right[0] and left[-1] > right[-1]
    assert len(left) == 2 * len(right)  # a line of the same letter twice


def test_pairs_grid_names_what_does_not_pair_up():
    with pytest.raises(ValueError, match="Expected right of shape"):
        figures.pairs_grid(_distinct(2), _distinct(3))
    with pytest.raises(ValueError, match="a caption for each of 2 pairs"):
        figures.pairs_grid(_distinct(2), _distinct(2), ["one"])


def test_columns_grid_has_a_row_for_each_image_and_a_heading_over_each_group():
    first = np.stack([_flat(RED), _flat(GREEN)])
    others = np.stack([[_flat(GREEN), _flat(BLUE)], [_flat(BLUE), _flat(RED)]])
    grid = figures.columns_grid({"query": first, "found": others}, upscale=1)
    rows = [row for row in grid if (row == RED).all(axis=-1).any()]
    # Red: the first column of the first row, the last column of the second.
    assert (rows[0] == RED).all(axis=-1).argmax() < (rows[-1] == RED).all(axis=-1).argmax()
    with pytest.raises(ValueError, match="found"):
        figures.columns_grid({"query": first, "found": others[:1]})


def test_headings_that_are_wider_than_their_columns_take_more_lines_and_do_not_meet():
    images = np.stack([np.full((64, 64, 1), -1.0)] * 2)
    short, long = (
        figures.columns_grid({"a": images, name: images, "c": images}, upscale=1)
        for name in ("b", "shown as scanner a")
    )
    assert long.shape[1] == short.shape[1] and long.shape[0] > short.shape[0]
    rows, columns = _black_of(long, 0, 1)
    heading = long[: rows.start]
    beside = np.r_[columns.start - 4 : columns.start, columns.stop : columns.stop + 2]
    assert (heading[:, columns] < 255).any() and (heading[:, beside] == 255).all()


def test_columns_grid_names_rows_and_marks_both_ends_of_each_image():
    images = np.stack([np.full((64, 64, 1), -1.0)] * 2)
    plain = figures.columns_grid({"a": images, "b": images}, upscale=1)
    named = figures.columns_grid({"a": images, "b": images}, names=["real", "from T1"], upscale=1)
    assert named.shape[0] == plain.shape[0] and named.shape[1] > plain.shape[1] + 20
    marked = figures.columns_grid({"a": images, "b": images}, ends=("R", "L"), upscale=1)
    changed = (marked != plain).any(axis=-1)
    for top in (0, 1):
        for column in (0, 1):
            rows, columns = _black_of(plain, top, column)
            cell = changed[rows, columns]
            assert cell[:20, :20].any() and cell[:20, -20:].any()
            assert not cell[24:].any() and not cell[:, 24:-24].any()
    assert not changed[(plain == 255).all(axis=-1)].any()  # nothing is written outside of the images
    with pytest.raises(ValueError, match="a name for each of 2 rows, received \\['one'\\]"):
        figures.columns_grid({"a": images}, names=["one"])


def _black_of(grid, row, column):
    """Where the black image of 64 x 64 in this row and column lies."""
    black = (grid == 0).all(axis=-1)
    tops = np.flatnonzero(np.diff((black.sum(axis=1) > 64).astype(int), prepend=0) == 1)
    lefts = np.flatnonzero(np.diff((black.sum(axis=0) > 64).astype(int), prepend=0) == 1)
    return slice(tops[row], tops[row] + 64), slice(lefts[column], lefts[column] + 64)


def test_what_is_missing_is_not_black_nor_of_one_shade():
    picture = figures.missing(32, 48)
    assert picture.shape == (32, 48, 1)
    assert picture.min() > -0.5 and len(np.unique(picture)) == 2


def test_errors_have_colours_whose_scale_stands_beside_them():
    error = np.array([0.0, 0.25, 0.5, 0.9]).reshape(1, 4, 1)
    colours = figures.error_colours(error, 0.5)
    lightness = colours.astype(float).mean(axis=-1)[0]
    assert colours.dtype == np.uint8 and colours.shape == (1, 4, 3)
    assert lightness[0] < 5 and lightness[0] < lightness[1] < lightness[2] == lightness[3]
    picture = np.full((200, 100, 3), 7, np.uint8)
    whole = figures.with_colour_bar(picture, "share", 0.5)
    np.testing.assert_array_equal(whole[:, :100], picture)
    bar = whole[:, 100:].reshape(-1, 3)
    for value in (0.0, 0.25, 0.5):
        nearest = np.abs(bar.astype(int) - figures.error_colours(np.full((1, 1), value), 0.5)[0]).sum(axis=1).min()
        assert nearest <= 9, value


def test_pairs_may_say_which_of_them_is_which():
    left, right = np.split(_distinct(2, 3, size=64), 2)
    plain = figures.pairs_grid(left[0], right[0], ["0.1"] * 3, columns=3)
    named = figures.pairs_grid(left[0], right[0], ["0.1"] * 3, names=("generated", "training"), columns=3)
    above = (named != 255).any(axis=-1)
    for one, other in zip(left[0], right[0], strict=True):
        for image in (one, other):
            top, start, _, end = _where(named, image[0, 0])
            assert above[:top, start:end].sum() > 20
    assert len(named) > len(plain)


def test_tsne_figure_is_the_same_each_time_and_separates_far_groups():
    labels = np.repeat([0, 1], 12)
    codes = np.random.default_rng(0).normal(size=(24, 5)) + 100 * labels[:, None]
    images = np.zeros((24, 4, 4, 1), np.float32)
    images[:, :2] = 1
    first = figures.tsne_figure(codes, codes[:, :2], labels, ["a", "b"], images, seed=3)
    again = figures.tsne_figure(codes, codes[:, :2], labels, ["a", "b"], images, seed=3)
    assert first.dtype == np.uint8
    assert first.shape[-1] == 3
    assert (first == again).all()


def test_thumbnails_stand_upright_at_their_points():
    figure = figures._figure(4, 4)
    ax = figure.subplots()
    image = np.stack([np.concatenate([_flat(RED, 8)[:4], _flat(BLUE, 8)[:4]])])
    figures._thumbnails(ax, np.array([[0.1, 0.9]]), image, np.array([0]))
    ax.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
    picture = figures._drawn(figure)
    red, blue = (np.argwhere((picture == colour).all(-1)).mean(axis=0) for colour in (RED, BLUE))
    height, width = picture.shape[:2]
    assert red[0] < blue[0] < 0.2 * height  # the upper half above, both near the top left
    assert red[1] < 0.2 * width


@pytest.mark.parametrize("codes", [np.zeros((6, 3)), np.arange(6.0)[:, None]], ids=["collapsed", "one-dimensional"])
def test_tsne_figure_draws_codes_without_two_directions(codes):
    figure = figures.tsne_figure(codes, codes, np.zeros(6, int), ["all"], max_points=5)
    assert figure.ndim == 3


def test_tsne_figure_says_what_is_wrong_with_its_input():
    codes, labels = np.ones((5, 2)), np.zeros(5, int)
    with pytest.raises(ValueError, match="at least 4"):
        figures.tsne_figure(codes[:3], codes[:3], labels[:3], ["a"])
    with pytest.raises(ValueError, match="labels from 0 to 0"):
        figures.tsne_figure(codes, codes, labels + 1, ["a"])
    with pytest.raises(ValueError, match="finite style_codes"):
        figures.tsne_figure(codes, codes * np.nan, labels, ["a"])


def test_read_curves_keeps_the_later_row_of_a_step_and_survives_a_cut_line(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,d_image,g_image\n10,1,2\n30,5,6\n20,3,\n30,7,8\n40,9")
    steps, curves = figures.read_curves(path)
    assert steps.tolist() == [10, 20, 30, 40]
    assert curves["d_image"].tolist() == [1, 3, 7, 9]
    np.testing.assert_equal(curves["g_image"], [2, np.nan, 8, np.nan])


def test_read_curves_wants_steps(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss\n1,2\n")
    with pytest.raises(ValueError, match=r"metrics.csv: expected a column 'step'.*epoch"):
        figures.read_curves(path)


def test_loss_curves_of_a_single_row_shows_a_mark(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,g_image\n10,0.5\n")
    picture = figures.loss_curves(path)
    line = np.array([0, 0x72, 0xB2])
    panel = picture[picture.shape[0] // 3 :, : picture.shape[1] // 4]
    assert (panel == line).all(axis=-1).sum() > 20


def test_loss_curves_takes_gaps_and_groups(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,d_image,g_image,never\n1,1,nan,\n2,inf,3,\n3,2,3,\n")
    assert figures.loss_curves(path).ndim == 3
    assert figures.loss_curves(path, {"One": ["g_image"]}).ndim == 3
    with pytest.raises(ValueError, match="received \\['never'\\]"):
        figures.loss_curves(path, {"One": ["never"]})


def test_loss_curves_without_rows_is_an_error_with_the_file_name(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,g_image\n")
    with pytest.raises(ValueError, match="metrics.csv: expected at least one row"):
        figures.loss_curves(path)


def test_moving_average_of_a_line_is_the_line_inside():
    values = np.arange(9.0)
    smooth = figures._moving_average(values, 2)
    np.testing.assert_allclose(smooth[2:-2], values[2:-2])
    np.testing.assert_allclose(smooth[[0, -1]], [1, 7])


def test_a_matrix_is_darker_where_the_value_is_higher_and_refuses_other_numbers_of_names():
    picture = figures.matrix([[1.0, 0.0], [-3.0, np.nan]], ["a", "b"], ["one", "two"])
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
    shaded = (blue - red > 60) & (blue > 150)
    top, left = np.argwhere(shaded).min(axis=0)
    bottom, right = np.argwhere(shaded).max(axis=0)
    # Of four cells the one at the top left alone: the only value above 0.
    assert bottom < 0.7 * len(picture) and right < 0.7 * picture.shape[1]
    assert shaded.sum() > 0.9 * (bottom - top) * (right - left)
    with pytest.raises(ValueError, match=r"\(2, 1\)"):
        figures.matrix(np.zeros((2, 2)), ["a", "b"], ["one"])
