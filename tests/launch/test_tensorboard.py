"""What is written as TensorBoard's events comes back from them."""

import numpy as np
import pytest
from PIL import Image

from jaxscore.launch.tensorboard import MOST_NUMBERS, Events


def read(folder):
    """The values of all events: a record is a length, a checksum, the event, and a checksum."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            n = int.from_bytes(content[:8], "little")
            event = event_pb2.Event.FromString(content[12 : 12 + n])
            found += [(event.step, value) for value in event.summary.value]
            content = content[16 + n :]
    return found


def test_rows_pictures_and_histograms_are_events(tmp_path):
    pytest.importorskip("tensorboardX")
    Image.fromarray(np.full((3, 5, 3), 77, np.uint8)).save(tmp_path / "a.png")
    events = Events(tmp_path / "events")
    events.row({"step": 4, "loss": 0.5, "loss_by_sigma": [1.0, None, 3.0], "sigma_edges": [0.1, 2.0]})
    events.picture("training", tmp_path / "a.png", 6)
    weights = np.concatenate([np.linspace(-1, 1, MOST_NUMBERS), np.full(MOST_NUMBERS, np.nan)])
    events.histograms({"layer": {"kernel": weights, "bias": np.zeros(3), "none": np.zeros(0)}}, 8)
    events.close()
    found = {(step, value.tag): value for step, value in read(tmp_path / "events")}
    assert found[4, "loss"].simple_value == 0.5
    assert found[4, "loss_by_sigma/2_to_inf"].simple_value == 3.0
    assert {tag for step, tag in found if step == 4} == {
        "loss",
        "loss_by_sigma/0_to_0.1",
        "loss_by_sigma/2_to_inf",
    }
    image = found[6, "training"].image
    assert (image.height, image.width) == (3, 5)
    histogram = found[8, "histograms/layer/kernel"].histo
    assert (histogram.num, histogram.min, histogram.max) == (MOST_NUMBERS / 2, -1, pytest.approx(1, abs=1e-4))
