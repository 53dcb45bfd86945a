"""Resize, grey, the integer shift and the letterbox."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.contract.preprocess import fit_letterbox, resize, to_grey, to_int8
from edge.contract.scores import dequantize, softmax


def test_resizing_to_the_same_size_copies_nothing() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    assert resize(image, (6, 4)) is image


def test_resize_writes_into_a_view_of_a_larger_canvas() -> None:
    canvas = np.zeros((100, 100, 3), np.uint8)
    for shape in [(200, 300, 3), (20, 30, 3), (40, 60, 3)]:
        canvas[:] = 0
        resize(np.full(shape, 77, np.uint8), (60, 40), out=canvas[:40, :60])
        assert np.all(canvas[:40, :60] == 77)
        assert not canvas[40:].any()
        assert not canvas[:, 60:].any()


def test_shrinking_averages_and_enlarging_interpolates() -> None:
    checker = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.ptp(resize(checker, (16, 16))) <= 1
    ramp = resize(np.array([[0, 200]], np.uint8), (8, 1))[0]
    assert np.all(np.diff(ramp.astype(int)) >= 0)
    assert len(set(ramp.tolist())) > 3


def test_grey_is_bt601_luma_of_bgr() -> None:
    blue_green_red = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert to_grey(blue_green_red).tolist() == [[29, 150, 76]]


def test_the_integer_shift_subtracts_128_from_every_pixel() -> None:
    pixels = np.arange(256, dtype=np.uint8)
    shifted = np.zeros(256, np.int8)
    to_int8(pixels, shifted)
    np.testing.assert_array_equal(shifted, pixels.astype(int) - 128)


@given(w=st.integers(1, 5000), h=st.integers(1, 5000), canvas=st.sampled_from([(320, 256), (640, 480), (640, 384)]))
def test_a_letterbox_fits_touches_one_side_and_keeps_the_aspect(w: int, h: int, canvas: tuple[int, int]) -> None:
    box = fit_letterbox((w, h), canvas)
    assert 1 <= box.size_wh[0] <= canvas[0]
    assert 1 <= box.size_wh[1] <= canvas[1]
    assert box.size_wh[0] == canvas[0] or box.size_wh[1] == canvas[1]
    exact = min(canvas[0] / w, canvas[1] / h)
    assert abs(box.size_wh[0] - w * exact) <= 1
    assert abs(box.size_wh[1] - h * exact) <= 1


def test_softmax_sums_to_one_and_survives_large_logits() -> None:
    scores = softmax(np.array([[1000.0, 999.0, -1000.0], [0.0, 0.0, 0.0]], np.float32))
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(scores[0, 0], 1 / (1 + np.exp(-1)), rtol=1e-5)
    assert scores.dtype == np.float32


def test_a_higher_temperature_flattens_the_scores_and_keeps_their_order() -> None:
    logits = np.array([3.0, 1.0, 0.0], np.float32)
    cold, warm = softmax(logits), softmax(logits, temperature=3.0)
    assert warm[0] < cold[0]
    assert warm.argsort().tolist() == cold.argsort().tolist()


def test_dequantize_undoes_scale_and_zero_point() -> None:
    raw = np.array([-128, 0, 127], np.int8)
    np.testing.assert_allclose(dequantize(raw, scale=0.5, zero_point=-10), [-59.0, 5.0, 68.5])
