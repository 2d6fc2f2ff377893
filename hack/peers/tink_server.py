#!/usr/bin/python3
"""A workflow server as the field has had them: of 0.6 (old prefix, index = last reported, data of workflows), of 0.9
(index = next to run, duplicates are refused) or the newer one (v2; v2-0.17 has sizes as uint64). Faults happen as the
scenario says.

    tink_server.py ERA SCENARIO.json [PORT]

SCENARIO: {"workflows": [{"id", "actions": [{"task", "name", "image", "worker", "timeout", "command", ...}]}],
           "faults": [{"call", "action", "state", "do", "times"}], "hold": seconds,
           "tls": {"key", "certificate", "authority", "clients"}}
With tls the authority is handed out over HTTP at /cert, as servers of 0.6 do it; clients: a certificate is asked of them.
do: reset, reset-after (recorded, then reset), stall, stall-after, or the name of a gRPC code."""

import http.server
import json
import pathlib
import socket
import struct
import sys
import threading
import time
from concurrent import futures

import grpc

from wire import FAILED, NEW, OLD, PENDING, RUNNING, STATES, SUCCESS, TIMEOUT, classic, newer, say

STALL = 12


class Refused(Exception):
    def __init__(self, code, words):
        super().__init__(words)
        self.code, self.words = code, words


class Proxy:
    """In front of the server, so that connections can be reset under it."""

    def __init__(self, port, behind):
        self.behind, self.open, self.lock = behind, [], threading.Lock()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            front, _ = self.listener.accept()
            back = socket.create_connection(("127.0.0.1", self.behind))
            with self.lock:
                self.open.append(front)
            for source, sink in ((front, back), (back, front)):
                threading.Thread(target=self.copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def copy(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def reset(self):
        with self.lock:
            ends, self.open = self.open, []
        for end in ends:
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD)
                end.close()
            except OSError:
                pass


class Workflow:
    def __init__(self, told, era):
        self.id, self.actions, self.era = told["id"], told["actions"], era
        self.states = [PENDING] * len(self.actions)
        self.current, self.index = "", 0
        for at, state in enumerate(told.get("states", [])):
            self.states[at] = STATES.index(state)
        self.versions = []

    def next(self):
        return next((i for i, state in enumerate(self.states) if state != SUCCESS), None)

    def dead(self):
        return any(state in (FAILED, TIMEOUT) for state in self.states)


class Server:
    def __init__(self, era, scenario):
        self.era, self.faults, self.hold = era, scenario.get("faults", []), scenario.get("hold", 2)
        self.workflows = [Workflow(told, era) for told in scenario["workflows"]]
        self.lock, self.proxy = threading.Lock(), None

    # faults

    def fault(self, call, action, state):
        for fault in self.faults:
            fits = fault["call"] == call and fault.get("action", action) == action and fault.get("state", state) == state
            if fits and fault.get("times", 1) > 0:
                fault["times"] = fault.get("times", 1) - 1
                return fault["do"]
        return None

    def guarded(self, call, names, handle):
        """Every call: told to the test, broken as the scenario says, answered one at a time."""

        def answer(request, context):
            action, state = names(request)
            do = self.fault(call, action, state)
            say(call=call, action=action, state=state, fault=do)
            if do in ("reset", "stall"):
                self.proxy.reset() if do == "reset" else time.sleep(STALL)
                context.abort(grpc.StatusCode.UNAVAILABLE, "as the scenario says")
            if do and not do.endswith("-after"):
                context.abort(getattr(grpc.StatusCode, do), "as the scenario says")
            try:
                response = handle(request)
            except Refused as refused:
                say(refused=refused.words)
                context.abort(refused.code, refused.words)
            if do == "reset-after":
                self.proxy.reset()
            if do == "stall-after":
                time.sleep(STALL)
            return response

        return answer

    # classic

    def contexts(self, request):
        if not request.worker_id:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "invalid worker id")
        found = []
        for flow in self.workflows:
            if flow.dead() or flow.next() is None:
                continue
            if self.era == "0.6":
                index, state = flow.index, flow.states[flow.index]
                name = flow.current
                owner = flow.actions[index + 1 if state == SUCCESS and index + 1 < len(flow.actions) else index]
            else:
                index = flow.next()
                state, name, owner = flow.states[index], flow.actions[index]["name"], flow.actions[index]
            if owner["worker"] != request.worker_id:
                continue
            found.append(classic.WorkflowContext(
                workflow_id=flow.id, current_worker=request.worker_id, current_task=flow.actions[index]["task"],
                current_action=name, current_action_index=index, current_action_state=state,
                total_number_of_actions=len(flow.actions)))
        return found

    def flow(self, workflow_id):
        found = next((flow for flow in self.workflows if flow.id == workflow_id), None)
        if not found:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "invalid workflow id")
        return found

    def action_list(self, request):
        keys = ("timeout", "command", "on_timeout", "on_failure", "volumes", "environment", "pid", "image")
        return classic.WorkflowActionList(action_list=[
            classic.WorkflowAction(task_name=a["task"], name=a["name"], worker_id=a["worker"],
                                   **{key: a[key] for key in keys if key in a})
            for a in self.flow(request.workflow_id).actions])

    def report(self, told):
        with self.lock:
            flow = self.flow(told.workflow_id)
            if self.era == "0.6":
                index = flow.index
                if told.action_status == RUNNING and flow.current and flow.states[index] == SUCCESS:
                    index += 1
            else:
                index = flow.next()
            expected = flow.actions[index] if index is not None and index < len(flow.actions) else None
            if not expected or flow.dead() or expected["name"] != told.action_name:
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT,
                              "reported action name does not match the current action details")
            if expected["task"] != told.task_name:
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT,
                              "reported task name does not match the current action details")
            flow.index, flow.current = index, told.action_name
            self.record(flow, index, told.action_status, told.message, told.seconds)
        return classic.Empty()

    def record(self, flow, index, state, message, seconds):
        flow.states[index] = state
        say(recorded=flow.actions[index]["name"], workflow=flow.id, state=STATES[state], message=message, seconds=seconds)
        if flow.next() is None or flow.dead():
            say(ended=flow.id, states=[STATES[state] for state in flow.states])

    def get_data(self, request):
        versions = self.flow(request.workflow_id).versions
        number = request.version or len(versions)
        data = versions[number - 1] if versions else b""
        return classic.GetWorkflowDataResponse(data=data, version=number)

    def update_data(self, request):
        self.flow(request.workflow_id).versions.append(request.data)
        say(data=request.data.decode(), metadata=json.loads(request.metadata))
        return classic.Empty()

    # newer

    def get_action(self, request):
        until = time.monotonic() + self.hold
        old = self.era == "v2-0.17"
        what = request.worker_attributes if old else request.agent_attributes
        agent_id = request.worker_id if old else request.agent_id
        say(attributes=request.HasField("worker_attributes" if old else "agent_attributes"), serial=what.chassis.serial,
            threads=what.cpu.total_threads, memory=what.memory.total)
        while True:
            with self.lock:
                for flow in self.workflows:
                    at = flow.next()
                    if at is None or flow.dead() or flow.actions[at]["worker"] != agent_id:
                        continue
                    a = flow.actions[at]
                    keys = ("timeout", "command", "volumes", "environment", "pid", "image", "name")
                    return newer.ActionResponse(workflow_id=flow.id, task_id="task-" + a["task"], action_id=f"id-{flow.id}-{at}",
                                                agent_id=agent_id, **{key: a[key] for key in keys if key in a})
            if time.monotonic() > until:
                raise Refused(grpc.StatusCode.NOT_FOUND, "no Workflows found")
            time.sleep(0.05)

    def report_newer(self, told):
        if not (told.workflow_id and told.task_id and told.action_id):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "missing id")
        with self.lock:
            for flow in self.workflows:
                for at in range(len(flow.actions)):
                    if told.action_id == f"id-{flow.id}-{at}":
                        state = told.action_state - 1
                        start, stop = told.execution_start.seconds, told.execution_stop.seconds
                        say(times=[start, stop], duration=told.execution_duration)
                        self.record(flow, at, state, told.message.message, 0)
                        return newer.ActionStatusResponse()
        raise Refused(grpc.StatusCode.NOT_FOUND, "action not found")

    # service

    def methods(self):
        def unary(call, names, handle, request, response):
            guarded = self.guarded(call, names, handle)
            return grpc.unary_unary_rpc_method_handler(guarded, request.FromString, response.SerializeToString)

        def nobody(_):
            return "", ""

        if self.era.startswith("v2"):
            asked = newer.ActionRequest017 if self.era == "v2-0.17" else newer.ActionRequest

            def named(told):
                return told.action_name, STATES[told.action_state - 1]
            return {
                "GetAction": unary("GetAction", nobody, self.get_action, asked, newer.ActionResponse),
                "ReportActionStatus": unary("ReportActionStatus", named, self.report_newer,
                                            newer.ActionStatusRequest, newer.ActionStatusResponse),
            }

        def named(told):
            return told.action_name, STATES[told.action_status]
        contexts = self.guarded("GetWorkflowContexts", nobody, self.contexts)
        methods = {
            "GetWorkflowContexts": grpc.unary_stream_rpc_method_handler(
                lambda request, context: iter(contexts(request, context)),
                classic.WorkflowContextRequest.FromString, classic.WorkflowContext.SerializeToString),
            "GetWorkflowActions": unary("GetWorkflowActions", nobody, self.action_list,
                                        classic.WorkflowActionsRequest, classic.WorkflowActionList),
            "ReportActionStatus": unary("ReportActionStatus", named, self.report, classic.WorkflowActionStatus, classic.Empty),
        }
        if self.era == "0.6":
            methods["GetWorkflowData"] = unary("GetWorkflowData", nobody, self.get_data, classic.GetWorkflowDataRequest,
                                               classic.GetWorkflowDataResponse)
            methods["UpdateWorkflowData"] = unary("UpdateWorkflowData", nobody, self.update_data,
                                                  classic.UpdateWorkflowDataRequest, classic.Empty)
        return methods


def hand_out(authority):
    """The port of an HTTP server that has the certificate authority."""

    class Certificate(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/cert" else 404)
            self.end_headers()
            self.wfile.write(authority if self.path == "/cert" else b"not here")

        def log_message(self, *_):
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Certificate)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    return listening.server_port


def main():
    era, scenario = sys.argv[1], json.load(open(sys.argv[2], encoding="utf-8"))
    server = Server(era, scenario)
    name = OLD if era == "0.6" else NEW
    serving = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
    serving.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, server.methods()),))
    tls = {key: pathlib.Path(path).read_bytes() for key, path in scenario.get("tls", {}).items()}
    if tls:
        clients = tls.get("clients")
        own = grpc.ssl_server_credentials([(tls["key"], tls["certificate"])], clients, clients is not None)
        behind = serving.add_secure_port("127.0.0.1:0", own)
        say(certificates=hand_out(tls["authority"]))
    else:
        behind = serving.add_insecure_port("127.0.0.1:0")
    serving.start()
    server.proxy = Proxy(int(sys.argv[3]) if len(sys.argv) > 3 else 0, behind)
    say(listening=server.proxy.port)
    serving.wait_for_termination()


main()
