"""Requests as browsers send them, the same from both generators: ten fields, a referer and a cookie of its own in each.

So a node may remember single fields, but neither a head nor its fields as a whole. With bare requests the nodes would
do less, and what stands around them on the same machine more.
"""

from scripts.benchmarks.openloop import NUMBER

FIELDS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.7,de;q=0.3\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    f"Referer: http://shop.test/items?page={NUMBER}\r\n"
    f"Cookie: session={NUMBER}; theme=dark\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Priority: u=0, i\r\n"
)
"""For a plan of the open-loop generator."""


def wrk_script() -> str:
    """The same in wrk's Lua."""
    head = f"GET /?d={NUMBER} HTTP/1.1\r\nHost: shop.test\r\n{FIELDS}\r\n"
    return f"""\
local head = [[{head.replace(chr(13), "")}]]
head = head:gsub("\\n", "\\r\\n")
local count = 0

function request()
  count = count + 1
  return (head:gsub("{NUMBER}", count))
end
"""
