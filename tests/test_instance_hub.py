"""What an instance makes of a hub that does not answer as a hub does."""

import socket
import threading

import pytest

from nightingale_hub.errors import Unavailable
from nightingale_hub.instance.hub import post


@pytest.mark.parametrize("said", [b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " * 9999])
def test_an_answer_that_is_no_http_is_none(said):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def answer():
            with listening.accept()[0] as caller:
                caller.recv(1 << 16)
                caller.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
            post(f"http://127.0.0.1:{port}/beat", {})
        thread.join(10)
