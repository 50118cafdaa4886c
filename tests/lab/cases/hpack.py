"""Header compression of HTTP/2 (RFC 7541), as far as a gRPC client needs it:
headers are written as literals, and read whatever way they come."""

# Lengths of the codes of the bytes 0 to 255 and of the end mark (appendix B);
# the code is canonical, so that the lengths are all of it.
LENGTHS = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c"
    "060a0a0c0d06080b0a0a080b080606060505050606060606060607080f060c0a"
    "0d06070707070707070707070707070707070707070707070807080d130d0e06"
    "0f05060506050606060507070606060506070605050607070707070f0b0e0d1c"
    "1416141416161617161717171717181718181617181717171715161716171718"
    "1615141616171715171616181516171715151615171617171416161617161617"
    "1a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b"
    "14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a"
    "1e")
END = 256

STATIC = (
    (":authority", ""), (":method", "GET"), (":method", "POST"),
    (":path", "/"), (":path", "/index.html"), (":scheme", "http"),
    (":scheme", "https"), (":status", "200"), (":status", "204"),
    (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""),
    ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
    ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""),
    ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""),
    ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""),
    ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""),
    ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""),
    ("proxy-authorization", ""), ("range", ""), ("referer", ""),
    ("refresh", ""), ("retry-after", ""), ("server", ""),
    ("set-cookie", ""), ("strict-transport-security", ""),
    ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""))


def make_codes():
    """(length, code) → symbol."""
    codes, code, last = {}, 0, 0
    for length, symbol in sorted((n, s) for s, n in enumerate(LENGTHS)):
        code <<= length - last
        codes[length, code] = symbol
        code, last = code + 1, length
    return codes


CODES = make_codes()


def unpack_huffman(data):
    out, code, length = bytearray(), 0, 0
    for byte in data:
        for bit in range(7, -1, -1):
            code, length = code << 1 | byte >> bit & 1, length + 1
            symbol = CODES.get((length, code))
            if symbol is not None:
                if symbol == END:
                    raise ValueError("an end mark within a header")
                out.append(symbol)
                code = length = 0
    return bytes(out)


def put_int(first, prefix, n):
    """first: the bits above the prefix of so many bits."""
    top = (1 << prefix) - 1
    if n < top:
        return bytes([first | n])
    out, n = bytearray([first | top]), n - top
    while n > 0x7f:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def encode(headers):
    """Literals that no table keeps, without Huffman."""
    out = b""
    for pair in headers:
        out += b"\0"
        for text in pair:
            data = text.encode()
            out += put_int(0, 7, len(data)) + data
    return out


class Decoder:
    """One for a connection: the table lives as long as that."""

    def __init__(self):
        self.table = []
        self.data = b""
        self.at = 0

    def get_int(self, prefix):
        top = (1 << prefix) - 1
        n = self.data[self.at] & top
        self.at += 1
        shift = 0
        while n >= top:
            byte = self.data[self.at]
            self.at += 1
            n += (byte & 0x7f) << shift
            shift += 7
            if not byte & 0x80:
                break
        return n

    def get_text(self):
        packed = self.data[self.at] & 0x80
        n = self.get_int(7)
        data = self.data[self.at:self.at + n]
        self.at += n
        return (unpack_huffman(data) if packed else data).decode()

    def entry(self, index):
        if index <= len(STATIC):
            return STATIC[index - 1]
        return self.table[index - 1 - len(STATIC)]

    def decode(self, data):
        self.data, self.at = data, 0
        headers = []
        while self.at < len(data):
            byte = data[self.at]
            if byte & 0x80:
                headers.append(self.entry(self.get_int(7)))
                continue
            if byte & 0xe0 == 0x20:  # the table's new size, of no concern
                self.get_int(5)
                continue
            kept = byte & 0x40
            index = self.get_int(6 if kept else 4)
            name = self.entry(index)[0] if index else self.get_text()
            pair = (name, self.get_text())
            if kept:
                self.table.insert(0, pair)
            headers.append(pair)
        return headers
