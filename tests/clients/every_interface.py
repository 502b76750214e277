"""Plays a caller of every interface with dbus-fast, and prints what it got as JSON.

usage: every_interface.py BUS-ADDRESS QUESTION.wav
"""

import array
import asyncio
import fcntl
import json
import os
import struct
import sys

from dbus_fast import DBusError, Message, Variant
from dbus_fast.aio import MessageBus

ASSISTANT, ASSISTANT_ROOT = "org.eddy.Assistant1", "/org/eddy/Assistant1"
ADMIN, ADMIN_ROOT = "org.eddy.Admin1", "/org/eddy/Admin1"


def sealed(path):
    """A sealed memory file with the bytes of `path`."""
    fd = os.memfd_create("wav", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(path, "rb") as file:
        os.write(fd, file.read())
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    return fd


async def read_to_end(fd):
    """What comes out of a pipe, read on a thread."""
    def read():
        with os.fdopen(fd, "rb") as pipe:
            return pipe.read()
    return await asyncio.get_running_loop().run_in_executor(None, read)


class Caller:
    def __init__(self, bus):
        self.bus = bus
        self.signals = []
        self.finished = {}
        bus.add_message_handler(self.receive)

    def receive(self, message):
        if message.interface == "org.eddy.Request1" and message.member in ("Delta", "Finished"):
            self.signals.append((message.path, message.member, message.body))
            if message.member == "Finished":
                self.finished.setdefault(message.path, asyncio.Event()).set()

    async def call(self, name, path, interface, member, signature="", body=(), fds=()):
        reply = await self.bus.call(Message(
            destination=name, path=path, interface=interface, member=member,
            signature=signature, body=list(body), unix_fds=list(fds),
        ))
        if reply.message_type.name == "ERROR":
            raise DBusError(reply.error_name, reply.body[0] if reply.body else "")
        return reply

    async def refused(self, *arguments):
        """The name of the error that a call gets."""
        try:
            await self.call(*arguments)
        except DBusError as error:
            return error.type.rsplit(".", 1)[-1]
        raise AssertionError(f"{arguments} was not refused")

    async def end_of(self, path):
        await asyncio.wait_for(self.finished.setdefault(path, asyncio.Event()).wait(), 30)
        mine = [(member, body) for signal, member, body in self.signals if signal == path]
        text = "".join(body[1].value for member, body in mine
                       if member == "Delta" and body[0] in ("text", "transcript"))
        state, result = mine[-1][1]
        return state, {key: value.value for key, value in result.items()}, text

    async def property(self, name, path, interface, member):
        reply = await self.call(name, path, "org.freedesktop.DBus.Properties", "Get", "ss", [interface, member])
        return reply.body[0].value


async def main(address, question):
    bus = await MessageBus(bus_address=address, negotiate_unix_fd=True).connect()
    caller = Caller(bus)
    seen = set()
    for name, root in ((ASSISTANT, ASSISTANT_ROOT), (ADMIN, ADMIN_ROOT)):
        node = await bus.introspect(name, root)
        seen |= {interface.name for interface in node.interfaces}

    # Speech1 and Request1: a spoken question, streamed.
    options = {"greedy": Variant("b", True), "handle_token": Variant("s", "py")}
    reply = await caller.call(ASSISTANT, ASSISTANT_ROOT, "org.eddy.Speech1", "Converse", "ha{sv}", [0, options],
                              [sealed(question)])
    path = reply.body[0]
    assert path == f"{ASSISTANT_ROOT}/request/{bus.unique_name[1:].replace('.', '_')}/py", path
    sound = array.array("h", await read_to_end(reply.unix_fds[reply.body[1]]))
    state, result, streamed = await caller.end_of(path)
    assert (state, result["samples"]) == ("done", len(sound)), (state, result)
    assert await caller.property(ASSISTANT, path, "org.eddy.Request1", "State") == "done"
    late = await caller.property(ASSISTANT, path, "org.eddy.Request1", "Result")
    assert late["text"].value == result["text"]
    seen.add("org.eddy.Request1")

    reply = await caller.call(ASSISTANT, ASSISTANT_ROOT, "org.eddy.Speech1", "Transcribe", "ha{sv}", [0, {}],
                              [sealed(question)])
    state, transcript, words = await caller.end_of(reply.body[0])
    assert state == "done" and words == transcript["text"], (state, transcript, words)

    # Conversation1.
    reply = await caller.call(ASSISTANT, ASSISTANT_ROOT, ASSISTANT, "OpenConversation", "a{sv}",
                              [{"greedy": Variant("b", True), "max_tokens": Variant("u", 10)}])
    conversation = reply.body[0]
    reply = await caller.call(ASSISTANT, conversation, "org.eddy.Conversation1", "Ask", "sa{sv}", ["hello", {}])
    state, answer, _ = await caller.end_of(reply.body[0])
    history = await caller.property(ASSISTANT, conversation, "org.eddy.Conversation1", "History")
    assert [turn["text"].value for turn in history] == ["hello", answer["text"]], history
    await caller.call(ASSISTANT, conversation, "org.eddy.Conversation1", "Reset")
    await caller.call(ASSISTANT, conversation, "org.eddy.Conversation1", "Close")
    seen.add("org.eddy.Conversation1")

    # Text1, streamed through a pipe as well.
    call = (ASSISTANT, ASSISTANT_ROOT)
    reader, writer = os.pipe()
    options = {"greedy": Variant("b", True), "max_tokens": Variant("u", 12), "stream": Variant("h", 0)}
    reply = await caller.call(*call, "org.eddy.Text1", "Generate", "a(ss)a{sv}", [[["user", "hello"]], options], [writer])
    os.close(writer)
    piped = await read_to_end(reader)
    state, written, words = await caller.end_of(reply.body[0])
    assert (state, written["tokens"]) == ("done", 12) and words == written["text"], (state, written)
    assert piped.decode().replace("\0", "\ufffd") == words

    # Retrieval1 and Index1.
    reply = await caller.call(*call, "org.eddy.Retrieval1", "Encode", "asba{sv}", [["a kettle", "b"], True, {}])
    raw = await read_to_end(reply.unix_fds[reply.body[0]])
    magic, texts, width = struct.unpack_from("<8sII", raw)
    rows = struct.unpack_from("<I", raw, 16)[0]
    first = array.array("f", raw[20:20 + 4 * width])
    assert (magic, texts) == (b"EDDYVEC1", 2) and rows > 0 and abs(sum(x * x for x in first) - 1) < 1e-3
    index = (await caller.call(*call, "org.eddy.Retrieval1", "CreateIndex", "sa{sv}", ["py", {}])).body[0]
    documents = [["tea", "the kettle is on"], ["sea", "the harbour is calm"], ["sky", "a comet at night"]]
    reply = await caller.call(ASSISTANT, index, "org.eddy.Index1", "Add", "a(ss)a{sv}", [documents, {}])
    state, added, _ = await caller.end_of(reply.body[0])
    assert (state, added["added"]) == ("done", 3), (state, added)
    assert any(path == reply.body[0] and body[0] == "progress" for path, member, body in caller.signals
               if member == "Delta")
    hits = (await caller.call(ASSISTANT, index, "org.eddy.Index1", "Search", "sua{sv}", ["the kettle is on", 3, {}])).body[0]
    assert len(hits) == 3 and hits[0][1] >= hits[1][1] >= hits[2][1], hits
    assert dict(documents)[hits[0][0]] == hits[0][2]["text"].value
    assert (await caller.call(*call, "org.eddy.Retrieval1", "Indexes")).body == [[index]]
    assert (await caller.call(ASSISTANT, index, "org.eddy.Index1", "Remove", "asa{sv}", [["sea", "none"], {}])).body == [1]
    assert await caller.property(ASSISTANT, index, "org.eddy.Index1", "Count") == 2
    seen |= {interface.name for interface in (await bus.introspect(ASSISTANT, index)).interfaces}
    await caller.call(ASSISTANT, index, "org.eddy.Index1", "Drop")

    # A kind of model that is not there answers with its name.
    pipe = os.pipe()
    refused = await caller.refused(*call, "org.eddy.Vision1", "Ask", "ahsa{sv}", [[0], "what", {}], [pipe[0]])
    assert refused == "ModelMissing", refused

    # Models1, Model1, Access1, Daemon1 on the connection of their own.
    objects = (await caller.call(ADMIN, ADMIN_ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")).body[0]
    model = next(path for path, interfaces in objects.items()
                 if interfaces.get("org.eddy.Model1", {}).get("Name", Variant("s", "")).value == "speech-a")
    assert objects[model]["org.eddy.Model1"]["State"].value == "loaded"
    await caller.call(ADMIN, model, "org.eddy.Model1", "Unload")
    assert await caller.property(ADMIN, model, "org.eddy.Model1", "State") in ("loaded", "unloaded")
    seen.add("org.eddy.Model1")
    await caller.call(ADMIN, ADMIN_ROOT, "org.eddy.Access1", "SetRule", "sssa{sv}", ["*", "listen", "deny", {}])
    rules = await caller.property(ADMIN, ADMIN_ROOT, "org.eddy.Access1", "Rules")
    assert [list(rule) for rule in rules] == [["*", "listen", "deny", "record"]], rules
    assert await caller.refused(*call, ASSISTANT, "Listen", "a{sv}", [{}]) == "NotPermitted"
    await caller.call(ADMIN, ADMIN_ROOT, "org.eddy.Access1", "RemoveRule", "ss", ["*", "listen"])
    assert await caller.refused(*call, ASSISTANT, "Listen", "a{sv}", [{}]) == "Unavailable"
    assert (await caller.call(ADMIN, ADMIN_ROOT, "org.eddy.Daemon1", "Reload", "a{sv}", [{}])).body == [[]]

    # A lock holds the microphone muted for as long as it is open.
    lock = await caller.call(*call, ASSISTANT, "AcquireMute")
    assert await caller.property(*call, ASSISTANT, "Muted") is True
    os.close(lock.unix_fds[lock.body[0]])
    for _ in range(200):
        if not await caller.property(*call, ASSISTANT, "Muted"):
            break
        await asyncio.sleep(0.01)
    else:
        raise AssertionError("it stays muted")

    print(json.dumps({
        "text": result["text"], "streamed": streamed, "samples": len(sound), "sum": sum(sound),
        "interfaces": sum(1 for name in seen if name.startswith("org.eddy.")),
    }))


asyncio.run(main(*sys.argv[1:]))
