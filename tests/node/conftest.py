from tests.node.joined import make_node, parent

__all__ = ("make_node", "parent")
