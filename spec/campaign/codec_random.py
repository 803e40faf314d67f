"""Random documents, encoded and decoded by lumo.bson and by python3-bson: no difference.

    python3 spec/campaign/codec_random.py COUNT SEED LUA…

For each document and each Lua (a command that runs spec/campaign/codec_random.lua with lumo):
  1. the document as Lua source (lumo.ordered), encoded by lumo: byte for byte what python encodes;
  2. python's bytes, decoded by lumo to tables and encoded again: the same value for python, and byte for byte where
     the document's keys are in the order in which lumo writes them;
  3. python's bytes to canonical Extended JSON and back by lumo: byte for byte.
"""
import datetime
import random
import struct
import subprocess
import sys

import bson
from bson.codec_options import CodecOptions
from bson.son import SON

OPTIONS = CodecOptions(document_class=SON, tz_aware=True)
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
FIRST_MS, LAST_MS = -62135596800000, 253402300799999  # what python's datetime can hold


class Value:
    """A value for Lua 5.4, the one that LuaJIT makes of it (its numbers are integers where they are integral), and
    its Lua source."""

    __slots__ = ("python", "jit", "lua")

    def __init__(self, python, lua, jit=None):
        self.python = python
        self.jit = python if jit is None else jit
        self.lua = lua


def quoted(data):
    return '"' + "".join("\\%03d" % byte for byte in data) + '"'


def random_text(r):
    alphabet = r.choice(["abcxyz_ 019", "äöü€漢字🙂\u0000\u007f\"\\/\n", "$.a"])
    return "".join(r.choice(alphabet) for _ in range(r.choice([0, 1, 3, 8, 40])))


def make_double(r):
    number = r.choice([
        r.uniform(-1e6, 1e6), r.uniform(-1, 1) * 10 ** r.randint(-300, 300), float(r.randint(-(2**60), 2**60)), 0.0, -0.0,
        float("inf"), float("-inf"), float("nan"), 5e-324, 2.0**53, float(r.randint(-100, 100)),
    ])
    if number != number:
        return Value(number, "lumo_nan")
    if number in (float("inf"), float("-inf")):
        return Value(number, "1/0" if number > 0 else "-1/0")
    jit = None
    if number == int(number) and abs(number) <= 2**53 and struct.pack("<d", number) != struct.pack("<d", -0.0):
        jit = int(number)
    return Value(number, "lumo_double(%s)" % quoted(struct.pack("<d", number)), jit)


def make_integer(r):
    number = r.choice([
        r.randint(-100, 100), r.randint(-(2**31), 2**31 - 1), r.randint(-(2**63), 2**63 - 1),
        2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 0,
    ])
    return Value(number, 'lumo.int64("%d")' % number)


def make_text(r):
    text = random_text(r)
    return Value(text, quoted(text.encode()))


def make_objectid(r):
    data = bytes(r.randrange(256) for _ in range(12))
    return Value(bson.ObjectId(data), 'lumo.objectid("%s")' % data.hex())


def make_date(r):
    ms = r.choice([r.randint(FIRST_MS, LAST_MS), r.randint(0, 2**41), -1, 0, FIRST_MS, LAST_MS])
    return Value(EPOCH + datetime.timedelta(milliseconds=ms), "lumo.datetime.from_ms(%d)" % ms)


def make_binary(r):
    # python3-bson itself fails on subtype 255.
    subtype = r.choice([0, 0, 1, 2, 3, 4, 5, 6, 128, 254])
    data = bytes(r.randrange(256) for _ in range(16 if subtype in (3, 4) else r.choice([0, 1, 5, 16, 300])))
    return Value(bson.Binary(data, subtype) if subtype else data, "lumo.binary(%s, %d)" % (quoted(data), subtype))


def make_decimal(r):
    text = r.choice([
        "%d.%05d" % (r.randint(-(10**9), 10**9), r.randint(0, 99999)), "%dE%d" % (r.randint(-999, 999), r.randint(-6000, 6000)),
        "NaN", "Infinity", "-Infinity", "0", "-0", "0E+3", "".join(r.choice("0123456789") for _ in range(34)),
    ])
    return Value(bson.Decimal128(text), 'lumo.decimal("%s")' % text)


def make_regex(r):
    pattern = random_text(r).replace("\0", "")
    flags = "".join(flag for flag in "imsux" if r.random() < 0.3)
    return Value(bson.regex.Regex(pattern, flags), 'lumo.regex(%s, "%s")' % (quoted(pattern.encode()), flags))


def make_timestamp(r):
    seconds, number = r.choice([0, 1, 2**32 - 1, r.getrandbits(32)]), r.choice([0, 1, 2**32 - 1, r.getrandbits(32)])
    return Value(bson.Timestamp(seconds, number), "lumo.timestamp(%d, %d)" % (seconds, number))


def make_constant(r):
    return r.choice([Value(True, "true"), Value(False, "false"), Value(None, "lumo.null")])


def make_rare(r):
    kind = r.choice([bson.MinKey(), bson.MaxKey(), bson.Code(random_text(r)), bson.Code("f", {"a": 1})])
    return Value(kind, "lumo.bson.decode(%s).v" % quoted(bson.encode({"v": kind})))


SCALARS = [make_double, make_integer, make_text, make_objectid, make_date, make_binary, make_decimal, make_regex,
           make_timestamp, make_constant, make_rare]


class Source:
    """Statements that make v[1], v[2], …: nested constructors would soon need more registers than Lua has."""

    def __init__(self):
        self.statements = []

    def add(self, expression):
        self.statements.append(expression)
        return "v[%d]" % len(self.statements)

    def text(self):
        lines = ["v[%d]=%s" % (i + 1, one) for i, one in enumerate(self.statements)]
        return "local v={} %s return v[%d]" % (" ".join(lines), len(lines))


def make_array(r, source, depth, in_order):
    items = [make_value(r, source, depth, in_order) for _ in range(r.choice([0, 1, 2, 5, 12]))]
    place = source.add("lumo.array{%s}" % ",".join(i.lua for i in items))
    return Value([i.python for i in items], place, [i.jit for i in items])


def make_document(r, source, depth, in_order):
    keys = []
    for _ in range(r.choice([0, 1, 2, 4, 9, 40]) if depth > 0 else 2):
        key = random_text(r).replace("\0", "")
        if key not in keys and not key.startswith("$"):  # python reads $ref and its like as more than a document
            keys.append(key)
    if in_order:
        keys.sort(key=lambda key: key.encode())
    fields = [(key, make_value(r, source, depth, in_order)) for key in keys]
    pairs = ",".join("{%s,%s}" % (quoted(key.encode()), value.lua) for key, value in fields)
    place = source.add("lumo.ordered{%s}" % pairs)
    return Value(SON((k, v.python) for k, v in fields), place, SON((k, v.jit) for k, v in fields))


def make_value(r, source, depth, in_order):
    if depth > 0 and r.random() < 0.11:
        return r.choice([make_array, make_document])(r, source, depth - 1, in_order)
    return r.choice(SCALARS)(r)


def normal(value):
    """By value: key order and the BSON type of a number do not count, all else does."""
    if isinstance(value, dict):
        return ("document", tuple(sorted((key, normal(one)) for key, one in value.items())))
    if isinstance(value, list):
        return ("array", tuple(normal(one) for one in value))
    if isinstance(value, bool) or value is None:
        return ("constant", str(value))
    if isinstance(value, (int, float)):
        return ("number", "NaN" if value != value else repr(int(value)) if value == value // 1 else repr(value)) \
            if value not in (float("inf"), float("-inf")) else ("number", repr(value))
    if isinstance(value, bson.Code):
        return ("code", str(value), value.scope and normal(value.scope))
    if isinstance(value, bson.regex.Regex):
        return ("regex", value.pattern, value.flags)
    if isinstance(value, bson.Decimal128):
        return ("decimal", value.bid)
    if isinstance(value, bson.Binary):
        return ("binary", bytes(value), value.subtype)
    return (type(value).__name__, repr(value))


class Lua:
    """A Lua that answers requests; see codec_random.lua."""

    def __init__(self, command):
        self.name = command
        self.process = subprocess.Popen([command, "spec/campaign/codec_random.lua"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.is_jit = self.read() == b"jit"

    def write(self, *parts):
        for part in parts:
            self.process.stdin.write(struct.pack("<I", len(part)) + part)

    def read(self):
        head = self.process.stdout.read(4)
        if len(head) < 4:
            raise SystemExit("%s ended early" % self.name)
        return self.process.stdout.read(struct.unpack("<I", head)[0])

    def ask(self, requests):
        for request in requests:
            self.write(*request)
        self.process.stdin.flush()


def check(lua, in_order, wanted, source_bytes, again, by_json):
    """The first difference, or None."""
    if source_bytes != wanted:
        return "encoded from Lua as %r" % source_bytes
    if by_json != wanted:
        return "by way of JSON %r" % by_json
    if in_order and not lua.is_jit:
        return None if again == wanted else "decoded and encoded again as %r" % again
    try:
        same = normal(bson.decode(again, OPTIONS)) == normal(bson.decode(wanted, OPTIONS))
    except bson.errors.BSONError as error:
        return "decoded and encoded again as %r: %s" % (again, error)
    return None if same else "decoded and encoded again as %r" % again


BATCH = 200  # requests that are under way at a time; their bytes fit the pipes in both directions, as Lua reads all first


def main():
    count, seed, luas = int(sys.argv[1]), int(sys.argv[2]), [Lua(command) for command in sys.argv[3:]]
    r = random.Random(seed)
    passed = failed = shown = bytes_seen = 0
    print("seed %d" % seed, flush=True)
    for start in range(0, count, BATCH):
        batch = []
        for _ in range(min(BATCH, count - start)):
            in_order = r.random() < 0.5
            source = Source()
            value = make_document(r, source, r.choice([1, 2, 4, 20]), in_order)
            value.lua = source.text()
            batch.append((in_order, value))
        wanted = {}
        for lua in luas:
            lua.write(struct.pack("<I", len(batch)))
            wanted[lua] = [bson.encode(v.jit if lua.is_jit else v.python, codec_options=OPTIONS) for _, v in batch]
            lua.ask((v.lua.encode(), data) for (_, v), data in zip(batch, wanted[lua]))
        for lua in luas:
            for (in_order, value), data in zip(batch, wanted[lua]):
                difference = check(lua, in_order, data, lua.read(), lua.read(), lua.read())
                bytes_seen += len(data)
                if difference is None:
                    passed += 1
                    continue
                failed += 1
                if shown < 10:
                    shown += 1
                    text = "%s: python's %r is %s (source %s)"
                    print(text % (lua.name, data[:400], difference[:600], value.lua[:2000]))
    for lua in luas:
        lua.process.stdin.close()
        if lua.process.wait() != 0:
            failed += 1
            print("%s ended with %d" % (lua.name, lua.process.returncode))
    print("%d documents, %.1f MB of BSON on each Lua" % (count, bytes_seen / len(luas) / 1e6))
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed or not passed else 0)


main()
