#!/usr/bin/python3
"""tink-worker's loop with its quirks (wire reference §5.2), against any server; actions are commands of this host.

    tink_worker.py ERA HOST:PORT WORKER_ID DIRECTORY     ERA is 0.6 or 0.9; ends when nothing was served for a while.

Quirks kept: whether a start is reported is decided once a turn; a refused report is repeated (0.9: for ever, 0.6: three
times and out); created_at is never set; the field's message; a failure ends the turn. 0.6 keeps data of workflows."""

import hashlib
import json
import os
import subprocess
import sys
import time

import grpc

from wire import FAILED, NEW, OLD, PENDING, RUNNING, SUCCESS, TIMEOUT, classic, say

RETRY, IDLE = 0.3, 3


class Worker:
    def __init__(self, era, server, worker, directory):
        self.era, self.id, self.directory = era, worker, directory
        channel, name = grpc.insecure_channel(server), OLD if era == "0.6" else NEW

        def method(kind, call, request, response):
            return kind(f"/{name}/{call}", request.SerializeToString, response.FromString)
        self.contexts = method(channel.unary_stream, "GetWorkflowContexts", classic.WorkflowContextRequest, classic.WorkflowContext)
        self.actions = method(channel.unary_unary, "GetWorkflowActions", classic.WorkflowActionsRequest, classic.WorkflowActionList)
        self.status = method(channel.unary_unary, "ReportActionStatus", classic.WorkflowActionStatus, classic.Empty)
        self.get = method(channel.unary_unary, "GetWorkflowData", classic.GetWorkflowDataRequest, classic.GetWorkflowDataResponse)
        self.update = method(channel.unary_unary, "UpdateWorkflowData", classic.UpdateWorkflowDataRequest, classic.Empty)

    def run(self):
        idle = 0
        while idle < IDLE:
            try:
                worked = [self.turn(context) for context in self.contexts(classic.WorkflowContextRequest(worker_id=self.id))]
            except grpc.RpcError as error:
                say(error=error.code().name)
                if self.era == "0.6":
                    sys.exit(1)
                time.sleep(RETRY)
                continue
            idle = 0 if any(worked) else idle + 1
            time.sleep(RETRY)

    def turn(self, context):
        actions = self.actions(classic.WorkflowActionsRequest(workflow_id=context.workflow_id)).action_list
        state, index = context.current_action_state, context.current_action_index
        if context.current_action == "" and actions[0].worker_id == self.id:
            index = 0
        elif state == SUCCESS:
            if index + 1 >= len(actions):
                return False
            index += 1
        elif state in (FAILED, TIMEOUT):
            return False
        begun = state == RUNNING
        worked = False
        while index < len(actions) and actions[index].worker_id == self.id:
            action = actions[index]
            if not begun:
                self.report(context.workflow_id, action, RUNNING, 0, "Started execution")
            worked, start = True, time.monotonic()
            end = self.execute(context.workflow_id, action)
            words = "finished execution successfully" if end == SUCCESS else ""
            self.report(context.workflow_id, action, end, int(time.monotonic() - start), words)
            if end != SUCCESS:
                return worked
            index += 1
        return worked

    def execute(self, workflow_id, action):
        place = os.path.join(self.directory, workflow_id)
        os.makedirs(place, exist_ok=True)
        data = os.path.join(place, "data")
        if self.era == "0.6":
            got = self.get(classic.GetWorkflowDataRequest(workflow_id=workflow_id))
            with open(data, "wb") as out:
                out.write(got.data or b"{}")
        environment = dict(entry.split("=", 1) for entry in action.environment)
        say(runs=action.name, image=action.image, timeout=action.timeout, environment=sorted(action.environment),
            volumes=list(action.volumes), pid=action.pid)
        try:
            ended = subprocess.run(list(action.command) or ["true"], cwd=place, env={"PATH": os.environ["PATH"], **environment},
                                   timeout=action.timeout or 3600, check=False)
        except subprocess.TimeoutExpired:
            return TIMEOUT
        if ended.returncode == 0 and self.era == "0.6":
            after = open(data, "rb").read()
            if after != (got.data or b"{}") and isinstance(json.loads(after), dict):
                metadata = {"workerID": self.id, "actionName": action.name, "taskName": action.task_name,
                            "updatedAt": "now", "SHA": hashlib.sha256(after).hexdigest()}
                self.update(classic.UpdateWorkflowDataRequest(workflow_id=workflow_id, data=after,
                                                              metadata=json.dumps(metadata).encode()))
        return SUCCESS if ended.returncode == 0 else FAILED

    def report(self, workflow_id, action, state, seconds, words):
        tries = 0
        while True:
            try:
                self.status(classic.WorkflowActionStatus(
                    workflow_id=workflow_id, task_name=action.task_name, action_name=action.name, action_status=state,
                    seconds=seconds, message=words, worker_id=action.worker_id))
                return
            except grpc.RpcError as error:
                tries += 1
                say(refused=error.code().name, action=action.name, state=state, words=error.details())
                if self.era == "0.6" and tries == 3:
                    sys.exit(1)
                time.sleep(RETRY)


Worker(*sys.argv[1:5]).run()
