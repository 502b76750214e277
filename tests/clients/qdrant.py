"""A Qdrant server's REST interface on a loopback port, for as long as standard input stays open.

Requests are checked by the request models of Qdrant's own Python client, which are generated from the published API
description and refuse unknown fields; that client's local engine keeps the points and scores them. Prints its port. With an
argument, that is the key which every request has to bring.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydantic import TypeAdapter, ValidationError
from qdrant_client import QdrantClient
from qdrant_client.http import models as api

KEY = sys.argv[1] if len(sys.argv) > 1 else None
ENGINE = QdrantClient(":memory:")
CREATED: dict[str, api.CreateCollection] = {}
ONE_AT_A_TIME = threading.Lock()


def parsed(kind, body):
    return TypeAdapter(kind).validate_json(body)


def plain(value):
    return json.loads(TypeAdapter(type(value)).dump_json(value, exclude_none=True))


def collection(method, name, body):
    if method == "PUT":
        request = parsed(api.CreateCollection, body)
        CREATED[name] = request
        return ENGINE.create_collection(name, vectors_config=request.vectors)
    if method == "DELETE":
        CREATED.pop(name)
        return ENGINE.delete_collection(name)
    info = plain(ENGINE.get_collection(name))
    # What the local engine has no use for and a server tells.
    told = json.loads(CREATED[name].model_dump_json(exclude_none=True))
    info["config"]["params"].update({key: told[key] for key in ("vectors", "shard_number", "replication_factor")})
    return info


def points(method, name, action, body):
    if method == "PUT":
        return plain(ENGINE.upsert(name, parsed(api.PointsList, body).points))
    if action == "":
        request = parsed(api.PointRequest, body)
        found = ENGINE.retrieve(name, request.ids, with_payload=request.with_payload, with_vectors=request.with_vector)
        return [plain(point) for point in found]
    if action == "/count":
        return plain(ENGINE.count(name, exact=parsed(api.CountRequest, body).exact))
    if action == "/delete":
        return plain(ENGINE.delete(name, parsed(api.PointsSelector, body)))
    if action == "/payload":
        request = parsed(api.SetPayload, body)
        return plain(ENGINE.set_payload(name, request.payload, request.points))
    if action == "/scroll":
        request = parsed(api.ScrollRequest, body)
        found, following = ENGINE.scroll(
            name,
            scroll_filter=request.filter,
            limit=request.limit,
            offset=request.offset,
            with_payload=request.with_payload,
            with_vectors=request.with_vector,
        )
        return {"points": [plain(point) for point in found], "next_page_offset": following}
    if action == "/query":
        request = parsed(api.QueryRequest, body)
        answer = ENGINE.query_points(
            name,
            query=request.query,
            limit=request.limit,
            with_payload=request.with_payload,
            search_params=request.params,
        )
        return plain(answer)
    raise LookupError(action)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            with ONE_AT_A_TIME:
                status, told = 200, {"result": self.result(body), "status": "ok", "time": 0.0}
        except PermissionError:
            status, told = 401, {"status": {"error": "Must provide an API key"}, "time": 0.0}
        except ValidationError as error:
            status, told = 400, {"status": {"error": f"Format error in JSON body: {error}"}, "time": 0.0}
        except (LookupError, ValueError) as error:
            status, told = 404, {"status": {"error": f"Not found: {error}"}, "time": 0.0}
        content = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def result(self, body):
        if KEY and self.headers.get("api-key") != KEY:
            raise PermissionError
        path = self.path.partition("?")[0]
        root, _, rest = path.removeprefix("/collections/").partition("/")
        name, kind, action = root, *(rest.partition("/")[::2])
        if rest == "":
            return collection(self.command, name, body)
        if rest == "exists":
            return {"exists": ENGINE.collection_exists(name)}
        if rest == "index":
            parsed(api.CreateFieldIndex, body)
            return {"operation_id": 0, "status": "completed"}
        if kind == "points":
            return points(self.command, name, f"/{action}" if action else "", body)
        raise LookupError(path)

    do_GET = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
os._exit(0)
