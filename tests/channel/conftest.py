from tests.channel.memory_net import net, passed_on, server, uplink

__all__ = ("net", "passed_on", "server", "uplink")
