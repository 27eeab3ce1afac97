import matplotlib
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ristune.nearfield.picture import SHAPE, scene_map
from tests.nearfield.conftest import GEOMETRY, VIEW


@pytest.fixture
def clear(drawn):
    """The scene of one source that stands out most."""
    batch = drawn.batch
    row = int((batch["snr_db"] - 100 * (batch["num_sources"] > 1)).argmax())
    return {name: values[row] for name, values in batch.items()}


def test_a_scene_is_drawn_with_its_sources_marked(task, clear):
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    task.draw_sample(clear, axes)
    figure.canvas.draw()
    assert "K = 1, SNR" in axes.get_title() and f"{clear['range'][0]:.1f} m" in axes.get_title()
    (marks,) = [c for c in axes.collections if isinstance(c, matplotlib.collections.PathCollection)]
    u = torch.sin(clear["azimuth"][0]) * torch.cos(clear["elevation"][0])
    assert marks.get_offsets()[0].tolist() == pytest.approx([u.item(), clear["elevation"][0].sin().item()])


def test_the_brightest_place_of_the_map_is_the_source(task, clear):
    batch = {name: values.unsqueeze(0) for name, values in clear.items()}
    power = scene_map(batch, task.codes(batch), GEOMETRY, VIEW.limits())
    _, v, u = (torch.linspace(low, high, n) for (low, high), n in zip(VIEW.limits(), SHAPE, strict=True))
    row, column = divmod(int(power.argmax()), SHAPE[2])
    true = clear["elevation"][0].sin(), clear["azimuth"][0].sin() * clear["elevation"][0].cos()
    assert (v[row].item(), u[column].item()) == pytest.approx([part.item() for part in true], abs=0.05)
