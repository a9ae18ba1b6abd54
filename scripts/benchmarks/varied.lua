-- Gives each request its own path, query and cookie, so that no proxy can profit from equal bytes.
local count = 0

function request()
  count = count + 1
  wrk.headers["Cookie"] = "session=" .. count * 7919 .. "; theme=dark"
  return wrk.format("GET", "/items/" .. count .. "?page=" .. count % 97)
end
