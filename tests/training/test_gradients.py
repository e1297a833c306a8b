import keras
import pytest

from tfdisent.training.gradients import norm, require_gradients


def variables(*names):
    return [keras.Variable(0.0, name=name) for name in names]


def test_gradients_come_back_as_a_list_in_order():
    assert require_gradients((1.0, 2.0), variables("a", "b")) == [1.0, 2.0]


def test_every_variable_without_a_gradient_is_named_and_no_other():
    with pytest.raises(ValueError, match="does not depend on first, third. Leave that network out"):
        require_gradients([None, 1.0, None], variables("first", "second", "third"))


def test_a_gradient_of_zero_is_a_gradient():
    assert require_gradients([0.0], variables("a")) == [0.0]


def test_a_gradient_too_few_is_an_error():
    with pytest.raises(ValueError):
        require_gradients([1.0], variables("a", "b"))


def test_the_norm_is_of_all_gradients_together_and_what_is_missing_counts_as_zeros():
    gradients = [keras.ops.convert_to_tensor([[3.0], [0.0]]), None, keras.ops.convert_to_tensor([-4.0])]
    assert float(norm(gradients)) == pytest.approx(5.0)
    assert float(norm([None])) == float(norm([])) == 0.0
