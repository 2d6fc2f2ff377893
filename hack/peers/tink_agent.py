#!/usr/bin/python3
"""tink-agent's loop with its quirks (wire reference §5.5), against any server; actions are commands of this host.

    tink_agent.py ERA HOST:PORT AGENT_ID     ERA is 0.17 (sizes as uint64) or 0.25; ends when nothing was served for a while.

Quirks kept: attributes with every question; the year 1 in reports of a start; ids copied from the answer; some codes end it
for good; a timeout of 0 expires at once; anything about the start that fails means: ask again."""

import subprocess
import sys
import time

import grpc

from wire import NEW, newer, say

RUNNING, FAILED, TIMEOUT, SUCCESS = 2, 3, 4, 5
PERMANENT = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
YEAR_1 = -62135596800
RETRY, IDLE = 0.3, 3


def main():
    era, server, me = sys.argv[1:4]
    channel = grpc.insecure_channel(server)
    request = newer.ActionRequest017 if era == "0.17" else newer.ActionRequest
    ask = channel.unary_unary(f"/{NEW}/GetAction", request.SerializeToString, newer.ActionResponse.FromString)
    tell = channel.unary_unary(f"/{NEW}/ReportActionStatus", newer.ActionStatusRequest.SerializeToString,
                               newer.ActionStatusResponse.FromString)
    if era == "0.17":
        memory = newer.Memory017(total=32 << 30, usable=31 << 30)
        disk = newer.Block017(name="sda", size=480 << 30, physical_block_size=4096)
        what = newer.AgentAttributes017(memory=memory, block=[disk], chassis=newer.Chassis(serial="S017"))
        question = newer.ActionRequest017(worker_id=me, worker_attributes=what)
    else:
        what = newer.AgentAttributes(memory=newer.Memory(total="32GB", usable="31GB"), chassis=newer.Chassis(serial="S025"))
        question = newer.ActionRequest(agent_id=me, agent_attributes=what)
    idle = 0
    while idle < IDLE:
        try:
            action = ask(question)
        except grpc.RpcError as error:
            say(nothing=error.code().name, words=error.details())
            idle += 1
            time.sleep(RETRY)
            continue
        idle = 0
        report = {"workflow_id": action.workflow_id, "agent_id": action.agent_id, "task_id": action.task_id,
                  "action_id": action.action_id, "action_name": action.name}
        began = newer.ActionStatusRequest(action_state=RUNNING, message=newer.ActionMessage(message="running action"), **report)
        began.execution_start.seconds = began.execution_stop.seconds = YEAR_1
        try:
            tell(began)
        except grpc.RpcError as error:
            say(refused=error.code().name, words=error.details())
            time.sleep(RETRY)
            continue
        say(runs=action.name, id=action.action_id, image=action.image, timeout=action.timeout,
            environment=list(action.environment), volumes=list(action.volumes), pid=action.pid,
            network=action.namespaces.network)
        start = time.time()
        try:
            code = subprocess.run(list(action.command) or ["true"], timeout=action.timeout, check=False).returncode
            state = SUCCESS if code == 0 else FAILED
        except subprocess.TimeoutExpired:
            state = TIMEOUT
        ended = newer.ActionStatusRequest(action_state=state, execution_duration="1s",
                                          message=newer.ActionMessage(message="action completed"), **report)
        ended.execution_start.seconds, ended.execution_stop.seconds = int(start), int(time.time())
        while True:
            try:
                tell(ended)
                if "--twice" in sys.argv:
                    tell(ended)
                break
            except grpc.RpcError as error:
                say(refused=error.code().name, words=error.details())
                if error.code() in PERMANENT:
                    say(left="for good")
                    sys.exit(1)
                time.sleep(RETRY)


main()
