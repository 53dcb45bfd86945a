"""An ordinary MQTT subscriber: everything that the demo shows came through here, over the wire."""

from __future__ import annotations

import queue
import threading

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from edge.errors import PublishError
from edge.publish.payloads import EventPayload, FacesPayload, HealthPayload, InfoPayload, StatePayload

Received = EventPayload | FacesPayload | HealthPayload | InfoPayload | StatePayload | str
"""A decoded payload; plain text as text."""

CONNECT_TIMEOUT_S = 10.0
_DECODERS: dict[str, msgspec.json.Decoder[Received]] = {
    "event": msgspec.json.Decoder(EventPayload),
    "faces": msgspec.json.Decoder(FacesPayload),
    "health": msgspec.json.Decoder(HealthPayload),
    "info": msgspec.json.Decoder(InfoPayload),
    "state": msgspec.json.Decoder(StatePayload),
}


class Listener:
    """Subscriber to everything under a base topic, for the time of a ``with`` block.

    Attributes:
        messages: topic level and payload of what arrived and was not taken yet.
    """

    def __init__(self, *, host: str, port: int, base: str) -> None:
        self.messages: queue.SimpleQueue[tuple[str, Received]] = queue.SimpleQueue()
        self._address, self._base = (host, port), base
        self._subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{base}/#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda client, userdata, message: self._take(message)

    def __enter__(self) -> Listener:
        """Connect and wait for the broker's word that the subscription holds.

        Raises:
            PublishError: the broker cannot be reached, or does not answer.
        """
        try:
            self._client.connect(*self._address)
        except OSError as error:
            raise PublishError(f"demo: the broker cannot be reached: {error}") from None
        self._client.loop_start()
        if not self._subscribed.wait(CONNECT_TIMEOUT_S):
            self._client.loop_stop()
            raise PublishError(f"demo: the broker did not confirm the subscription within {CONNECT_TIMEOUT_S:g} s")
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, message: mqtt.MQTTMessage) -> None:
        level = message.topic.removeprefix(f"{self._base}/")
        decoder = _DECODERS.get(level)
        self.messages.put((level, decoder.decode(message.payload) if decoder else message.payload.decode()))
