"""What proves who we are to the broker, and the broker to us. Read from files and environment, never logged."""

from __future__ import annotations

import ssl

from edge.config.schema import MqttConfig
from edge.errors import ConfigError
from edge.system.secrets import find_credential, read_secret, read_variable


def read_password(config: MqttConfig) -> str | None:
    """The password, out of the file or the environment variable that the configuration names.

    Args:
        config: which names at most one of the two.

    Returns:
        The first line of the file without its end, or the variable's value; None when neither is named.

    Raises:
        ConfigError: two sources, an unreadable one, or a password without a user name. The password is in no message.
    """
    if config.password_file is not None and config.password_env is not None:
        raise ConfigError("mqtt.password_env", "set either this or mqtt.password_file")
    if config.password_file is None and config.password_env is None:
        return None
    if config.username is None:
        raise ConfigError("mqtt.username", "unset, but there is a password")
    if config.password_env is not None:
        return read_variable(config.password_env, key="mqtt.password_env")
    return read_secret(str(config.password_file), key="mqtt.password_file")


def make_tls_context(config: MqttConfig) -> ssl.SSLContext:
    """TLS 1.2 or newer that checks the broker's certificate and host name; nothing switches that off.

    Args:
        config: names an own certificate authority and a client certificate, or neither.

    Raises:
        ConfigError: a certificate or key that is missing or cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except OSError as error:
        raise ConfigError("mqtt.ca_file", f"{config.ca_file}: {_problem(error)}") from None
    if config.ca_file is not None:
        # Python 3.13 began to refuse authorities without a key usage extension, which is how openssl's own
        # configuration makes them. Who is named here is trusted; chain, dates and host name are checked all the same.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.key_file is not None and config.cert_file is None:
        raise ConfigError("mqtt.cert_file", "unset, but there is a mqtt.key_file")
    if config.cert_file is not None:
        key = None if config.key_file is None else find_credential(config.key_file)
        try:
            context.load_cert_chain(config.cert_file, key, password=_no_passphrase)
        except OSError as error:
            raise ConfigError("mqtt.cert_file", f"{config.cert_file}: {_problem(error)}") from None
        except _PassphraseNeededError:
            raise ConfigError("mqtt.key_file", "is encrypted; a service cannot be asked for its passphrase") from None
    return context


def check_credentials(config: MqttConfig) -> None:
    """Reads everything once, so that a configuration that can never work is refused at start.

    Raises:
        ConfigError: see `read_password` and `make_tls_context`; or certificates without TLS.
    """
    read_password(config)
    if config.tls:
        make_tls_context(config)
        return
    for key in ("ca_file", "cert_file", "key_file"):
        if getattr(config, key) is not None:
            raise ConfigError(f"mqtt.{key}", "is set, but mqtt.tls is false: nothing would be encrypted")


class _PassphraseNeededError(Exception):
    """Raised out of OpenSSL's question, which would otherwise go to the terminal."""


def _no_passphrase() -> str:
    raise _PassphraseNeededError


def _problem(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return error.strerror or str(error)
