"""What to do about a camera that does not work: one row a fault, the first that fits."""

from __future__ import annotations

import re
from typing import Final

FIXES: Final = (
    (r"picture is (?:almost )?black", "is the lens covered, the room dark, a shutter closed?"),
    (r"flat colour", "look at it with mien preview: a camera that is not ready, or a codec that is not read"),
    (r"frozen", "restart the camera; a still room can look the same"),
    (r"turned: camera.rotate", "set that key, or turn the camera"),
    (r"no picture in it", "is this the stream that the camera's manual names?"),
    (
        r"there is no camera|No such device",
        "is it plugged in? ls -l /dev/v4l/by-id shows USB cameras by lasting names",
    ),
    (
        r"may not open|may not read|not permitted",
        "sudo usermod -aG video $USER, and log in again",
    ),
    (r"delivers no pictures", "one camera has several nodes: v4l2-ctl --list-devices, and take the first of its rows"),
    (r"is not a camera", "camera.source: a number, a /dev/video… path, an address, a video or a folder of pictures"),
    (r"no frame for|no frames any more", "plug it out and in again; on a hub try another port or cable"),
    (r"401|[Uu]nauthorized|authoriz", "camera.options: username and password_file of an account that may watch"),
    (r"404|Not Found|wrong path", "its manual names the path of its stream; ffprobe ADDRESS tries one"),
    (r"resolve|Name or service|name resolution", "the name is not known here: try the camera's address in numbers"),
    (r"refused", "nothing listens on that port: switch RTSP on in the camera, or name its port"),
    (r"No route|unreachable", "this machine has no way there: is it in the same network?"),
    (r"not answer|timed out", "is it switched on? ping its address; a firewall may stand between"),
    (r"interlaced", "the extra `video` reads it: python -m pip install 'av>=14,<16'"),
    (r"the pipeline ended", "try it by hand: gst-launch-1.0 with the pipeline and ! fakesink"),
    (r"gst-launch|[Gg][Ss]treamer", "sudo apt-get install gstreamer1.0-tools gstreamer1.0-plugins-good"),
    (r"libcamera|picamera2", "rpicam-hello --list-cameras shows what libcamera sees"),
    (r"No such file|is empty|cut off|damaged|not a video", "ffprobe FILE says what is in it"),
    (r"no picture in this folder", "it must hold PNG, JPEG, WebP or AVIF pictures"),
)
"""What the message says, and what helps."""
OTHERWISE: Final = "camera.source: a number, a /dev path, an address, a file; ls -l /dev/v4l/by-id shows USB cameras"


def fix_of(problem: str) -> str:
    """Return what to do about a camera's fault, given its message."""
    return next((fix for pattern, fix in FIXES if re.search(pattern, problem)), OTHERWISE)
