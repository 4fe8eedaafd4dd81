"""Records that leave nothing out: empty and missing keys and values, every byte, headers of all kinds, 0 to 100,000 bytes."""

import dataclasses
import itertools
import random
import time


@dataclasses.dataclass(frozen=True)
class Record:
    """What a producer says about a record, and what a consumer must hear."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp: int

    def __repr__(self):
        value = "None" if self.value is None else f"{len(self.value)} bytes {self.value[:12]!r}"
        return f"Record(key={self.key!r}, value={value}, headers={self.headers!r}, timestamp={self.timestamp})"


KEYS = (None, b"", b"key", b"k\x00\xff\xfe", "ключ".encode(), b"a longer key " * 20)
HEADERS = (
    (),
    (("plain", b"value"),),
    (("twice", b"1"), ("twice", b"2"), ("empty", b"")),
    (("binary", bytes(range(256))), ("имя", b"utf-8 name")),
    (("none", None), ("after", b"x")),
)
SIZES = (0, 1, 7, 64, 255, 256, 1000, 4096, 20_000, 100_000)
HOUR_MS = 3_600_000


def records(count, can_send):
    """`count` records that the client can send, one second apart, the first an hour ago: too young for retention."""
    chosen = random.Random(0)
    first = int(time.time() * 1000) - HOUR_MS
    endless = (_record(index, first + index * 1000, chosen) for index in itertools.count())
    return list(itertools.islice(filter(can_send, endless), count))


def _record(index, timestamp, chosen):
    size = SIZES[index % len(SIZES)]
    value = bytes(range(256)) * (size // 256 + 1) if index % 2 else chosen.randbytes(size)
    return Record(
        key=KEYS[index % len(KEYS)],
        value=None if index % 17 == 16 else value[:size],
        headers=HEADERS[index % len(HEADERS)],
        timestamp=timestamp,
    )
