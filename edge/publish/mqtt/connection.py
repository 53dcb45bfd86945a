"""One connection to an MQTT broker, from CONNECT to its end, driven by one thread. It is never used twice.

Facts about paho-mqtt that shape this file: a client that reconnects sends unacknowledged messages again as if they were
new, so each connection gets a client of its own; what is published while the socket is full piles up in the client
without a bound, so the caller asks `Connection.ready` first; ``publish`` returning is no delivery, only the
acknowledgement is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.config.schema import MqttConfig
from edge.errors import ConfigError, PublishError
from edge.publish.base import Reply
from edge.publish.mqtt.credentials import make_tls_context, read_password

log = logging.getLogger(__name__)

Version = Literal["5", "3.1.1"]
Trouble = Literal["unreachable", "tls", "no_answer", "closed", "version", "refused", "configuration"]
"""Why there is no connection: ``closed`` is a peer that hangs up before CONNACK, ``version`` a refused protocol."""

CONNECT_TIMEOUT_S: Final = 5.0
"""For TCP, again for each step of the TLS handshake, again for CONNACK."""
GOODBYE_TIMEOUT_S: Final = 0.2
"""For the broker to hang up after our DISCONNECT."""
_IMPATIENCE_S: Final = 0.1
PACKET_MAX_BYTES: Final = 16_384
"""Of what the broker may send to us. MQTT 5 tells the broker so; with 3.1.1 a longer packet ends the connection."""
RECEIVED_WAITING: Final = 32
"""Messages received in one turn of the network thread; of more than that the oldest are forgotten."""
WINDOW: Final = 20
"""Messages of QoS 1 on their way at a time, unless the broker takes fewer."""

_PROTOCOLS: Final[Mapping[Version, MQTTProtocolVersion]] = {
    "5": MQTTProtocolVersion.MQTTv5,
    "3.1.1": MQTTProtocolVersion.MQTTv311,
}
_TOO_LONG: Final = "the broker sent a packet"
_UNSPECIFIED: Final = 0x80
_UNSUPPORTED_VERSION: Final = 0x84
_NOT_AUTHORISED: Final = 0x87
_KEEP_ALIVE_TIMEOUT: Final = 0x8D
_SESSION_TAKEN_OVER: Final = 0x8E
_RETAIN_NOT_SUPPORTED: Final = 0x9A
_QOS_NOT_SUPPORTED: Final = 0x9B


class ConnectError(PublishError):
    """There is no connection.

    Attributes:
        trouble: see `Trouble`.
        problem: for people, one line.
    """

    def __init__(self, trouble: Trouble, problem: str) -> None:
        self.trouble, self.problem = trouble, problem
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who connects.

    Attributes:
        client_id: two connections with one id throw each other out.
        will_topic: where the broker says ``offline`` when this connection ends without a goodbye; None: nowhere.
        subscriptions: topic filters of what is listened to.
        takes_retained: whether retained messages are taken as well.
    """

    client_id: str
    will_topic: str | None
    subscriptions: tuple[str, ...] = ()
    takes_retained: bool = False


@dataclass(slots=True)
class Limits:
    """What a broker does without, as its answers say (MQTT 5); the next connection needs to know.

    Attributes:
        retain: whether it keeps retained messages.
        qos: the highest quality of service that it offers.
    """

    retain: bool = True
    qos: Literal[0, 1] = 1

    def learn(self, reason: ReasonCode, properties: Any) -> None:
        """Read a CONNACK: a broker may refuse the will for it, or take us and say so."""
        if reason.value == _RETAIN_NOT_SUPPORTED:
            self.retain = False
        elif reason.value == _QOS_NOT_SUPPORTED:
            self.qos = 0
        elif not reason.is_failure:
            self.retain = bool(getattr(properties, "RetainAvailable", 1))
            self.qos = 1 if getattr(properties, "MaximumQoS", 1) else 0

    def problems(self) -> list[str]:
        """Name what is missed by it, one line each."""
        retain = "" if self.retain else "the broker keeps no retained messages: who subscribes learns only what changes"
        qos = "" if self.qos else "the broker offers QoS 0 only: events that get lost on the way are not sent again"
        return list(filter(None, [retain, qos]))


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The broker's word on a message of QoS 1.

    Attributes:
        mid: as returned by `Connection.publish`.
        refusal: None when the broker has the message, else why it does not take it (MQTT 5 only).
    """

    mid: int
    refusal: str | None


@dataclass(frozen=True, slots=True)
class Received:
    """What the broker sent.

    Attributes:
        topic: full topic.
        data: the payload.
        reply: where the sender wants an answer (MQTT 5); None: nowhere.
    """

    topic: str
    data: bytes
    reply: Reply | None = None


class Wake:
    """Interrupts a `Connection` that waits for the network. `set` may be called by any thread."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._fd

    def set(self) -> None:
        """Ends the present wait, or the next one."""
        os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Lets the next wait last."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return

    def wait(self, timeout_s: float) -> None:
        """Waits for `set`."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        poller.poll(max(0.0, timeout_s * 1000))

    def __del__(self) -> None:
        os.close(self._fd)


class _BoundedClient(paho.Client):
    """Paho gathers packets of up to 256 MB; this one ends the connection before it reads the body of a long one."""

    def _sock_recv(self, bufsize: int) -> bytes:
        length = self._in_packet["remaining_length"]
        if self._in_packet["have_remaining"] and length > PACKET_MAX_BYTES:
            raise ConnectionError(f"{_TOO_LONG} of {length} bytes; {PACKET_MAX_BYTES} are allowed")
        return super()._sock_recv(bufsize)


class Connection:
    """See the module. Used as: `open`, then `poll` and `publish` until `closed`, then `close`.

    Attributes:
        window: messages of QoS 1 that may be unacknowledged at a time.
        max_packet_bytes: what the broker takes at most; None without a bound.
        closed: why the connection ended; None while it stands.
        explained: whether it is known why the connection ended; not every broker says so.
        refused_subscriptions: topic filters that the broker does not grant.
        taken_over: whether another client of the same id ended it.
    """

    def __init__(
        self, config: MqttConfig, *, identity: Identity, version: Version, limits: Limits | None = None
    ) -> None:
        self.window = WINDOW
        self.max_packet_bytes: int | None = None
        self.closed: str | None = None
        self.explained = self.taken_over = False
        self.refused_subscriptions: list[str] = []
        self._config = config
        self._identity = identity
        self._version = version
        self._limits = limits or Limits()
        self._answer: ReasonCode | None = None
        self._is_silent = False
        self._last_error = ""
        self._acknowledged: list[Acknowledgement] = []
        self._received: deque[Received] = deque(maxlen=RECEIVED_WAITING)
        self._subscribing: dict[int | None, str] = {}
        self._client = self._make_client()

    def open(
        self, *, wake: Wake, give_up: Callable[[], bool] = lambda: False, timeout_s: float = CONNECT_TIMEOUT_S
    ) -> None:
        """Connects and waits for the broker's yes.

        Args:
            wake: ends a wait early.
            give_up: asked again and again whether not to wait for the broker's answer any longer.
            timeout_s: see `CONNECT_TIMEOUT_S`.

        Raises:
            ConnectError: no connection; everything is closed.
        """
        try:
            self._authenticate()
            self._connect(timeout_s)
            self._await_connack(wake, give_up, timeout_s)
            for topic_filter in self._identity.subscriptions:
                _, mid = self._client.subscribe(topic_filter, qos=1)
                self._subscribing[mid] = topic_filter
        except ConnectError:
            self.close(goodbye=True)  # a broker that has read our CONNECT by now keeps the will to itself
            raise

    @property
    def ready(self) -> bool:
        """Whether the socket takes another message at once."""
        return self.closed is None and not self._client.want_write()

    def publish(
        self,
        topic: str,
        data: bytes,
        *,
        qos: Literal[0, 1],
        retain: bool,
        expiry_s: int | None = None,
        correlation: bytes | None = None,
    ) -> int:
        """Hands a message to the socket.

        Args:
            topic: full topic.
            data: the payload.
            qos: 0 without, 1 with acknowledgement.
            retain: whether late subscribers get it.
            expiry_s: MQTT 5: the broker forgets it after so long.
            correlation: MQTT 5: goes with an answer, to whom it tells what was asked.

        Returns:
            The number that its acknowledgement will carry.
        """
        properties = None
        if self._version == "5":
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            if data[:1] == b"{":
                properties.ContentType = "application/json"
            if expiry_s is not None:
                properties.MessageExpiryInterval = expiry_s
            if correlation is not None:
                properties.CorrelationData = correlation
        info = self._client.publish(
            topic,
            data,
            qos=min(qos, self._limits.qos),
            retain=retain and self._limits.retain,
            properties=properties,
        )
        return info.mid

    def poll(self, *, wake: Wake, timeout_s: float) -> list[Acknowledgement]:
        """Waits for the network or for ``wake``, handles what is there, and returns what was acknowledged."""
        sock = self._client.socket()
        if self.closed is None and sock is not None:
            self._handle_network(sock, wake, timeout_s)
        if self._client.socket() is None and self.closed is None:
            self.closed = self._last_error or "connection lost"
        acknowledged, self._acknowledged = self._acknowledged, []
        return acknowledged

    def take_received(self) -> list[Received]:
        """What came since the last call."""
        taken = list(self._received)
        self._received.clear()
        return taken

    def close(self, *, goodbye: bool = False) -> None:
        """Ends the connection.

        Args:
            goodbye: with DISCONNECT, so that the broker forgets the will.
        """
        sock = self._client.socket()
        if goodbye and self.closed is None and sock is not None:
            self._say_goodbye(sock.fileno())
        self.closed = self.closed or "closed"
        if (sock := self._client.socket()) is not None:
            sock.close()

    def _say_goodbye(self, descriptor: int) -> None:
        """DISCONNECT, then waits for the broker to hang up.

        Paho closes its socket at once, and a socket that is closed before everything was read resets the connection:
        the broker may never read the DISCONNECT then. A second descriptor keeps the connection open.
        """
        with socket.socket(fileno=os.dup(descriptor)) as wire, contextlib.suppress(OSError):
            self._client.disconnect()
            wire.shutdown(socket.SHUT_WR)
            wire.settimeout(GOODBYE_TIMEOUT_S)
            deadline = time.monotonic() + GOODBYE_TIMEOUT_S
            while wire.recv(PACKET_MAX_BYTES) and time.monotonic() < deadline:
                pass

    def _make_client(self) -> paho.Client:
        options: dict[str, Any] = {} if self._version == "5" else {"clean_session": True}
        client = _BoundedClient(
            CallbackAPIVersion.VERSION2,
            client_id=self._identity.client_id,
            protocol=_PROTOCOLS[self._version],
            reconnect_on_failure=False,
            **options,
        )
        client.max_inflight_messages_set(0xFFFF)  # the window is ours: what paho holds back it would send out of order
        if self._identity.will_topic is not None:
            limits = self._limits
            client.will_set(self._identity.will_topic, b"offline", qos=limits.qos, retain=limits.retain)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_log = self._on_log
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        return client

    def _authenticate(self) -> None:
        """Reads password and certificates anew for each connection: they may have been renewed."""
        try:
            if self._config.username is not None:
                self._client.username_pw_set(self._config.username, read_password(self._config))
            if self._config.tls:
                self._client.tls_set_context(make_tls_context(self._config))
        except ConfigError as error:
            raise ConnectError("configuration", f"{error.key}: {error.problem}") from None

    def _connect(self, timeout_s: float) -> None:
        config = self._config
        self._client.connect_timeout = timeout_s
        try:
            self._client.connect(
                config.host, port_of(config), keepalive=config.keepalive_s, properties=self._connect_properties()
            )
        except ssl.SSLCertVerificationError as error:
            raise ConnectError("tls", f"TLS: {error.verify_message}") from None
        except ssl.SSLError as error:
            hint = " (does this port speak TLS?)" if error.reason in ("WRONG_VERSION_NUMBER", None) else ""
            raise ConnectError("tls", f"TLS: {_words(error.reason or str(error))}{hint}") from None
        except TimeoutError:
            raise ConnectError("unreachable", f"unreachable: no answer within {timeout_s:g} s") from None
        except socket.gaierror as error:
            raise ConnectError("unreachable", f"unknown host {config.host}: {error.strerror}") from None
        except UnicodeError:
            raise ConnectError("unreachable", f"unknown host {config.host}: not a host name") from None
        except OSError as error:
            raise ConnectError("unreachable", f"unreachable: {error.strerror or error}") from None

    def _connect_properties(self) -> Properties | None:
        """MQTT 5: the broker is not to send us more than a request can be; 3.1.1 knows no such bound."""
        if self._version != "5":
            return None
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = PACKET_MAX_BYTES
        return properties

    def _await_connack(self, wake: Wake, give_up: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._answer is None and self.closed is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ConnectError("no_answer", f"no answer to CONNECT within {timeout_s:g} s: is this an MQTT broker?")
            self.poll(wake=wake, timeout_s=min(left, _IMPATIENCE_S))
            wake.clear()
            if self._answer is None and give_up():
                raise ConnectError("no_answer", "gave up waiting for the broker")
        refused_by_tls = re.match(r"\[SSL: (\w+)\]", self.closed or "")
        if refused_by_tls:  # TLS 1.3: what the broker thinks of our certificate comes after the handshake
            raise ConnectError("tls", f"TLS: {_words(refused_by_tls[1])}")
        if self._answer is None and self._is_silent:  # paho's keepalive was shorter than our patience
            raise ConnectError(
                "no_answer", f"no answer to CONNECT within {self._config.keepalive_s} s: is this an MQTT broker?"
            )
        if self._answer is None:
            raise ConnectError("closed", f"closed before CONNACK ({self.closed}): is this an MQTT broker?")
        if self._answer.value == _UNSUPPORTED_VERSION:
            raise ConnectError("version", f"refused: MQTT {self._version} is not supported")
        if self._answer.is_failure:
            hint = ""
            if self._answer.value == _NOT_AUTHORISED:
                hint = " (user name, password or client id are not accepted)"
            raise ConnectError("refused", f"refused: {self._answer}{hint}")

    def _handle_network(self, sock: Any, wake: Wake, timeout_s: float) -> None:
        poller = select.poll()
        poller.register(sock, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        poller.register(wake, select.POLLIN)
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        ready = dict(poller.poll(0 if pending else max(0.0, timeout_s * 1000)))
        events = ready.get(sock.fileno(), 0)
        if pending or events & ~select.POLLOUT:
            self._client.loop_read()
        if events & select.POLLOUT:
            self._client.loop_write()
        self._client.loop_misc()

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        self._answer = reason
        if self._version == "5":
            self._limits.learn(reason, properties)
        self.window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))
        self.max_packet_bytes = getattr(properties, "MaximumPacketSize", None)

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: paho.DisconnectFlags, reason: ReasonCode, properties: Any
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self.explained = True
            self.closed = f"the broker ended the connection: {reason}"
            if reason.value == _SESSION_TAKEN_OVER:
                self.taken_over = True
                self.closed = f"session taken over: another client calls itself {self._identity.client_id}"
        elif self.closed is None:
            self._is_silent = reason.value == _KEEP_ALIVE_TIMEOUT
            self.explained = self._last_error.startswith(_TOO_LONG)
            self.closed = self._last_error or ("connection lost" if reason.value == _UNSPECIFIED else str(reason))

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: ReasonCode, properties: Any) -> None:
        self._acknowledged.append(Acknowledgement(mid, str(reason) if reason.is_failure else None))

    def _on_message(self, client: Any, userdata: Any, message: paho.MQTTMessage) -> None:
        if (
            message.retain and not self._identity.takes_retained
        ):  # a retained request would be carried out again at every connect
            return
        try:
            self._received.append(Received(message.topic, bytes(message.payload), _reply_of(message)))
        except UnicodeDecodeError:  # a broker that lets such a topic pass
            log.debug("mqtt: a topic that is not UTF-8")

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self.refused_subscriptions.append(self._subscribing.get(mid, "?"))
            log.warning("mqtt: the broker does not let us subscribe to %s", self.refused_subscriptions[-1])

    def _on_log(self, client: Any, userdata: Any, level: int, text: str) -> None:
        """Paho tells why a socket failed only to its log."""
        if level == paho.MQTT_LOG_ERR:
            self._last_error = text.rpartition("socket: ")[2]


def port_of(config: MqttConfig) -> int:
    """The broker's port: as configured, else 1883, with TLS 8883."""
    return config.port or (8883 if config.tls else 1883)


def _reply_of(message: paho.MQTTMessage) -> Reply | None:
    topic = getattr(message.properties, "ResponseTopic", None)
    return Reply(topic, getattr(message.properties, "CorrelationData", None)) if topic else None


def _words(reason: str) -> str:
    return reason.lower().replace("_", " ")
