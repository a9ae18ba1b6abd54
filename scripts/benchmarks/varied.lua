-- A crowd: each request has its own path and query, and the cookie of one of 64 sessions.
local count = 0

function request()
  count = count + 1
  wrk.headers["Cookie"] = "session=" .. (count % 64) * 7919 .. "; theme=dark"
  return wrk.format("GET", "/items/" .. count .. "?page=" .. count % 97)
end
