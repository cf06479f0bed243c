"""A Terraform provider that counts its calls, a process of its own like any other.

It answers each call with its pid, the method and the request, and notes it in the file that
`COUNTS` names. `Hang` waits for a file; a request of `broken` fails.
"""

import os
import sys
import time
from concurrent import futures
from pathlib import Path

import grpc


class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio ships no types
    def service(self, details):
        def answer(request, context):
            with Path(os.environ["COUNTS"]).open("a") as file:
                file.write(f"{os.getpid()} {details.method}\n")
            if request == b"broken":
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "it is broken")
            if details.method.endswith("/Hang"):
                while not Path(request.decode()).exists():
                    time.sleep(0.02)
                Path(f"{request.decode()}.done").touch()
            return f"{os.getpid()} {details.method} ".encode() + request

        return grpc.unary_unary_rpc_method_handler(answer)


def main() -> None:
    if "TF_PLUGIN_MAGIC_COOKIE" not in os.environ:
        sys.exit("this is a plugin")
    if os.environ.get("FAULT") == "silent":
        print("hello", flush=True)
        time.sleep(60)
    path = f"{os.environ['PLUGIN_UNIX_SOCKET_DIR']}/plugin-{os.getpid()}"
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    print(f"1|5|unix|{path}|grpc|", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
