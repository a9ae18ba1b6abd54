"""Which of the two does the system calls."""

from tierlb.net import io


def test_the_c_module_is_used_where_it_is_built():
    assert io.recv.__module__ == ("tierlb.net._io" if io.IN_C else "tierlb.net.io_twin")
