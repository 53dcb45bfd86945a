"""The sections of the configuration. Every key is described; example and reference are made from them."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edge.system.files import state_directory

# What MQTT forbids in topics, and what brokers hang up on: control characters, surrogates, U+FFFE and U+FFFF.
_LEVEL = r"[^/+#\s\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]"
_END = r"$(?!\n)"
_TOPIC_LEVEL = rf"^{_LEVEL}{{1,64}}{_END}"
_TOPIC_LEVELS = rf"^(?!\$)(?=.{{1,128}}{_END}){_LEVEL}+(/{_LEVEL}+)*{_END}"
_HOST = rf"^(?![^:]*:[0-9]*{_END})[^/\s@\[\]]+{_END}"
_WEB_ADDRESS = rf"^https?://[^\s/]+(/\S*)?{_END}"
_WORDS = rf"^(?=.{{10,200}}{_END}).*\S.*\S"
_ADDRESS = rf"^(\[[0-9a-fA-F:.]+\]|[0-9A-Za-z.-]+):[0-9]{{1,5}}{_END}"
PATTERNS_IN_WORDS = {
    _TOPIC_LEVEL: "1 to 64 characters without / + # or space",
    _TOPIC_LEVELS: "topic levels joined by /, without + # or space, at most 128 characters, the first not a $",
    _HOST: "a name or an address alone, without a scheme; the port is a key of its own",
    _WEB_ADDRESS: "http://… or https://…",
    _WORDS: "the reason in words, 10 to 200 characters on one line",
    _ADDRESS: "ADDRESS:PORT, 127.0.0.1:8089 or [::1]:8089",
}
TopicLevel = Annotated[str, Meta(pattern=_TOPIC_LEVEL)]
ClientId = Annotated[str, Meta(min_length=1)]
ExemptionText = Annotated[str, Meta(pattern=_WORDS)]
TopicPrefix = Annotated[str, Meta(pattern=_TOPIC_LEVELS)]
BrokerHost = Annotated[str, Meta(pattern=_HOST)]
AreaName = Annotated[str, Meta(min_length=1, max_length=64)]
WebAddress = Annotated[str, Meta(pattern=_WEB_ADDRESS)]
ListenAddress = Annotated[str, Meta(pattern=_ADDRESS)]
Share = Annotated[float, Meta(ge=0, le=1)]
Expiry = Annotated[int, Meta(ge=1, le=2**32 - 1)]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all sections: keyword-only, immutable, unknown keys refused."""


class NoOptions(Section, frozen=True):
    """For kinds that have no options of their own."""


class CameraConfig(Section, frozen=True):
    """Where frames come from."""

    source: Annotated[
        str,
        Meta(
            description="camera number or /dev path (stable: /dev/v4l/by-id/…), rtsp:// or http:// address, "
            "picamera2:N, gstreamer:PIPELINE, a video file, a folder of pictures, synthetic, or demo"
        ),
    ] = "0"
    name: Annotated[TopicLevel, Meta(description="last level of the base topic")] = "camera"
    width: Annotated[int, Meta(ge=64, le=7680, description="asked of the camera, pixels")] = 640
    height: Annotated[int, Meta(ge=64, le=4320, description="asked of the camera, pixels")] = 480
    fps: Annotated[
        float, Meta(ge=1, le=120, description="asked of the camera; pace of synthetic frames and folders")
    ] = 15
    rotate: Annotated[
        Literal[0, 90, 180, 270], Meta(description="turn the picture so many degrees clockwise: a camera that hangs")
    ] = 0
    flip: Annotated[bool, Meta(description="mirror left and right, after the turn")] = False
    max_frame_age_ms: Annotated[
        float, Meta(ge=10, le=60_000, description="an older frame is never published as live")
    ] = 1000
    stale_after_ms: Annotated[
        float, Meta(ge=100, le=60_000, description="without a frame for so long the camera is stale")
    ] = 2000
    options: Annotated[dict[str, Any], Meta(description="options of the chosen kind of source")] = {}

    @property
    def frame_wh(self) -> tuple[int, int]:
        """Return width and height of the frames as they are asked for and turned."""
        return (self.height, self.width) if self.rotate in (90, 270) else (self.width, self.height)


class DetectConfig(Section, frozen=True):
    """Finding faces."""

    detector: Annotated[
        str, Meta(description="yunet (int8, ours) or opencv_yunet (OpenCV with an ONNX file of yours)")
    ] = "yunet"
    bundle: Annotated[
        str, Meta(description="name of an installed or shipped detector, a folder, or auto: by the camera's shape")
    ] = "auto"
    score: Annotated[Share, Meta(description="faces below this score are ignored")] = 0.6
    nms: Annotated[Share, Meta(description="of two boxes overlapping more than this the weaker is dropped")] = 0.3
    max_faces: Annotated[int, Meta(ge=1, le=1000, description="bound on the faces of one frame")] = 32
    schedule: Annotated[
        Literal["every_frame", "adaptive"],
        Meta(description="adaptive: the detector rests while all faces are found again by their looks"),
    ] = "adaptive"
    max_rest_ms: Annotated[
        float,
        Meta(
            ge=0, le=5000, description="adaptive: the detector rests at most so long; a new face is found so much later"
        ),
    ] = 200
    options: Annotated[dict[str, Any], Meta(description="options of the chosen detector")] = {}


class TrackConfig(Section, frozen=True):
    """Following faces."""

    tracker: Annotated[str, Meta(description="kalman")] = "kalman"
    confirm_ms: Annotated[
        float, Meta(ge=0, le=10_000, description="a face is announced after it was seen for so long")
    ] = 100
    keep_ms: Annotated[
        float, Meta(ge=0, le=60_000, description="a face that is not seen is kept for so long, then it left")
    ] = 1500
    leave_ms: Annotated[
        float, Meta(ge=0, le=60_000, description="as keep_ms, for a face that went out over the picture's edge")
    ] = 300
    keep_score: Annotated[
        Share, Meta(description="a followed face is kept above this score; a new one needs detect.score")
    ] = 0.4


class EmotionConfig(Section, frozen=True):
    """Reading emotions."""

    bundle: Annotated[
        str, Meta(description="name of an installed or shipped emotion model, name@version, or a folder with a / in it")
    ] = "emotion-ferplus"
    delegate: Annotated[
        str,
        Meta(description="xnnpack (CPU), edgetpu, or external (a library of yours); where it fails the CPU is used"),
    ] = "xnnpack"
    options: Annotated[
        dict[str, Any],
        Meta(description="of the delegate: edgetpu has library and device, external has library and options"),
    ] = {}
    retry_s: Annotated[
        float, Meta(ge=1, le=86_400, description="a delegate that failed is tried again after so long, then doubling")
    ] = 60
    threads: Annotated[int, Meta(ge=1, le=16, description="of the interpreter, detector included")] = 1
    allow_failed: Annotated[bool, Meta(description="run a bundle that failed its accuracy gate")] = False
    prior: Annotated[
        Literal["natural", "balanced"],
        Meta(description="natural: as often as they occur, for statistics; balanced: rare expressions are seen more"),
    ] = "natural"
    mirror: Annotated[
        bool, Meta(description="read a face's mirror image too: by turns with the crop, on pictures both")
    ] = True


class BundlesConfig(Section, frozen=True):
    """Which models may run."""

    trusted_keys: Annotated[
        tuple[str, ...],
        Meta(description="public keys; with any, a bundle that is not shipped must be signed by one of them"),
    ] = ()


class SmoothConfig(Section, frozen=True):
    """From scores to a steady emotion."""

    time_constant_ms: Annotated[float, Meta(ge=0, le=60_000, description="of the scores' low-pass filter; 0: none")] = (
        350
    )
    enter: Annotated[Share, Meta(description="a new emotion needs at least this smoothed score")] = 0.45
    exit: Annotated[Share, Meta(description="the present emotion holds while its smoothed score is above this")] = 0.35
    min_dwell_ms: Annotated[float, Meta(ge=0, le=60_000, description="an emotion holds at least so long")] = 500
    min_margin: Annotated[
        Share | None, Meta(description="uncertain below this distance of the two best scores; unset: the model's own")
    ] = None


class QualityConfig(Section, frozen=True):
    """When a face cannot be read: its emotion is `uncertain`, with the reason."""

    min_face_px: Annotated[float, Meta(ge=0, le=4000, description="too_small below this shorter side")] = 24
    max_blur: Annotated[Share, Meta(description="blurred above this")] = 0.9
    max_yaw: Annotated[Share, Meta(description="turned above this; 0 frontal, 1 profile")] = 0.65
    min_brightness: Annotated[Share, Meta(description="dark below this mean grey")] = 0.08
    max_cut: Annotated[Share, Meta(description="cut_off above this share of the face beyond the picture's edge")] = 0.15


class EventsConfig(Section, frozen=True):
    """What is worth an event."""

    uncertain: Annotated[
        bool,
        Meta(description="emotion_changed to and from uncertain, too; false: from one emotion to the next alone"),
    ] = True


class PublishConfig(Section, frozen=True):
    """What goes out."""

    sinks: Annotated[tuple[str, ...], Meta(description="any of mqtt, jsonl")] = ("mqtt",)
    faces_hz: Annotated[float, Meta(ge=0, le=120, description="telemetry of every face, at most so often; 0: off")] = 0
    state_hz: Annotated[float, Meta(gt=0, le=10, description="state on change, at most so often")] = 1
    health_s: Annotated[float, Meta(ge=1, le=3600, description="seconds between health reports")] = 30


class MqttConfig(Section, frozen=True):
    """The broker."""

    host: Annotated[BrokerHost, Meta(description="name or address of the broker, without a port")] = "localhost"
    port: Annotated[Port | None, Meta(description="unset: 1883, with TLS 8883")] = None
    prefix: Annotated[TopicPrefix, Meta(description="first levels of every topic")] = "mien"
    version: Annotated[Literal["auto", "5", "3.1.1"], Meta(description="of the protocol; auto asks for 5 first")] = (
        "auto"
    )
    client_id: Annotated[
        ClientId | None, Meta(description="unset: mien-DEVICE-CAMERA, with a hash where that is not unique")
    ] = None
    username: Annotated[str | None, Meta(description="unset: none")] = None
    password_file: Annotated[
        str | None, Meta(description="file whose first line is the password; under systemd: mqtt-password")
    ] = None
    password_env: Annotated[str | None, Meta(description="environment variable that holds the password")] = None
    keepalive_s: Annotated[int, Meta(ge=5, le=3600, description="seconds until a silent connection counts as dead")] = (
        30
    )
    retry_max_s: Annotated[
        float, Meta(ge=1, le=3600, description="longest wait between attempts to reach the broker; random below it")
    ] = 10
    expiry_s: Annotated[
        Expiry | None,
        Meta(description="MQTT 5: an event that a subscriber did not fetch for so long is gone; unset: never"),
    ] = None
    tls: Annotated[bool, Meta(description="encrypt; the broker's certificate and name are checked")] = False
    ca_file: Annotated[str | None, Meta(description="own certificate authority; unset: the system's")] = None
    cert_file: Annotated[str | None, Meta(description="client certificate")] = None
    key_file: Annotated[str | None, Meta(description="key of the client certificate; under systemd: mqtt-key")] = None
    requests: Annotated[
        bool, Meta(description="carry out requests: ping, pause, resume, selftest, reload; whoever may publish may ask")
    ] = False
    history: Annotated[
        bool, Meta(description="answer request/history: acknowledged events of this start, kept in memory alone")
    ] = False
    keep_h: Annotated[
        float, Meta(gt=0, le=168, description="history: for so many hours; also bounded by queue_max, queue_max_bytes")
    ] = 24
    queue_max: Annotated[int, Meta(ge=1, le=100_000, description="events kept while the broker is away")] = 10_000
    queue_max_bytes: Annotated[
        int, Meta(ge=65_536, le=268_435_456, description="bound on their payloads, in memory and in the outbox file")
    ] = 16_777_216
    queue_max_age_h: Annotated[
        float, Meta(gt=0, le=8760, description="older events become a gap; hours that the service ran")
    ] = 168
    outbox_dir: Annotated[
        str | None,
        Meta(description="folder of the file that keeps events over a restart; unset: $STATE_DIRECTORY, else memory"),
    ] = None
    outbox_commit_s: Annotated[
        float, Meta(ge=0.05, le=1, description="SIGKILL or a power cut takes at most so many seconds of events")
    ] = 1

    @property
    def state_folder(self) -> Path | None:
        """Return the folder of what outlives a restart: as configured, else systemd's; None: there is none."""
        return Path(self.outbox_dir) if self.outbox_dir else state_directory()

    def base_topic(self, device: str, camera: str) -> str:
        """Return what every topic of a camera begins with, except Home Assistant's."""
        return f"{self.prefix}/{device}/{camera}"

    def make_client_id(self, device: str, camera: str) -> str:
        """Return the client id: as configured, or made so that no two base topics share one.

        ``a-b`` and ``c`` would join to the same as ``a`` and ``b-c``, and prefixes do not show: two clients of one id
        throw each other out for ever.
        """
        plain = f"mien-{device}-{camera}"
        if self.client_id is not None or (self.prefix == "mien" and "-" not in device + camera):
            return self.client_id or plain
        return f"{plain}-{hashlib.sha256(self.base_topic(device, camera).encode()).hexdigest()[:8]}"


class PowerConfig(Section, frozen=True):
    """Doing less on a machine that is too hot or too busy; …/problem and …/health say so."""

    governor: Annotated[
        bool, Meta(description="by steps: the detector rests longer, fewer frames, a smaller detector")
    ] = True
    max_temperature_c: Annotated[
        float, Meta(ge=30, le=120, description="of the hottest thermal zone; a Raspberry Pi slows down at 80 to 85")
    ] = 80
    max_busy: Annotated[
        float, Meta(gt=0, le=1, description="share of the time that inference may take, waiting for a core included")
    ] = 0.9
    hold_s: Annotated[
        float, Meta(ge=1, le=3600, description="a step is kept so long at least, three times so long before going back")
    ] = 10


class HomeAssistantConfig(Section, frozen=True):
    """Entities that appear in Home Assistant by themselves, over its MQTT integration."""

    enabled: Annotated[bool, Meta(description="tell Home Assistant what there is (MQTT discovery)")] = False
    discovery_prefix: Annotated[TopicPrefix, Meta(description="as set in its MQTT integration")] = "homeassistant"
    status_topic: Annotated[TopicPrefix, Meta(description="where it says online when it has started")] = (
        "homeassistant/status"
    )
    area: Annotated[AreaName | None, Meta(description="area that it suggests for the camera; unset: none")] = None
    per_component: Annotated[
        bool, Meta(description="a message for each entity, for programs that do not know device discovery")
    ] = False


class JsonlConfig(Section, frozen=True):
    """One JSON object a line."""

    path: Annotated[str, Meta(description="file to append to, or - for standard output")] = "-"


class PageConfig(Section, frozen=True):
    """A page that shows live what is seen, with health and metrics, in a browser."""

    enabled: Annotated[bool, Meta(description="serve it; needs the extra `page`")] = False
    listen: Annotated[ListenAddress, Meta(description="address and port; beyond this machine only with a token")] = (
        "127.0.0.1:8089"
    )
    hosts: Annotated[
        tuple[str, ...], Meta(description="names that it may be called by, beside localhost and addresses")
    ] = ()
    url: Annotated[
        WebAddress | None, Meta(description="where people reach it; Home Assistant links to it; unset: no link")
    ] = None
    token_file: Annotated[
        str | None, Meta(description="file whose first line opens the page; under systemd: page-token")
    ] = None
    control_token_file: Annotated[
        str | None, Meta(description="the same for pause and resume; unset: nobody may; under systemd: page-control")
    ] = None
    rate_hz: Annotated[float, Meta(gt=0, le=60, description="how often faces move on it, at most")] = 15
    picture: Annotated[
        bool, Meta(description="show the camera's picture behind the faces, to aim it; needs a token, is never kept")
    ] = False

    @property
    def address(self) -> tuple[str, int]:
        """Return what `listen` names: an address or a name, and a port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class PrivacyConfig(Section, frozen=True):
    """What expressions are read for, as whoever sets this up declares it."""

    use_context: Annotated[
        Literal["home", "research", "retail", "medical", "workplace", "education"] | None,
        Meta(description="what expressions are read for; `info` says it; workplace and education need `exemption`"),
    ] = None
    exemption: Annotated[
        ExemptionText | None,
        Meta(description="the medical or safety reason that allows it there (EU AI Act, Article 5); `info` says it"),
    ] = None


class LogConfig(Section, frozen=True):
    """The log on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="what is worth a line")] = "info"


class Config(Section, frozen=True):
    """The whole configuration."""

    device: Annotated[TopicLevel | None, Meta(description="second level of the base topic; unset: host name")] = None
    camera: CameraConfig = CameraConfig()
    detect: DetectConfig = DetectConfig()
    track: TrackConfig = TrackConfig()
    emotion: EmotionConfig = EmotionConfig()
    bundles: BundlesConfig = BundlesConfig()
    smooth: SmoothConfig = SmoothConfig()
    quality: QualityConfig = QualityConfig()
    events: EventsConfig = EventsConfig()
    publish: PublishConfig = PublishConfig()
    power: PowerConfig = PowerConfig()
    mqtt: MqttConfig = MqttConfig()
    homeassistant: HomeAssistantConfig = HomeAssistantConfig()
    jsonl: JsonlConfig = JsonlConfig()
    page: PageConfig = PageConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    log: LogConfig = LogConfig()

    @property
    def device_name(self) -> str:
        """The configured device name, or this host's."""
        return self.device or socket.gethostname().split(".")[0] or "device"
