import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxscore.launch import plots

GRID = np.stack(np.meshgrid(*2 * [np.linspace(-2, 2, 5)]), axis=-1).reshape(-1, 2)
HISTORY = [
    {"step": 5, "loss": None},  # all of its steps were skipped
    {"step": 10, "loss": 2.0, "loss_by_sigma": [3.0, None, 1.0], "sigma_edges": [0.1, 1.0]},
    {"step": 20, "loss": 1.0, "loss_by_sigma": [2.0, 0.5, 0.9], "sigma_edges": [0.1, 1.0]},
]

DRAWINGS = {
    "points": lambda axes: plots.points(axes, GRID, "points"),
    "fields": lambda axes: plots.fields(axes, GRID, -GRID, -0.9 * GRID, "fields"),
    "loss_by_sigma": lambda axes: plots.loss(axes, HISTORY),
    "loss": lambda axes: plots.loss(axes, [{"step": 10 * k, "loss": 1 / k} for k in (1, 2)]),
    "curves": lambda axes: plots.examples(axes, GRID.reshape(5, 5, 2), "curves"),
    "pairs": lambda axes: plots.pairs(axes, *np.random.default_rng(0).random((2, 3, 4, 4, 1)), columns=2),
    "images": lambda axes: plots.images(axes, np.random.default_rng(0).random((6, 4, 4, 1)), rows=2),
}


def drawn(draw):
    """The axes, with what is drawn on them."""
    axes = Figure().subplots()
    draw(axes)
    return axes


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_function_draws_into_a_png(tmp_path, name):
    path = tmp_path / f"{name}.png"
    with plots.page(path, columns=1, size=3.0) as (axes,):
        DRAWINGS[name](axes)
    assert path.read_bytes().startswith(b"\x89PNG")
    pixels = matplotlib.image.imread(path)
    assert np.all(pixels[0, 0] == 1)  # the page is white
    inside = pixels[60:-60, 60:-60, :3]  # without title, ticks and labels at the edges
    # A blank page would have none; the sparsest drawing, 25 small points, fills 0.5 %.
    assert np.mean(np.any(inside != 1, axis=-1)) > 0.003
    assert len(np.unique(inside.reshape(-1, 3), axis=0)) > 3


def test_a_page_has_its_axes_row_by_row_in_the_size_asked_for(tmp_path):
    with plots.page(tmp_path / "page.png", columns=3, rows=2, size=2.0, height=1.0) as axes:
        assert len(axes) == 6
        top = [a.get_subplotspec().rowspan.start for a in axes]
    assert top == [0, 0, 0, 1, 1, 1]
    height, width, _ = matplotlib.image.imread(tmp_path / "page.png").shape
    assert (width, height) == (3 * 2 * 110, 2 * 110)


def test_points_are_where_they_are():
    axes = drawn(DRAWINGS["points"])
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), GRID)
    assert axes.get_title() == "points"


def test_fields_share_one_scale():
    exact, learned = drawn(DRAWINGS["fields"]).collections
    np.testing.assert_array_equal(np.stack([exact.U, exact.V], axis=1), -0.9 * GRID)
    np.testing.assert_array_equal(np.stack([learned.U, learned.V], axis=1), -GRID)
    assert exact.scale == learned.scale > 0


def test_the_curves_are_the_losses_and_an_empty_bin_is_a_gap():
    axes = drawn(DRAWINGS["loss_by_sigma"])
    curves = [line.get_xydata() for line in axes.lines]
    expected = [[[10, 3], [20, 2]], [[10, np.nan], [20, 0.5]], [[10, 1], [20, 0.9]]]
    np.testing.assert_array_equal(curves, expected)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["0 < σ ≤ 0.1", "0.1 < σ ≤ 1", "σ > 1"]


def image(draw):
    """The only image that is drawn."""
    (shown,) = drawn(draw).images
    return np.asarray(shown.get_array())


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_laid_out_row_by_row(channels):
    x = np.arange(7.0).reshape(7, 1, 1, 1) / 7 * np.ones((7, 3, 4, channels))
    tiled = image(lambda axes: plots.images(axes, x, rows=2)).reshape(2 * 4 - 1, 4 * 5 - 1, channels)
    for number in range(7):
        row, column = divmod(number, 4)
        tile = tiled[4 * row : 4 * row + 3, 5 * column : 5 * column + 4]
        np.testing.assert_array_equal(tile, x[number])


def test_four_channels_are_colours_and_the_title_says_so():
    x = np.random.default_rng(0).random((1, 2, 3, 4))
    axes = drawn(lambda axes: plots.images(axes, x, rows=1, title="x"))
    np.testing.assert_array_equal(np.asarray(axes.images[0].get_array())[:2, :3], x[0, ..., :3])
    assert axes.get_title() == "x\n(the first three of 4 channels, as colours)"


@pytest.mark.parametrize(
    ("channels", "rows", "columns", "said"),
    [(2, 1, 2, "2 channels"), (5, 2, 3, "5 channels"), (12, 3, 3, "first 9 of 12 channels")],
)
def test_other_channels_stand_side_by_side_in_grey(channels, rows, columns, said):
    x = np.random.default_rng(0).random((2, 4, 3, channels))
    shown, note = plots.visible(x)
    assert shown.shape == (2, 4 * rows, 3 * columns, 1)
    assert note == f"(the {said} of each image, in grey)"
    for channel in range(rows * columns):
        down, right = divmod(channel, columns)
        tile = shown[:, 4 * down : 4 * down + 4, 3 * right : 3 * right + 3, 0]
        expected = x[..., channel] if channel < channels else 0.5
        np.testing.assert_array_equal(tile, np.broadcast_to(expected, tile.shape))


def test_rows_have_their_names_at_their_middle():
    axes = drawn(lambda axes: plots.images(axes, np.ones((4, 4, 4, 1)), rows=2, names=["3", "7"]))
    assert [text.get_text() for text in axes.get_yticklabels()] == ["3", "7"]
    assert axes.get_yticks().tolist() == [2, 7]


def test_lines_of_few_steps_are_joined_in_the_curve():
    """A run of 10 steps a line was interrupted at step 23. The mean counts steps; the end is left out."""
    losses = {10: 4.0, 20: 3.0, 23: 9.0, 30: 2.0, 40: 1.0, 41: 8.0}
    axes = drawn(lambda axes: plots.loss(axes, [{"step": s, "loss": v} for s, v in losses.items()]))
    expected = [[10, 4], [20, 3], [30, (3 * 9 + 7 * 2) / 10], [40, 1]]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), expected)


def test_pixels_beyond_0_and_1_are_clipped():
    x = np.linspace(-1, 2, 16).reshape(4, 2, 2, 1)
    pixels = image(lambda axes: plots.images(axes, x, rows=2))
    assert (pixels.min(), pixels.max()) == (0, 1)


def test_fewer_images_than_rows_are_drawn():
    pixels = image(lambda axes: plots.images(axes, np.ones((3, 4, 4, 1)), rows=10))
    assert np.sum(pixels == 1) == 3 * 16


@pytest.mark.parametrize(("n", "rows"), [(5, 4), (3, 2)])
def test_pairs_stand_one_above_the_other(n, rows):
    above, below = np.zeros((n, 2, 2, 1)), np.ones((n, 2, 2, 1))
    shown = image(lambda axes: plots.pairs(axes, above, below, columns=3))
    expected = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0.5], [1, 1, 0.5]])[:rows]
    # Images are 2 wide, and 1 is between them.
    np.testing.assert_array_equal(shown[::3, ::3], expected, strict=True)


@pytest.mark.parametrize(
    ("shape", "kinds"), [((70, 4, 4, 1), [1, 0, 0]), ((9, 2), [0, 1, 0]), ((9, 3), [0, 0, 9])]
)
def test_examples_are_drawn_by_their_shape(shape, kinds):
    """Examples are one picture, one cloud of points, or a line each."""
    axes = drawn(lambda axes: plots.examples(axes, np.random.default_rng(0).random(shape), "title"))
    assert [len(axes.images), len(axes.collections), len(axes.lines)] == kinds
