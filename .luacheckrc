-- What a script sees inside Redis 7 (https://redis.io/docs/latest/develop/programmability/lua-api/).
std = "lua51"
read_globals = { "KEYS", "ARGV", "redis", "cjson", "struct", "bit" }
max_line_length = 120

-- A script gets the local functions of exactly the files it names in `-- include` lines; one
-- library file may use another's, in the order in which scripts include them.
local dir = "scripts/lua/"
local libraries = { "lib_clock.lua", "lib_order.lua", "lib_forget.lua", "lib_spill.lua", "lib_take.lua", "lib_restore.lua" }
local function read(name)
  local f = assert(io.open(dir .. name))
  local text = f:read("*a")
  f:close()
  return text
end

local exports, known = {}, {}
for _, library in ipairs(libraries) do
  local before = {}
  for i, name in ipairs(known) do before[i] = name end
  files[dir .. library] = { read_globals = before, ignore = { "211" } } -- unused here: it is for those who include it
  exports[library] = {}
  for name in read(library):gmatch("\nlocal function ([%w_]+)") do
    table.insert(exports[library], name)
    table.insert(known, name)
  end
end
for _, script in ipairs({ "allocate", "settle", "release", "extend", "refill", "drain", "reap", "stock", "restore", "remind", "forget" }) do
  local granted = {}
  for library in read(script .. ".lua"):gmatch("\n%-%- include ([%w_.]+)") do
    for _, name in ipairs(exports[library]) do table.insert(granted, name) end
  end
  files[dir .. script .. ".lua"] = { read_globals = granted }
end
