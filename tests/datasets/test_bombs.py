"""Pictures that are small as files and huge when decoded."""

import struct
import zlib

import pytest

from tfdisent.datasets import chaos, ham10000, lidc_patches


@pytest.mark.parametrize("read", [ham10000._decoded, lidc_patches._read_grey, chaos._read_mask])
def test_a_picture_too_large_is_refused_by_its_header_and_named(read, tmp_path):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data)
    with pytest.raises(ValueError, match=r"bomb.png cannot be decoded .*400000000 pixels\) exceeds limit"):
        read(tmp_path / "bomb.png")
