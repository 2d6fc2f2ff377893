"""What all peers share: messages (compiled at each start), service paths, and lines for the tests."""

import json
import os
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))

with tempfile.TemporaryDirectory() as made:
    subprocess.run(["protoc", "-I", HERE, "--python_out", made, "classic.proto", "newer.proto"], check=True)
    sys.path.insert(0, made)
    import classic_pb2 as classic
    import newer_pb2 as newer

OLD = "github.com.tinkerbell.tink.protos.workflow.WorkflowService"
NEW = "proto.WorkflowService"

PENDING, RUNNING, FAILED, TIMEOUT, SUCCESS = range(5)
STATES = ["PENDING", "RUNNING", "FAILED", "TIMEOUT", "SUCCESS"]

_one = threading.Lock()


def say(**line):
    """One JSON object a line, for the test that drives the peer."""
    with _one:
        print(json.dumps(line), flush=True)
