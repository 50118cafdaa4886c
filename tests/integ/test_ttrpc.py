#!/usr/bin/env python3
"""Bytes that no well-behaved containerd sends; and `start`'s own contract."""
import os
import resource
import socket
import struct
import subprocess
import sys
import time

import ttrpc
from harness import NAMESPACE, SHIM, eventually, failing, main, read, test
from protobuf import ANY, decode, encode, put_varint

V2, V3 = "containerd.task.v2.Task", "containerd.task.v3.Task"
BOOTSTRAP = {
    "instance_id": (1, "string"), "namespace": (2, "string"),
    "log_level": (3, "int"), "containerd_version": (4, "string"),
    "containerd_ttrpc_address": (5, "string"),
    "containerd_grpc_address": (6, "string"),
    "containerd_binary": (7, "string"), "extensions": (8, [
        {"value": (1, ANY)}]), "socket_dir": (9, "string")}
BOOTSTRAP_RESULT = {"version": (1, "int"), "address": (2, "string"),
                    "protocol": (3, "string")}


def request(method, payload=b"", service=V2):
    return encode(ttrpc.REQUEST_SCHEMA, {
        "service": service, "method": method, "payload": payload})


def state(c):
    return request("State", encode(ttrpc.PROCESS, {"id": c.id}))


def answer(sock):
    stream, kind, flags, payload = ttrpc.read_frame(sock)
    assert kind == ttrpc.RESPONSE and flags == 0, (kind, flags)
    response = decode(ttrpc.RESPONSE_SCHEMA, payload)
    return stream, response["status"], response["payload"]


def idle(host):
    c = host.container("sh", "-c", "sleep 1000").up()
    return c, ttrpc.dial(c.address)


def end(c, *socks):
    for sock in socks:
        sock.close()
    assert c.status() == 2
    c.call("Kill", signal=9)
    c.wait()
    c.finish()


@test
def a_frame_in_single_bytes(host):
    c, sock = idle(host)
    for byte in ttrpc.frame(1, 1, state(c), 1):
        sock.sendall(bytes([byte]))
    stream, status, payload = answer(sock)
    assert stream == 1 and not status, (stream, status)
    assert decode(ttrpc.METHODS["State"][1], payload)["id"] == c.id
    end(c, sock)


@test
def many_frames_in_one_write(host):
    c, sock = idle(host)
    sock.sendall(b"".join(ttrpc.frame(2 * i + 1, 1, state(c), 1)
                          for i in range(500)))
    got = [answer(sock)[0] for _ in range(500)]
    assert sorted(got) == [2 * i + 1 for i in range(500)]
    end(c, sock)


@test
def frames_cut_at_every_byte(host):
    c, sock = idle(host)
    whole = ttrpc.frame(1, 1, state(c), 1)
    for n in range(len(whole)):
        cut = ttrpc.dial(c.address)
        cut.sendall(whole[:n])
        cut.close()
    end(c, sock)


@test
def an_oversize_frame_is_refused_and_the_next_served(host):
    c, sock = idle(host)
    size = ttrpc.MAX + 1
    sock.sendall(struct.pack(">IIBB", size, 1, 1, 1))
    sock.sendall(bytes(size))
    stream, status, _ = answer(sock)
    assert stream == 1 and status["code"] == 8, status
    sock.sendall(ttrpc.frame(3, 1, state(c), 1))
    stream, status, _ = answer(sock)
    assert stream == 3 and not status, status
    end(c, sock)


@test
def four_gigabytes_claimed_take_no_memory(host):
    c, sock = idle(host)
    pid = c.pid()

    def rss():
        return int(read("/proc/%d/statm" % pid).split()[1]) * 4096

    before = rss()
    socks = []
    for _ in range(20):
        s = ttrpc.dial(c.address)
        s.sendall(struct.pack(">IIBB", 0xffffffff, 1, 1, 1) + bytes(1000))
        socks.append(s)
        s = ttrpc.dial(c.address)
        s.sendall(struct.pack(">IIBB", ttrpc.MAX, 1, 1, 1) + bytes(1000))
        socks.append(s)
    time.sleep(0.3)
    assert rss() - before < 8 << 20, rss() - before
    end(c, sock, *socks)


@test
def unknown_types_are_ignored(host):
    c, sock = idle(host)
    for kind in (0, 2, 4, 77, 255):
        sock.sendall(ttrpc.frame(1, kind, b"whatever", 0))
    sock.sendall(ttrpc.frame(1, 1, state(c), 1))
    stream, status, _ = answer(sock)
    assert stream == 1 and not status, (stream, status)
    end(c, sock)


@test
def unknown_service_and_method_are_unimplemented(host):
    c, sock = idle(host)
    bad = [request("State", service="containerd.task.v9.Task"),
           request("State", service=""),
           request("Dance"), request(""),
           request("state"),
           request("CreateSandbox",
                   service="containerd.runtime.sandbox.v1.Sandbox")]
    for i, one in enumerate(bad):
        sock.sendall(ttrpc.frame(2 * i + 1, 1, one, 1))
        stream, status, _ = answer(sock)
        assert stream == 2 * i + 1 and status["code"] == 12, status
    end(c, sock)


@test
def even_and_reused_streams_are_invalid(host):
    c, sock = idle(host)
    sock.sendall(ttrpc.frame(2, 1, state(c), 1))
    _, status, _ = answer(sock)
    assert status["code"] == 3, status
    sock.close()
    sock = ttrpc.dial(c.address)
    sock.sendall(ttrpc.frame(5, 1, state(c), 1))
    assert not answer(sock)[1]
    sock.sendall(ttrpc.frame(3, 1, state(c), 1))
    _, status, _ = answer(sock)
    assert status["code"] == 3, status
    end(c, sock)


@test
def payloads_that_are_no_requests(host):
    c, sock = idle(host)
    nested = b""
    for _ in range(3000):
        nested = b"\x2a" + put_varint(len(nested)) + nested
    bad = [b"", b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a", os.urandom(
        5000), nested, request("State", b"\xff\xff\xff"),
        request("State", b"\x0a\x7f"), request("Create", b"\x1a" * 999),
        request("Kill", b"\x0a\x01\xff")]
    for i, one in enumerate(bad):
        sock.sendall(ttrpc.frame(2 * i + 1, 1, one, 1))
        stream, status, _ = answer(sock)
        assert stream == 2 * i + 1 and status and status["code"] in (3, 5, 12),\
            (i, status)
    end(c, sock)


@test
def two_million_empty_mounts_do_not_fill_the_memory(host):
    c = host.container("true").start_shim()
    sock = ttrpc.dial(c.address)
    payload = encode(ttrpc.METHODS["Create"][0], {"id": c.id}) + \
        b"\x1a\x00" * 2000000
    sock.sendall(ttrpc.frame(1, 1, request("Create", payload), 1))
    _, status, _ = answer(sock)
    assert status and status["code"] in (3, 8), status
    sock.close()
    c.shutdown()


@test
def a_peer_that_never_reads(host):
    c, sock = idle(host)
    quiet = ttrpc.dial(c.address, timeout=1)
    try:
        for i in range(200000):
            quiet.sendall(ttrpc.frame(2 * i + 1, 1, state(c), 1))
    except (socket.timeout, OSError):
        pass
    sock.sendall(ttrpc.frame(1, 1, state(c), 1))
    assert not answer(sock)[1]
    end(c, sock, quiet)


@test
def it_has_the_descriptors_that_it_may_have(host):
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
    try:
        c = host.container("sleep", "1000").start_shim()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert resource.prlimit(c.pid(), resource.RLIMIT_NOFILE) == (hard, hard)
    c.shutdown()


@test
def without_a_descriptor_it_waits(host):
    """It does not turn round and round, and goes on when there is one."""
    c, sock = idle(host)
    pid = c.pid()
    assert asked(c, sock, 1)[1] is None  # the connection was taken
    used = len(os.listdir("/proc/%d/fd" % pid))
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, hard))
    late = ttrpc.dial(c.address)
    late.sendall(ttrpc.frame(1, 1, state(c), 1))

    def ticks():
        return sum(map(int, read("/proc/%d/stat" % pid).split()[13:15]))

    before = ticks()
    time.sleep(1)
    assert asked(c, sock, 3)[1] is None
    assert ticks() - before < 20, ticks() - before
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert answer(late)[0] == 1
    end(c, sock, late)


def waits(c, sock, first, n):
    """n Waits from a stream on; the connection's next stream."""
    payload = request("Wait", encode(ttrpc.PROCESS, {"id": c.id}))
    sock.sendall(b"".join(ttrpc.frame(first + 2 * i, 1, payload, 1)
                          for i in range(n)))
    return first + 2 * n


def asked(c, sock, stream):
    sock.sendall(ttrpc.frame(stream, 1, state(c), 1))
    return answer(sock)


@test
def waits_that_nobody_takes_back_bar_nobody(host):
    """A client that goes away leaves its Wait with the shim for good."""
    c, sock = idle(host)
    stream = waits(c, sock, 1, 3000)
    got, status, _ = asked(c, sock, stream)
    assert (got, status) == (stream, None), (got, status)
    stream = waits(c, sock, stream + 2, 16384 - 3000)
    assert asked(c, sock, stream)[1] is None
    with failing(8, "16384 calls wait"):
        c.call("Wait", timeout=5)
    sock.close()
    for _ in range(20):
        waiting = c.begin("Wait")
        assert c.status() == 2
        try:
            c.end(waiting, 1)
        except ttrpc.Error:
            time.sleep(0.1)  # it has not noticed yet
        except TimeoutError:
            break
    c.call("Kill", signal=9)
    assert c.end(waiting)["exit_status"] == 137
    c.finish()


@test
def a_wait_has_its_clients_deadline(host):
    c, sock = idle(host)
    for stream, timeout in ((1, 300000000), (3, -5), (5, 1)):
        sock.sendall(ttrpc.frame(stream, 1, encode(ttrpc.REQUEST_SCHEMA, {
            "service": V2, "method": "Wait", "timeout_nano": timeout,
            "payload": encode(ttrpc.PROCESS, {"id": c.id})}), 1))
    answers = [answer(sock) for _ in range(3)]
    assert answers[-1][0] == 1, answers
    assert [s["code"] for _, s, _ in answers] == [4, 4, 4], answers
    end(c, sock)


@test
def both_versions_of_the_service(host):
    c, sock = idle(host)
    for i, service in enumerate((V2, V3)):
        sock.sendall(ttrpc.frame(2 * i + 1, 1, request("State", encode(
            ttrpc.PROCESS, {"id": c.id}), service), 1))
        assert not answer(sock)[1]
    end(c, sock)


# --- the command line -------------------------------------------------------

@test
def start_answers_a_plain_address_to_old_containerd(host):
    c = host.container("true")
    env = host.environment()
    del env["MAX_SHIM_VERSION"], env["NAMESPACE"], env["GRPC_ADDRESS"]
    r = subprocess.run(
        [SHIM, "-namespace", NAMESPACE, "-address",
         host.dir + "/containerd.sock", "-publish-binary", "x", "-id", c.id,
         "start"], cwd=c.bundle, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, timeout=60)
    assert r.returncode == 0, r
    address = r.stdout.decode().strip()
    assert address.startswith("unix:///run/containerd/s/"), address
    assert read(c.bundle + "/address") == address
    c.client = ttrpc.Client(address)
    c.shutdown()


@test
def start_answers_protobuf_to_bootstrap_parameters(host):
    c = host.container("true")
    params = encode(BOOTSTRAP, {
        "instance_id": c.id, "namespace": NAMESPACE, "log_level": -4,
        "containerd_version": "2.3.0",
        "containerd_ttrpc_address": host.dir + "/events.sock",
        "extensions": [{"value": {"type_url": "runtimeoptions.v1.Options",
                                  "value": b""}}]})
    r = c.shim("start", stdin=params)
    assert r.returncode == 0, r
    result = decode(BOOTSTRAP_RESULT, r.stdout)
    assert result["version"] in (2, 3) and result["protocol"] == "ttrpc"
    c.client = ttrpc.Client(result["address"], V3)
    c.create()
    c.call("Start")
    assert c.wait() == 0
    c.finish()


@test
def start_with_runtime_options_on_stdin(host):
    c = host.container("true")
    r = c.shim("start", stdin=encode(ANY, {
        "type_url": "runtimeoptions.v1.Options", "value": b"\x0a\x01x"}))
    assert r.returncode == 0 and b'"version":2' in r.stdout.replace(b" ", b"")
    c.client = ttrpc.Client(__import__("json").loads(r.stdout)["address"])
    c.shutdown()


@test
def start_twice_gives_the_same_shim_or_an_error(host):
    c = host.container("sh", "-c", "sleep 1000").up()
    r = c.shim("start")
    assert r.returncode != 0 or c.address.encode() in r.stdout, r
    assert c.status() == 2
    end(c)


@test
def bad_ids_and_flags_are_refused(host):
    env = host.environment()
    for name in ("../../etc", "a/b", "", "a b", "x" * 77, ".."):
        c = host.container("true")
        r = subprocess.run(
            [SHIM, "-namespace", NAMESPACE, "-address", "/a", "-id", name,
             "start"], cwd=c.bundle, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env,
            timeout=60)
        assert r.returncode != 0 and r.stdout.strip(), (name, r)
        c.drop()
    for words in (["-nonsense", "start"], ["dance"], [], ["-id"],
                  ["-namespace", "../x", "-id", "a", "start"]):
        r = subprocess.run([SHIM] + words, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           env=env, timeout=60)
        assert r.returncode != 0 and r.stdout.strip(), (words, r)


@test
def version_and_info(host):
    r = subprocess.run([SHIM, "-v"], stdout=subprocess.PIPE, timeout=60,
                       env=host.environment())
    assert r.returncode == 0 and b"0.1.0" in r.stdout, r
    r = subprocess.run([SHIM, "-info"], input=b"", stdout=subprocess.PIPE,
                       timeout=60, env=host.environment())
    assert r.returncode == 0 and b"domus" in r.stdout, r


@test
def help_and_bad_flags(host):
    for word in ("-h", "--help"):
        r = subprocess.run([SHIM, word], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=60,
                           env=host.environment())
        assert r.returncode == 0 and not r.stderr, r
        assert r.stdout.startswith(b"usage: containerd-shim-domus-v2"), r
    for words, reason in ((["-colour"], b"unknown flag -colour"),
                          (["-id"], b"-id needs a value"),
                          (["-debug=maybe"], b"-debug: neither"),
                          (["-id", "a", "-namespace", "b", "stop"],
                           b"unknown action stop"),
                          ([], b"needs an action")):
        r = subprocess.run([SHIM, *words], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=60,
                           env=host.environment())
        assert r.returncode == 1 and not r.stdout, r
        assert reason in r.stderr and r.stderr.count(b"\n") == 1, r


@test
def delete_of_what_never_was_succeeds(host):
    c = host.container("true")
    status = c.run_delete()
    assert status["exit_status"] == 137, status
    assert c.run_delete()["exit_status"] == 137
    c.drop()


if __name__ == "__main__":
    sys.exit(main())
