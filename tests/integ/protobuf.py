"""Protocol buffers' wire format, as far as the tests need it.

A schema is {name: (number, kind)}; kind is "string", "bytes", "int", "bool",
a schema for a submessage, or a list of one of these for a repeated field.
"""


def put_varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7f:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def get_varint(data, at):
    n = shift = 0
    while True:
        byte = data[at]
        at += 1
        n |= (byte & 0x7f) << shift
        shift += 7
        if not byte & 0x80:
            return n, at


def put_field(number, kind, value):
    if kind in ("int", "bool"):
        return put_varint(number << 3) + put_varint(int(value))
    if kind == "string":
        value = value.encode()
    elif isinstance(kind, dict):
        value = encode(kind, value)
    return put_varint(number << 3 | 2) + put_varint(len(value)) + value


def encode(schema, values):
    out = b""
    for name, value in values.items():
        number, kind = schema[name]
        if isinstance(kind, list):
            for one in value:
                out += put_field(number, kind[0], one)
        elif value not in ("", b"", 0, False, None):
            out += put_field(number, kind, value)
    return out


def empty(kind):
    if isinstance(kind, list):
        return []
    if isinstance(kind, dict):
        return None
    return {"string": "", "bytes": b"", "int": 0, "bool": False}[kind]


def fields(data):
    at = 0
    while at < len(data):
        tag, at = get_varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = get_varint(data, at)
        elif wire == 2:
            n, at = get_varint(data, at)
            value = data[at:at + n]
            if len(value) != n:
                raise ValueError("message ends early")
            at += n
        elif wire in (1, 5):
            n = 8 if wire == 1 else 4
            value = data[at:at + n]
            at += n
        else:
            raise ValueError("wire type %d" % wire)
        yield tag >> 3, value


def decode(schema, data):
    out = {name: empty(kind) for name, (_, kind) in schema.items()}
    names = {number: (name, kind) for name, (number, kind) in schema.items()}
    for number, value in fields(data):
        if number not in names:
            raise ValueError("unknown field %d" % number)
        name, kind = names[number]
        one = kind[0] if isinstance(kind, list) else kind
        if isinstance(one, dict):
            value = decode(one, value)
        elif one == "string":
            value = value.decode()
        elif one == "bytes":
            value = bytes(value)
        elif one == "bool":
            value = bool(value)
        if isinstance(kind, list):
            out[name].append(value)
        else:
            out[name] = value
    return out


ANY = {"type_url": (1, "string"), "value": (2, "bytes")}
TIMESTAMP = {"seconds": (1, "int"), "nanos": (2, "int")}
