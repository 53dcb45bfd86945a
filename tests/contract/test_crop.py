"""The crop geometry: what part of a frame an emotion model sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.contract.crop import crop_face, cut_square, square_box

GRADIENT = np.broadcast_to(np.arange(120, dtype=np.uint8)[None, :, None], (90, 120, 3)).copy()


def test_the_square_is_centred_on_the_box_and_as_high_as_the_margin_says() -> None:
    assert square_box((10, 20, 30, 40), margin=1.0) == (5, 20, 40)
    assert square_box((10, 20, 30, 40), margin=0.5) == (15, 30, 20)


def test_a_square_inside_the_frame_is_a_view_of_it() -> None:
    cut = cut_square(GRADIENT, (5, 20, 40))
    assert np.shares_memory(cut, GRADIENT)
    np.testing.assert_array_equal(cut, GRADIENT[20:60, 5:45])


@given(left=st.integers(-300, 300), top=st.integers(-300, 300), side=st.integers(1, 250))
def test_a_square_over_the_edge_repeats_the_edge_pixels(left: int, top: int, side: int) -> None:
    rows = np.clip(np.arange(top, top + side), 0, 89)
    columns = np.clip(np.arange(left, left + side), 0, 119)
    np.testing.assert_array_equal(cut_square(GRADIENT, (left, top, side)), GRADIENT[rows][:, columns])


@pytest.mark.parametrize("side_px", [20, 48, 200])
@pytest.mark.parametrize("grey", [True, False])
def test_a_crop_fills_the_models_input_whatever_the_faces_size(side_px: int, grey: bool) -> None:
    image = np.full((240, 320, 3), (10, 200, 90), np.uint8)
    out = np.zeros((48, 48) if grey else (48, 48, 3), np.uint8)
    native = crop_face(image, (40.2, 20.7, side_px * 0.8, side_px), margin=1.0, size_px=48, out=out, grey=grey)
    assert native.shape[:2] == (side_px, side_px)
    expected = round(0.114 * 10 + 0.587 * 200 + 0.299 * 90) if grey else (10, 200, 90)
    assert np.all(out == np.asarray(expected, np.uint8))


def test_the_measured_box_of_a_data_set_crop_gives_the_crop_back() -> None:
    """DESIGN's medians: a YuNet box lies at x .093, y .009, w .805, h 1.01 of the crop that training takes whole."""
    left, top, side = 60, 30, 100
    box = (left + 0.093 * side, top + 0.009 * side, 0.805 * side, 1.01 * side)
    found = square_box(box, margin=0.99)
    assert np.abs(np.subtract(found, (left, top, side))).max() <= 2
