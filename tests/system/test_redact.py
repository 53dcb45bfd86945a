"""Sources as people write them, with a secret in every place that cameras have for one."""

from __future__ import annotations

import pytest

from edge.config.loader import shown
from edge.system.redact import redact

SECRET = "S3CR3T"
WITH_SECRETS = r"""rtsp://admin:S3CR3T@10.0.0.2/h264
rtsp://admin:S3CR3T@x@10.0.0.2/h264
rtsp://10.0.0.2:554/user=admin_password=S3CR3T_channel=1_stream=0.sdp?real_stream
http://10.0.0.2/videostream.cgi?loginuse=admin&loginpas=S3CR3T
http://10.0.0.2/axis-cgi/mjpg/video.cgi;auth=S3CR3T
rtsps://192.168.1.1:7441/S3CR3Tabcdef
rtsp://192.168.1.9:8554/live/S3CR3T
http://10.0.0.2/snap/S3CR3T/video.mjpg
gstreamer:rtspsrc location=rtsp://10.0.0.2/x user-id=bob user-pw=S3CR3T ! decodebin
gstreamer:rtspsrc user-pw = S3CR3T location=rtsp://10.0.0.2/x ! decodebin
gstreamer:souphttpsrc location=http://10.0.0.2/x user-pw='S3CR3T ! S3CR3T' ! jpegdec
gstreamer:souphttpsrc location=http://10.0.0.2/x extra-headers="props,Authorization=(string)\"Bearer S3CR3T\"" ! jpegdec
gstreamer:souphttpsrc location=http://10.0.0.2/x cookies="session=S3CR3T" ! jpegdec
gstreamer:srtsrc uri=srt://10.0.0.2:7001?passphrase=S3CR3T ! decodebin
gstreamer:rtmpsrc location="rtmp://10.0.0.2/live/S3CR3T live=1" ! decodebin
gstreamer:rtspsrc location=rtsp://10.0.0.2/x user-pw=\"S3CR3T\" ! decodebin
gstreamer:rtspsrc location=rtsp://10.0.0.2/x user-pw=ab!S3CR3T ! decodebin
gstreamer:rtspsrc location="rtsp://10.0.0.2/x user-pw=S3CR3T
file:///mnt/cam?pw=S3CR3T
network:rtsp://admin:S3CR3T@10.0.0.2/h264
RTSP://admin:S3CR3T@10.0.0.2/h264
rtsp:/admin:S3CR3T@10.0.0.2/h264
rtsp//admin:S3CR3T@10.0.0.2/h264
admin:S3CR3T@10.0.0.2/h264
srt://10.0.0.2:7001?passphrase=S3CR3T
the pipeline ended: rtsp://admin:S3CR3T@10.0.0.2/h264 does not answer
could not authorize: passphrase=S3CR3T is wrong""".splitlines()


@pytest.mark.parametrize("text", WITH_SECRETS)
def test_no_secret_of_a_source_is_shown(text: str) -> None:
    assert SECRET not in redact(text)
    assert SECRET not in shown(text)
    assert redact(text) != "", "and something is"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rtsp://admin:pw@10.0.0.7:554/live?token=1", "rtsp://…@10.0.0.7:554/live?…"),
        ("rtsp://camera:554/Streaming/Channels/101", "rtsp://camera:554/Streaming/Channels/…"),
        ("gstreamer:rtspsrc location=rtsp://a:b@h/live latency=0 ! decodebin", None),
        ("gstreamer:v4l2src device=/dev/video0 ! video/x-raw,width=640 ! videoconvert", None),
        ("/srv/clips/a b.mkv", None),
        ("0", None),
    ],
)
def test_what_is_left_says_which_camera(text: str, told: str | None) -> None:
    assert redact(text) == (told or text.replace("a:b@", "…@"))
