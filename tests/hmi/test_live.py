"""The page beside a station that runs."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdx_fast import Detector
from rdx_fast.bundle.bundle import Bundle
from rdx_fast.hmi.app import create_app
from rdx_fast.images import list_images, read_image
from rdx_fast.station import Station, StationConfig
from rdx_fast.station.config import StatusConfig
from rdx_fast.station.status_socket import StatusSocket
from support.page import PASSWORDS, Client, open_page
from support.scripted import ScriptedCamera, wait_until


@pytest.mark.slow
def test_parts_of_a_station_with_frames_that_are_not_stored(
    bundle: Bundle, camera: ScriptedCamera, config: StationConfig, parts: Path, tmp_path: Path
) -> None:
    status = StatusConfig(tmp_path / "station.socket")
    page = open_page(tmp_path)
    app = create_app(replace(page.file, status=status), users=page.users)
    good = camera.frame
    client = Client(app, base_url="http://127.0.0.1")
    with Detector(bundle.path) as detector:
        station = Station(detector, camera, config)
        with StatusSocket(station, status), station, client:
            client.log_in("olga", PASSWORDS["olga"])
            station.inspect(11)
            camera.frame = read_image(list_images(parts / "test" / "notch")[0])
            assert station.inspect(12).result == "NG"
            wait_until(lambda: client.get("/api/parts/2").json()["part"]["picture"])
            camera.frame = good
            assert station.inspect(13).result == "OK"
            found = client.get("/api/parts/3").json()
            assert found["part"]["picture"] is None
            assert found["part"]["has_frame"]
            assert (found["frame_size"], found["defects"]) == (list(good.shape[:2]), [])
            with Image.open(io.BytesIO(client.get("/api/parts/3/frame").content)) as image:
                assert (np.array(image) == good).all()
            assert client.get("/api/parts/3/map").headers["content-type"] == "image/png"
            stored = client.get("/api/parts/2").json()
            assert stored["defects"]
            assert all(defect["peak"] > 1 for defect in stored["defects"])
            assert client.get("/api/parts/1/frame").status_code == 404, "the line is further"
