"""The tracker: a Kalman filter in closed form for every face, and the likeliest assignment of faces to tracks.

Lengths inside are in units of the face's own size (square root of its box's area), so that one set of constants serves
near and far faces. The velocity is an Ornstein-Uhlenbeck process (Singer 1970 with the acceleration left out): constant
over short times and damped over long ones, so that an unseen face does not fly away and its uncertainty stays bounded.

A pair of track and face gains the log-likelihood ratio of "this face is that track" against "this face is new", with
Student's t in place of Gauss, because people start and stop abruptly. What a track that was not seen for long gains by
a face nearby is therefore less than what a freshly seen one gains: it cannot steal its face. The assignment with the
largest sum of gains is taken (`edge.track.assignment`).
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, expm1, log, log1p, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

from edge.config.schema import TrackConfig
from edge.records import Faces, Floats, Track, Tracks
from edge.track.assignment import Edge, assign

VELOCITY_DECAY_S: Final = 1.0
"""Time constant with which an unseen face comes to rest."""
SPEED_SPREAD: Final = 1.5
"""Standard deviation of the velocity in face sizes a second; walking past a near camera is 1.5 to 3."""
ZOOM_SPREAD: Final = 0.3
"""Standard deviation of the rate of the size's logarithm, 1/s."""
PLACE_NOISE: Final = 0.035**2
"""Variance of a measured centre in face sizes; YuNet's centre scatters by 0.01 to 0.03 of a face at rest."""
SIZE_NOISE: Final = 0.06**2
"""Variance of the measured size's logarithm; YuNet's scatters by 0.012 to 0.027 and shrinks with half of the face."""
SHAPE_NOISE: Final = 0.17**2
"""Variance of a landmark's place inside the box; the same person after a second: 0.03 to 0.1, others: 0.03 to 0.2, a
half covered face more."""
FREEDOM: Final = 4.0
"""Degrees of freedom of Student's t: the smaller, the likelier abrupt moves."""
EXPONENT: Final = FREEDOM + 3.0
"""The t distribution's, doubled, for a centre and a size: three dimensions."""
BASE_GAIN: Final = 12.0
"""-2 log of the density of new faces, up to a constant; decides how far an unseen face may have moved."""
HIDING_S: Final = 0.5
"""Time constant of the motion and size that a face is believed to have while it is hidden."""
SHRINK: Final = 0.06
"""Logarithm by which a face may fall below its lasting size before its box is taken for one that is being covered."""
SHRUNK_NOISE: Final = 8.0
"""Variance of such a box's place over the square of what it shrank further: its centre lags by half of it and more."""
COVERED_PLACE: Final = 0.3**2
"""Variance in face sizes by which the box of a face that is being covered is displaced."""
COVERED_SIZE: Final = 0.1**2
"""The same of its size's logarithm."""
MISSED_LOSS: Final = 2.0
"""Twice the log-odds by which a face that was hidden in the last frame is less likely to be the one found now."""
ABRUPT: Final = 9.0
"""Squared distance in standard deviations beyond which the filter forgets the velocity it believed in."""
VECTORISE_ABOVE: Final = 150
"""Pairs of tracks and faces above which numpy is faster than plain Python (measured)."""


AWAITED_NS: Final = 100_000_000
"""A face that was missed is looked for in every frame for so long: then it is not for a blink of the detector."""
SLOW_CAMERA_NS = 4_000_000_000
"""A face that was there in the last frame is looked for in the next one, as long as that comes within this time."""


class _Face:
    """One track's state. Plain floats: for a handful of faces they are faster than arrays."""

    __slots__ = (
        "cx", "cy", "first_ns", "id", "is_confirmed", "is_missed", "kept_ns", "landmarks", "last_ns", "log_size", "p00",
        "p01", "p11", "q00", "q01", "q11", "score", "shape", "size", "slow_size", "slow_vx", "slow_vy", "vx", "vy",
        "was_missed", "xywh", "zoom",
    )  # fmt: skip

    def __init__(self, id: str, seen: _Observations, column: int, now_ns: int) -> None:
        self.id = id
        self.first_ns = now_ns
        self.is_confirmed = self.was_missed = False
        self.cx, self.cy, self.log_size = seen.cx[column], seen.cy[column], seen.log_size[column]
        self.vx = self.vy = self.zoom = self.slow_vx = self.slow_vy = 0.0
        self.slow_size = self.log_size
        self.p00, self.p01, self.p11 = PLACE_NOISE, 0.0, SPEED_SPREAD**2
        self.q00, self.q01, self.q11 = SIZE_NOISE, 0.0, ZOOM_SPREAD**2
        self.take_over(seen, column, now_ns)

    def take_over(self, seen: _Observations, column: int, now_ns: int) -> None:
        """What is taken from the detector as it is."""
        self.size = exp(self.log_size)
        self.xywh = seen.xywh[column]
        self.landmarks: Floats = seen.landmarks[column]
        self.shape = seen.shapes[column]
        self.score = seen.scores[column]
        self.last_ns = self.kept_ns = now_ns
        self.is_missed = False

    def correct_place(self, dx: float, dy: float, noise: float, dt: float) -> None:
        """Kalman update by the distance to the face found, in pixels, whose place has a variance of ``noise`` sizes.

        After an abrupt move the filter starts over with the velocity between the two sights.
        """
        variance = self.p00 + noise
        moved = (dx * dx + dy * dy) / (self.size * self.size)
        if moved > ABRUPT * variance:
            self.p00, self.p01, self.p11 = moved, moved / dt, moved / (dt * dt)
            variance = self.p00 + noise
        k0, k1 = self.p00 / variance, self.p01 / variance
        self.cx += k0 * dx
        self.cy += k0 * dy
        self.vx += k1 * dx
        self.vy += k1 * dy
        self.p11 -= k1 * self.p01
        self.p01 *= 1.0 - k0
        self.p00 *= 1.0 - k0

    def correct_size(self, growth: float) -> None:
        """The same by the difference of the sizes' logarithms."""
        variance = self.q00 + SIZE_NOISE
        k0, k1 = self.q00 / variance, self.q01 / variance
        self.log_size += k0 * growth
        self.zoom += k1 * growth
        self.q11 -= k1 * self.q01
        self.q01 *= 1.0 - k0
        self.q00 *= 1.0 - k0

    def hide(self) -> None:
        """Goes on with the motion and the size from before the face was covered, which moves and shrinks its box."""
        self.vx, self.vy, self.zoom = self.slow_vx, self.slow_vy, 0.0
        self.log_size = self.slow_size
        self.size = exp(self.log_size)
        self.p00 += COVERED_PLACE
        self.q00 += COVERED_SIZE


class KalmanTracker:
    """Follows faces by place, size and landmarks. Implements `edge.track.base.FaceTracker`.

    A face is announced when it was seen over ``confirm_ms`` (at once when that is 0). One that is not seen is predicted
    for ``keep_ms``; one whose predicted centre lies outside the frame, or that was last seen at the frame's edge moving
    out, for ``leave_ms`` only. Until then it keeps its id where it reappears near its prediction; an ended id never
    comes back: whoever returns later is a new track. Time in which the detector rests does not count as unseen for a
    face that it saw when it looked last, nor does the time between the frames of a camera slower than ``keep_ms``.
    """

    def __init__(self, config: TrackConfig, *, new_id: Callable[[], str], start_score: float = 0.0) -> None:
        self._confirm_ns = round(config.confirm_ms * 1e6)
        self._keep_ns = round(config.keep_ms * 1e6)
        self._leave_ns = min(round(config.leave_ms * 1e6), self._keep_ns)
        self._start_score = start_score
        self._new_id = new_id
        self._faces: list[_Face] = []
        self._last_ns: int | None = None
        self._step_s = 0.0

    def update(self, faces: Faces | None, timestamp_ns: int, *, frame_wh: tuple[int, int] | None = None) -> Tracks:
        """Moves all tracks to a frame's time; see `FaceTracker.update`."""
        self._predict(timestamp_ns)
        if faces is None:
            return self._rest(timestamp_ns, frame_wh)
        seen = _Observations(faces)
        taken = [False] * len(seen.scores)
        gone = [face for face in self._faces if self._is_outdated(face, timestamp_ns)]
        if gone:
            self._faces = [face for face in self._faces if face not in gone]
        for face in self._faces:
            face.was_missed, face.is_missed = face.is_missed, True
        for row, column in assign(_gains(self._faces, seen)):
            taken[column] = True
            self._observe(self._faces[row], seen, column, timestamp_ns)
        kept: list[_Face] = []
        for face in self._faces:
            if face.is_missed and not face.was_missed:
                face.hide()
            (gone if face.is_missed and self._is_over(face, timestamp_ns, frame_wh) else kept).append(face)
        self._faces = kept
        for column, is_taken in enumerate(taken):
            if not is_taken and seen.scores[column] >= self._start_score:
                self._start(seen, column, timestamp_ns)
        return self._tracks(tuple(face.id for face in gone if face.is_confirmed), timestamp_ns)

    def _rest(self, now_ns: int, frame_wh: tuple[int, int] | None) -> Tracks:
        """Take it that faces that were there are, and let go on time those that were not."""
        gone = [face for face in self._faces if face.is_missed and self._is_over(face, now_ns, frame_wh)]
        self._faces = [face for face in self._faces if face not in gone]
        for face in self._faces:
            if not face.is_missed:
                face.kept_ns = now_ns
        return self._tracks(tuple(face.id for face in gone if face.is_confirmed), now_ns)

    def follow(self, tracks: Tracks) -> None:
        """Takes in where faces were found without the detector; see `FaceTracker.follow`."""
        found = {track.id: track.xywh for track in tracks.active if track.followed}
        for face in self._faces:
            if face.id in found:
                x, y, w, h = found[face.id]
                face.correct_place(x + w / 2 - face.cx, y + h / 2 - face.cy, PLACE_NOISE, self._step_s)

    def reset(self) -> tuple[str, ...]:
        """Forgets all tracks; see `FaceTracker.reset`."""
        ended = tuple(face.id for face in self._faces if face.is_confirmed)
        self._faces = []
        self._last_ns = None
        return ended

    def _predict(self, now_ns: int) -> None:
        """Exact discretization of the integrated Ornstein-Uhlenbeck process over the time since the last update."""
        dt = 0.0 if self._last_ns is None else max(0.0, (now_ns - self._last_ns) * 1e-9)
        self._last_ns = now_ns if self._last_ns is None else max(now_ns, self._last_ns)
        self._step_s = max(dt, 1e-3)
        if dt == 0.0 or not self._faces:
            return
        tau = VELOCITY_DECAY_S
        f = exp(-dt / tau)
        g = -tau * expm1(-dt / tau)
        n11 = -expm1(-2.0 * dt / tau)
        n01 = g * g / tau
        n00 = max(0.0, tau * (2.0 * dt - 2.0 * g - g * g / tau))
        ff, gg, fg = f * f, g * g, f * g
        place, zoom = SPEED_SPREAD**2, ZOOM_SPREAD**2
        for face in self._faces:
            face.cx += face.vx * g
            face.cy += face.vy * g
            face.vx *= f
            face.vy *= f
            face.p00 += 2.0 * g * face.p01 + gg * face.p11 + n00 * place
            face.p01 = f * face.p01 + fg * face.p11 + n01 * place
            face.p11 = ff * face.p11 + n11 * place
            face.log_size += face.zoom * g
            face.zoom *= f
            face.q00 += 2.0 * g * face.q01 + gg * face.q11 + n00 * zoom
            face.q01 = f * face.q01 + fg * face.q11 + n01 * zoom
            face.q11 = ff * face.q11 + n11 * zoom
            face.size = exp(face.log_size)

    def _observe(self, face: _Face, seen: _Observations, column: int, now_ns: int) -> None:
        """Corrects a track by the face that it was given."""
        dt = max((now_ns - face.last_ns) * 1e-9, 1e-3)
        shrunk = face.slow_size - seen.log_size[column] - SHRINK
        noise = PLACE_NOISE if shrunk <= 0.0 else PLACE_NOISE + shrunk * shrunk * SHRUNK_NOISE
        face.correct_place(seen.cx[column] - face.cx, seen.cy[column] - face.cy, noise, dt)
        face.correct_size(seen.log_size[column] - face.log_size)
        slow = max(-expm1(-dt / HIDING_S), dt / max((now_ns - face.first_ns) * 1e-9, dt))
        face.slow_vx += slow * (face.vx - face.slow_vx)
        face.slow_vy += slow * (face.vy - face.slow_vy)
        face.slow_size += slow * (face.log_size - face.slow_size)
        face.take_over(seen, column, now_ns)
        face.is_confirmed = face.is_confirmed or now_ns - face.first_ns >= self._confirm_ns

    def _start(self, seen: _Observations, column: int, now_ns: int) -> None:
        face = _Face(self._new_id(), seen, column, now_ns)
        face.is_confirmed = self._confirm_ns == 0
        self._faces.append(face)

    def _is_outdated(self, face: _Face, now_ns: int) -> bool:
        """Return whether a face is not looked for any more: unseen for too long, not only between two slow frames."""
        unseen_ns = now_ns - face.kept_ns
        return unseen_ns > (self._keep_ns if face.is_missed else max(self._keep_ns, SLOW_CAMERA_NS))

    def _is_over(self, face: _Face, now_ns: int, frame_wh: tuple[int, int] | None) -> bool:
        """Whether a face that was not found in this frame is given up."""
        unseen_ns = now_ns - face.kept_ns
        if not face.is_confirmed:
            return unseen_ns > self._confirm_ns
        if unseen_ns > self._keep_ns:
            return True
        return unseen_ns > self._leave_ns and frame_wh is not None and _is_out(face, frame_wh)

    def _tracks(self, ended: tuple[str, ...], now_ns: int) -> Tracks:
        unsettled = False
        active = []
        for face in self._faces:
            is_awaited = face.is_missed and now_ns - face.kept_ns < AWAITED_NS
            unsettled = unsettled or is_awaited or not face.is_confirmed
            if face.is_confirmed:
                active.append(_track_of(face, observed=face.last_ns == now_ns and not face.is_missed))
        return Tracks(tuple(active), ended, unsettled)


class _Observations:
    """The faces of one frame as Python floats, which are several times faster to read one by one than array items."""

    __slots__ = ("cx", "cy", "landmarks", "log_size", "scores", "shapes", "xywh")

    def __init__(self, faces: Faces) -> None:
        self.xywh: list[tuple[float, float, float, float]] = []
        self.cx: list[float] = []
        self.cy: list[float] = []
        self.log_size: list[float] = []
        self.shapes: list[tuple[float, float, float, float]] = []
        self.scores: list[float] = faces.scores.tolist()
        self.landmarks = faces.landmarks
        points = faces.landmarks.reshape(len(faces.scores), 10).tolist()
        for (x, y, w, h), p in zip(faces.xywh.tolist(), points, strict=True):
            w, h = max(w, 1.0), max(h, 1.0)
            cx, cy, size = x + w / 2, y + h / 2, sqrt(w * h)
            self.xywh.append((x, y, w, h))
            self.cx.append(cx)
            self.cy.append(cy)
            self.log_size.append(log(size))
            self.shapes.append(_shape(cx, cy, size, p))


def _shape(cx: float, cy: float, size: float, p: list[float]) -> tuple[float, float, float, float]:
    """Where the eyes' midpoint and the nose lie in the box, in face sizes from its centre: how the head is turned."""
    return (
        ((p[0] + p[2]) / 2 - cx) / size,
        ((p[1] + p[3]) / 2 - cy) / size,
        (p[4] - cx) / size,
        (p[5] - cy) / size,
    )


def _gains(faces: list[_Face], seen: _Observations) -> list[Edge]:
    """All pairs that are likelier the same face than not, with their gains; see the module's text."""
    if not faces or not seen.scores:
        return []
    if len(faces) * len(seen.scores) > VECTORISE_ABOVE:
        return _gains_of_many(faces, seen)
    edges: list[Edge] = []
    observations = list(zip(seen.cx, seen.cy, seen.log_size, seen.shapes, strict=True))
    for row, face in enumerate(faces):
        place, zoom, offset, limit = _likelihood(face)
        at_x, at_y, log_size = face.cx, face.cy, face.log_size
        a, b, c, d = face.shape
        for column, (cx, cy, size, shape) in enumerate(observations):
            dx, dy, growth = cx - at_x, cy - at_y, size - log_size
            distance = (dx * dx + dy * dy) * place + growth * growth * zoom
            if distance < limit:
                e, f, g, h = shape
                distance += ((e - a) ** 2 + (f - b) ** 2 + (g - c) ** 2 + (h - d) ** 2) / SHAPE_NOISE
                gain = offset - EXPONENT * log1p(distance / FREEDOM)
                if gain > 0.0:
                    edges.append((row, column, gain))
    return edges


def _likelihood(face: _Face) -> tuple[float, float, float, float]:
    """Weights of squared pixels and squared log sizes, the gain of a perfect fit, the distance at which it is 0."""
    place, zoom = face.p00 + PLACE_NOISE, face.q00 + SIZE_NOISE
    offset = BASE_GAIN - 2.0 * log(place) - log(zoom) - (MISSED_LOSS if face.was_missed else 0.0)
    return 1.0 / (place * face.size * face.size), 1.0 / zoom, offset, FREEDOM * (exp(max(offset, 0.0) / EXPONENT) - 1.0)


def _gains_of_many(faces: list[_Face], seen: _Observations) -> list[Edge]:
    """As the plain form in `_gains`, by arrays."""
    state = np.array([(face.cx, face.cy, face.log_size, *_likelihood(face), *face.shape) for face in faces])
    at = np.array((seen.cx, seen.cy, seen.log_size))
    shapes = np.array(seen.shapes)
    dx, dy, growth = (at[i] - state[:, i, None] for i in range(3))
    distance = (dx * dx + dy * dy) * state[:, 3, None] + growth * growth * state[:, 4, None]
    rows, columns = np.nonzero(distance < state[:, 6, None])
    turned: npt.NDArray[np.float64] = shapes[columns] - state[rows, 7:]
    near = distance[rows, columns] + (turned * turned).sum(axis=1) / SHAPE_NOISE
    gains = state[rows, 5] - EXPONENT * np.log1p(near / FREEDOM)
    likely = gains > 0.0
    return list(zip(rows[likely].tolist(), columns[likely].tolist(), gains[likely].tolist(), strict=True))


def _is_out(face: _Face, frame_wh: tuple[int, int]) -> bool:
    """Whether a face left the frame: its predicted centre is outside, or it was last seen at an edge moving out."""
    width, height = frame_wh
    if not (0.0 <= face.cx <= width and 0.0 <= face.cy <= height):
        return True
    x, y, w, h = face.xywh
    margin = EDGE_SHARE * face.size
    slow = EDGE_SPEED * face.size
    return (
        (x < margin and face.vx < -slow)
        or (x + w > width - margin and face.vx > slow)
        or (y < margin and face.vy < -slow)
        or (y + h > height - margin and face.vy > slow)
    )


EDGE_SHARE: Final = 0.1
"""A box nearer to the frame's edge than this share of the face's size touches it."""
EDGE_SPEED: Final = 0.1
"""Face sizes a second towards the edge that count as moving out."""


def _track_of(face: _Face, *, observed: bool) -> Track:
    if observed:
        return Track(face.id, face.xywh, face.landmarks, face.score, True, face.first_ns, face.last_ns)
    x, y, w, h = face.xywh
    zoom = face.size / sqrt(w * h)
    width, height = w * zoom, h * zoom
    left, top = face.cx - width / 2, face.cy - height / 2
    landmarks: Floats = ((face.landmarks - (x, y)) * zoom + (left, top)).astype(np.float32)
    return Track(face.id, (left, top, width, height), landmarks, face.score, False, face.first_ns, face.last_ns)
