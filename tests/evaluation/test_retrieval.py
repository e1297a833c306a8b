import keras
import numpy as np
import pytest

from tfdisent.evaluation import retrieval
from tfdisent.examples import Examples

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="arrays only: one backend is enough")


def arrays(num, seed=0, **more):
    """Images whose every pixel is their class, or nearly."""
    label = np.arange(num) % 3
    noise = np.random.default_rng(seed).normal(0, 0.01, (num, 8, 8, 1))
    return {
        "image": (label[:, None, None, None] - 1 + noise).astype("float32"),
        "label": label,
        "condition": np.eye(3)[label],
        **more,
    }


def shown_class(images):
    """The class that images show, and their noise as style."""
    value = np.asarray(images)[:, 0, 0, 0]
    style = np.asarray(images).reshape(len(images), -1)[:, 1:5] - np.rint(value)[:, None]
    return {"content": np.eye(3)[np.rint(value).astype(int) + 1], "style": style}


@pytest.fixture
def searched():
    search = retrieval.search_of(Examples.of(arrays(60)), Examples.of(arrays(30, 1)))
    return search, retrieval.nearest_images(search, shown_class)


def test_content_that_is_the_class_finds_it_always_and_style_that_is_noise_by_chance(searched):
    metrics = retrieval.retrieval_metrics(*searched)
    assert metrics["disagreement_divergence"]["value"] == 0
    assert metrics["label_overlap"]["value"] == 100
    assert metrics["label_overlap_pixels"]["value"] == 100  # the class is what pixels show
    assert metrics["disagreement_divergence_style"]["value"] > 0.2
    assert metrics["label_overlap_style"]["value"] < 95
    assert all(entry["n"] == 30 for entry in metrics.values())


def test_without_a_query_split_one_half_searches_the_other():
    search = retrieval.search_of(Examples.of(arrays(61)), None)
    assert (search.query_rows.tolist(), search.database_rows.tolist()) == (list(range(0, 61, 2)), list(range(1, 61, 2)))
    assert "half" in search.source
    assert "empty" in retrieval.search_of(Examples.of(arrays(61)), Examples.of(arrays(0))).source


def test_what_cannot_be_searched_says_why_instead_of_a_number():
    search = retrieval.search_of(Examples.of(arrays(2)), Examples.of(arrays(1)))
    assert retrieval.nearest_images(search, shown_class) == {}
    metrics = retrieval.retrieval_metrics(search, {})
    assert metrics["label_overlap"]["value"] is None
    assert "2 images to search; it takes 1 and 3" in metrics["label_overlap"]["reason"]
    assert retrieval.retrieval_figures(search, {}) == []


def test_a_model_of_style_alone_is_searched_by_it():
    search = retrieval.search_of(Examples.of(arrays(60)), None)
    found = retrieval.nearest_images(search, lambda images: {"style": shown_class(images)["content"]})
    metrics = retrieval.retrieval_metrics(search, found)
    assert metrics["label_overlap"]["value"] == 100
    assert "style" in metrics["label_overlap"]["protocol"]
    assert "label_overlap_style" not in metrics
    assert len(retrieval.retrieval_figures(search, found)) == 2


def test_attributes_are_the_condition_and_the_size_in_millimetres_or_in_pixels_of_the_mask():
    def of_six(**more):
        return retrieval.attributes(Examples.of(arrays(6, **more)), np.arange(6))

    mask = np.zeros((6, 8, 8, 1), np.uint8)
    mask[:, :4, :4] = 1
    values, what = of_six(mask=mask)
    assert values.shape == (6, 4) and "pixels" in what
    np.testing.assert_allclose(values[:, 3], np.sqrt(16 * 4 / np.pi))
    values, what = of_six(mask=mask, diameter=np.full((6, 1), 7.5))
    assert what.endswith("mm") and (values[:, 3] == 7.5).all()
    values, what = of_six()
    assert what == "condition" and values.shape == (6, 3)


def test_the_target_has_the_attributes_that_differ_least():
    part = arrays(9, diameter=np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9]))
    query = arrays(9, diameter=np.array([1.4, 2, 3, 4, 5, 6, 7, 8, 9.0]))
    search = retrieval.search_of(Examples.of(part), Examples.of(query))
    assert retrieval.target_images(search).tolist() == list(range(9))


def test_one_query_of_each_label_is_shown(searched):
    first, second = retrieval.retrieval_figures(*searched)
    assert first.name == second.name == "Retrieval"
    assert first.image.dtype == second.image.dtype == np.uint8
