"""The ground that tests stand on does hold: no network, fixed seeds, a fixed environment."""

import os
import random
import socket
import threading

import numpy as np
import pytest


def test_a_connection_to_another_machine_is_refused():
    with pytest.raises(OSError, match=r"a test tried to reach 203\.0\.113\.1"):
        socket.create_connection(("203.0.113.1", 80), timeout=1)


def test_a_name_of_another_machine_is_not_looked_up():
    with pytest.raises(OSError, match=r"a test tried to reach example\.org"):
        socket.getaddrinfo("example.org", 443)


def test_a_datagram_to_another_machine_is_refused():
    with socket.socket(type=socket.SOCK_DGRAM) as sender, pytest.raises(OSError, match="tried to"):
        sender.sendto(b"x", ("203.0.113.1", 9))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_on_this_machine_is_reached(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: server.accept()[0].sendall(b"hello"))
        thread.start()
        with socket.create_connection((host, server.getsockname()[1]), timeout=5) as client:
            assert client.recv(5) == b"hello"
        thread.join()


@pytest.mark.parametrize("run", [1, 2])
def test_random_numbers_are_the_same_in_every_test(run):
    import torch

    drawn = (random.random(), np.random.random(), torch.rand(1).item())
    assert drawn == pytest.approx((0.8444218515, 0.5488135039, 0.4962565899), abs=1e-9)


def test_the_tools_around_us_neither_ask_nor_show_anything():
    assert os.environ["MPLBACKEND"] == "Agg"
    assert os.environ["WANDB_MODE"] == "offline"
    assert os.environ["HF_HUB_DISABLE_XET"] == "1"
    assert "HF_TOKEN" not in os.environ


def test_the_shared_folder_holds_audio(shared):
    assert (shared / "audio").is_dir()
